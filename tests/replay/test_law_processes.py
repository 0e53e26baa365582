"""The law with real processes: two workers, one killed on the way, then a replay, and `cmp` of the two."""

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
import yaml

from service.app import open_log
from service.config import Config, load_config
from service.core.intake import Positions, Role
from service.eventlog.protocol import Log, TopicPartition
from service.replay.boundaries import read_boundaries
from service.replay.names import OUTPUTS
from service.runtime.topics import prepare_topics
from tests.core.stream import Source
from tests.replay.live import contents, messy, trickle
from tests.replay.test_law import CONFIG

PARTITIONS = 3
NAMES = itertools.count()
INPUTS = ("predictions", "labels", "control")
TOPICS = (*INPUTS, "alerts", "triggers", "metrics", "dead_letters", "changelog", "steps")


class Setting(NamedTuple):
    """A configuration in a file, and its log."""

    file: Path
    config: Config
    log: Log


@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.slow), pytest.param("kafka", marks=pytest.mark.kafka)])
async def setting(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Setting]:
    name = f"law-{os.getpid()}-{next(NAMES)}"
    plain = msgspec.json.decode(msgspec.json.encode(CONFIG))
    plain["topics"] = {kind: f"{name}.{kind}" for kind in TOPICS} | {"partitions": PARTITIONS}
    plain["runtime"] |= {"name": name, "group": name}
    plain["http"]["enabled"] = False
    if request.param == "kafka":
        bootstrap = request.getfixturevalue("kafka_bootstrap")
        plain["log"] = {"carrier": "kafka", "kafka": {"bootstrap_servers": [bootstrap], "heartbeat_interval_ms": 200}}
    else:
        plain["log"] = {"carrier": "sqlite", "sqlite": {"path": str(tmp_path / "log.sqlite")}}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(plain))
    config = load_config(file)
    async with open_log(config.log) as log:
        await prepare_topics(log, config.topics, config.core)
        yield Setting(file, config, log)


@contextlib.contextmanager
def worker(setting: Setting) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "service", "run", "--config", str(setting.file)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)


async def standing(setting: Setting) -> list[Positions | None]:
    """Where the live service's commits have come to, by task."""
    found = [await read_boundaries(setting.log, setting.config.topics, number) for number in range(PARTITIONS)]
    return [None if steps is None else steps.end for steps in found]


async def ends(setting: Setting) -> list[Positions]:
    inputs = [TopicPartition(topic, number) for topic in setting.config.topics.inputs for number in range(PARTITIONS)]
    reader = await setting.log.reader(dict.fromkeys(inputs, 0))
    found = await reader.end_offsets()
    await reader.close()
    topics = setting.config.topics.inputs
    return [Positions(*(found[TopicPartition(topics[role], n)] for role in Role)) for n in range(PARTITIONS)]


async def reached(setting: Setting, wanted: list[Positions] | None) -> None:
    """Wait until every task has committed something, or all that was written."""
    async with asyncio.timeout(120):
        stands = await standing(setting)
        while None in stands or (wanted is not None and stands != wanted):
            await asyncio.sleep(0.3)
            stands = await standing(setting)


def tidegauge(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "service", *map(str, arguments)], check=True, timeout=180)


def halves(source: Source) -> tuple[Source, Source]:
    cuts = [len(values) // 2 for values in source]
    first = Source(*(values[:cut] for values, cut in zip(source, cuts, strict=True)))
    return first, Source(*(values[cut:] for values, cut in zip(source, cuts, strict=True)))


async def test_a_replay_equals_a_live_run_of_two_workers_of_which_one_was_killed(
    setting: Setting, tmp_path: Path
) -> None:
    earlier, later = zip(*(halves(messy(1600, seed)) for seed in range(PARTITIONS)), strict=True)
    with worker(setting) as first, worker(setting) as second:
        await trickle(setting.log, setting.config, earlier, seed=1, part=80)
        await reached(setting, None)
        writing = asyncio.create_task(trickle(setting.log, setting.config, later, seed=2, part=40))
        await asyncio.sleep(0.2)
        first.kill()
        await asyncio.to_thread(first.wait)
        await writing
        await reached(setting, await ends(setting))
        assert second.poll() is None
    tidegauge("replay", "-c", setting.file, "--out", tmp_path / "replay", "--verify")
    tidegauge("replay", "-c", setting.file, "--out", tmp_path / "live", "--published")
    assert all(contents(tmp_path / "live").values())
    for kind in OUTPUTS:
        names = [str(tmp_path / run / f"{kind}.jsonl") for run in ("replay", "live")]
        compared = await asyncio.create_subprocess_exec("cmp", *names)
        assert await compared.wait() == 0
