"""Kill -9 of a service in the middle of its work, and how long the next one takes to be where it was."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec
import orjson

from benchmarks.running import TIMEOUT_S, Carrier, Spent, Stopwatch, running, watched
from service.config import Config, LogSettings, SqliteSettings
from service.core.intake import Positions
from service.eventlog.kafka_settings import KafkaSettings
from service.http.settings import HttpSettings
from service.runtime.changelog import Cut, Head, read_cuts
from service.runtime.settings import RuntimeSettings

POLL_S = 0.1
STEPS = 60
"""At least so many steps a stream, until the snapshot."""


class Killed(NamedTuple):
    """What a kill cost."""

    recovery: Spent
    """To the moment when the next service was ready."""
    worked_s: float
    """From the first commit behind the snapshot to the last before the kill."""
    repeated_records: int


async def killed(opened: Carrier, directory: Path, config: Config, snapshot_at_ms: int, records: int) -> Killed:
    """Take a snapshot at an event time; let a process of its own work from there for `max_repeat_ms`; kill it; recover.

    `config` takes no snapshots by itself, so everything that the process did is to be repeated. `records`: all that
    there are. Raises RuntimeError where none are left behind the snapshot.
    """
    # In one long step a short stream would be over before anybody could stop it in the middle.
    step = min(config.runtime.max_step_records, max(records // STEPS, 1))
    patient = msgspec.structs.replace(config, runtime=msgspec.structs.replace(config.runtime, max_step_records=step))
    async with running(opened.log, patient) as worker:
        await watched(worker, snapshot_at_ms)
    snapshot = (await _cuts(opened, config))[-1]
    if sum(snapshot.end) >= records:
        raise RuntimeError("the whole stream was taken before the snapshot: nothing is left to be repeated")
    process = _start(opened, directory, config)
    try:
        worked_s = await _worked(opened, config, snapshot, process)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    last = (await _cuts(opened, config))[-1]
    watch = Stopwatch()
    async with running(opened.log, config):
        return Killed(watch.read(), worked_s, sum(last.end) - sum(snapshot.end))


def _start(opened: Carrier, directory: Path, config: Config) -> subprocess.Popen[bytes]:
    if opened.bootstrap is None:
        log = LogSettings(sqlite=SqliteSettings(path=str(directory / "log.sqlite")))
    else:
        log = LogSettings(carrier="kafka", kafka=KafkaSettings(bootstrap_servers=(opened.bootstrap,)))
    path = directory / "killed.yaml"  # YAML holds JSON
    whole = msgspec.structs.replace(config, log=log, http=HttpSettings(enabled=False))
    path.write_bytes(orjson.dumps(msgspec.to_builtins(whole)))
    command = [sys.executable, "-m", "service", "run", "--config", str(path)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)  # noqa: S603  # our own program


async def _worked(opened: Carrier, config: Config, snapshot: Cut, process: subprocess.Popen[bytes]) -> float:
    """Wait until the process has committed for as long as a service may before its next snapshot, or is at the end."""
    clock, first, newest, began = asyncio.get_running_loop().time, snapshot.number, snapshot, None
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            await asyncio.sleep(POLL_S)
            if process.poll() is not None:
                raise RuntimeError(f"the service ended with {process.returncode}")
            before, newest = newest, (await _cuts(opened, config))[-1]
            if began is None and newest.number > first:
                began = changed = clock()
            if began is None:
                continue
            if newest.number != before.number:
                changed = clock()
            worked_ms = (clock() - began) * 1000
            if worked_ms >= RuntimeSettings().max_repeat_ms or clock() - changed > 2.0:  # nothing left to do
                return changed - began


async def _cuts(opened: Carrier, config: Config) -> tuple[Cut, ...]:
    everything = Head(0, Positions(0, 0, 0), 0, config.topics.inputs, 1)
    return await read_cuts(opened.log, config.topics, 0, everything)
