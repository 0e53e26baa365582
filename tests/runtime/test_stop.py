"""SIGTERM: the batch is finished, committed and snapshotted, in a bounded time, and readiness tells the truth."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from service.app import open_log
from service.config import Config, parse_config
from service.eventlog.memory import MemoryLog, NoFaults
from service.eventlog.protocol import Log, TopicPartition
from service.http.server import serve
from service.http.settings import HttpSettings
from service.runtime.changelog import head_of, read_cuts, read_records
from service.runtime.topics import prepare_topics
from tests.core.stream import drifting
from tests.eventlog.conftest import Carrier, carrier
from tests.eventlog.test_broker_failures import OwnBroker, own_broker
from tests.runtime.service import consumed, fast, outputs_of, publish, running
from tests.runtime.test_service import TOPIC_FIELDS, config, expected_bytes, output_topics
from tests.runtime.waiting import until

__all__ = ["carrier", "config", "own_broker"]

T = TypeVar("T")
ROOT = Path(__file__).parent.parent.parent
SOURCE = drifting(3000, 1500)


class Program:
    """`tidegauge run` in a process of its own."""

    def __init__(self, directory: Path, config: Config, raw: dict[str, object]) -> None:
        self.config = config
        self._file = directory / "config.json"  # which is YAML too
        self._file.write_text(json.dumps(raw))
        self._said = directory / "said"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._said.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service", "run", "--config", self._file], stderr=sink, cwd=ROOT
            )

    def said(self) -> str:
        return self._said.read_text()

    def wait_for(self, words: str, limit_s: float = 60) -> re.Match[str]:
        began = time.monotonic()
        while (found := re.search(words, self.said())) is None:
            assert self.process is not None
            assert self.process.poll() is None, self.said()
            assert time.monotonic() - began < limit_s, self.said()
            time.sleep(0.01)
        return found

    def stop(self) -> float:
        """Send SIGTERM; give how long the end took. It must be a good end."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=60) == 0, self.said()
        return time.monotonic() - began

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    name = f"stop-{os.getpid()}-{tmp_path.name}"[:90]
    log: dict[str, object] = {"carrier": "sqlite", "sqlite": {"path": str(tmp_path / "log")}}
    if request.param == "kafka":
        bootstrap = request.getfixturevalue("kafka_bootstrap")
        log = {"carrier": "kafka", "kafka": {"bootstrap_servers": [bootstrap], "heartbeat_interval_ms": 200}}
    raw: dict[str, object] = {
        "log": log,
        "topics": {field: f"{name}.{field}" for field in TOPIC_FIELDS},
        # No snapshot comes by itself, and small steps make the stop fall into the middle of the work.
        "runtime": {"name": name, "group": name, "snapshot_interval_ms": 3_600_000, "max_step_records": 64},
        "http": {"port": 0},
        "logging": {"format": "json"},
    }
    made = Program(tmp_path, parse_config(raw), raw)
    yield made
    made.end()


def with_log(config: Config, work: Callable[[Log], Awaitable[T]]) -> T:
    async def opened() -> T:
        async with open_log(config.log) as log:
            return await work(log)

    return asyncio.run(opened())


async def published(log: Log, config: Config) -> None:
    await prepare_topics(log, config.topics, config.core)
    await publish(log, config, SOURCE)


async def standing(log: Log, config: Config) -> tuple[int, int]:
    """Say how many predictions the newest snapshot covers, and how many cuts follow it."""
    where = TopicPartition(config.topics.changelog, 0)
    head = head_of(await read_records(log, where), where)
    assert head is not None
    return head.positions.predictions, len(await read_cuts(log, config.topics, 0, head))


@pytest.mark.slow
def test_a_program_that_is_asked_to_stop_leaves_nothing_to_follow_and_repeats_nothing(program: Program) -> None:
    config = program.config
    with_log(config, lambda log: published(log, config))
    taken = []
    for _ in range(3):
        program.start()
        program.wait_for("task_begun|task_restored")
        time.sleep(0.3)
        assert program.stop() < 10
        position, cuts = with_log(config, lambda log: standing(log, config))
        assert cuts == 0
        taken.append(position)
    assert taken == sorted(taken)
    program.start()
    restored = program.wait_for(r".*task_restored.*")
    assert json.loads(restored[0])["cuts"] == 0
    assert json.loads(restored[0])["predictions"] == taken[-1]

    async def finished(log: Log) -> list[bytes]:
        async with running(log, config) as worker:
            await consumed(log, config, worker, 60)
        return [value for _, value in await outputs_of(log, output_topics(config))]

    program.stop()
    assert sorted(with_log(config, finished)) == expected_bytes(SOURCE, config)


# Bounds and readiness, in this process -----------------------------------------------------------------------------


class Stuck(NoFaults):
    """Never answers a commit once it is told so."""

    def __init__(self) -> None:
        self.stuck = False

    async def at(self, moment: str, call: str, subject: str) -> None:
        if self.stuck and (moment, call) == ("before", "commit"):
            await asyncio.Event().wait()


async def test_a_stop_is_bounded_even_where_the_log_does_not_answer() -> None:
    config, faults = fast(Config(), stop_timeout_ms=300), Stuck()
    log = MemoryLog(faults=faults)
    await published(log, config)
    clock = asyncio.get_running_loop().time
    async with running(log, config) as worker:
        await until(lambda: worker.ready)
        faults.stuck = True
        began = clock()
    assert clock() - began < 10  # a busy machine included; without a bound it would be for ever
    faults.stuck = False
    async with running(log, config) as worker:  # what was not committed is done again
        await consumed(log, config, worker)
    got = [value for _, value in await outputs_of(log, output_topics(config))]
    assert sorted(got) == expected_bytes(SOURCE, config)


async def status(port: int, path: str) -> int:
    def ask() -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    return await asyncio.to_thread(ask)


class Slow(NoFaults):
    """Holds one task's reading back while it is restored."""

    def __init__(self, held: str) -> None:
        self._held = held
        self.go = asyncio.Event()

    async def at(self, moment: str, call: str, subject: str) -> None:
        if call == "fetch" and self._held in subject:
            await self.go.wait()


async def test_readiness_is_true_only_when_all_assigned_tasks_are_restored() -> None:
    config = fast(Config())
    config = msgspec.structs.replace(config, topics=msgspec.structs.replace(config.topics, partitions=2))
    log = MemoryLog()
    await published(log, config)
    log.faults = slow = Slow(f"{config.topics.changelog}[1]")
    async with running(log, config) as worker, serve(HttpSettings(port=0), worker) as port:
        await until(lambda: worker.stats and worker.stats[0].ready)
        assert worker.stats[1].phase == "acquiring"
        assert (await status(port, "/healthz"), await status(port, "/readyz")) == (200, 503)
        slow.go.set()
        await until(lambda: worker.ready)
        assert await status(port, "/readyz") == 200


async def test_a_worker_that_no_group_has_answered_is_not_ready() -> None:
    config, log = fast(Config()), MemoryLog()
    partitions = await prepare_topics(log, config.topics, config.core)
    from service.app import make_worker

    assert not make_worker(config, log, partitions).ready


async def test_a_worker_for_which_the_group_has_no_task_left_is_ready(carrier: Carrier, config: Config) -> None:
    """A rolling upgrade waits for the new worker to be ready before it stops an old one."""
    async with running(carrier.log, config) as first:
        await until(lambda: first.ready)
        async with running(carrier.log, config) as second, serve(HttpSettings(port=0), second) as port:
            await until(lambda: first.ready and second.ready)
            holders = [worker for worker in (first, second) if any(s.ready for s in worker.stats.values())]
            assert holders == [first]
            assert await status(port, "/readyz") == 200
        await until(lambda: first.ready)


@pytest.mark.slow
@pytest.mark.kafka
def test_a_stop_is_bounded_where_the_broker_has_frozen(own_broker: OwnBroker, tmp_path: Path) -> None:
    kafka = {**msgspec.to_builtins(own_broker.settings), "acquire_timeout_ms": 16_000}
    raw: dict[str, object] = {
        "log": {"carrier": "kafka", "kafka": kafka},
        "runtime": {"stop_timeout_ms": 1_000, "broker_timeout_ms": 2_000},
        "http": {"enabled": False},
        "logging": {"format": "json"},
    }
    program = Program(tmp_path, parse_config(raw), raw)
    with_log(program.config, lambda log: published(log, program.config))
    program.start()
    try:
        program.wait_for("task_begun")
        own_broker.signal(signal.SIGSTOP)
        # A second for the tasks; then leaving the group, and closing what is open, take their time limits each.
        assert program.stop() < 1 + 4 * own_broker.settings.request_timeout_ms / 1000
    finally:
        own_broker.signal(signal.SIGCONT)
        program.end()
