"""The law with real processes: two workers, one killed on the way, then a replay of the same range. `cmp` says equal."""

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
from service.runtime.topics import prepare_topics
from tests.replay.live import contents, messy, trickle
from tests.replay.test_law import CONFIG

PARTITIONS = 3
NAMES = itertools.count()


class Setting(NamedTuple):
    """A configuration in a file, and its log."""

    file: Path
    config: Config
    log: Log


@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.slow), pytest.param("kafka", marks=pytest.mark.kafka)])
async def setting(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Setting]:
    name = f"law-{os.getpid()}-{next(NAMES)}"
    plain = msgspec.json.decode(msgspec.json.encode(CONFIG))
    plain["topics"] = {
        kind: f"{name}.{kind}"
        for kind in (
            "predictions",
            "labels",
            "control",
            "alerts",
            "triggers",
            "metrics",
            "dead_letters",
            "changelog",
            "steps",
        )
    } | {"partitions": PARTITIONS}
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


async def all_consumed(setting: Setting) -> None:
    async with asyncio.timeout(120):
        while await standing(setting) != await ends(setting):
            await asyncio.sleep(0.3)


def tidegauge(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "service", *map(str, arguments)], check=True, timeout=180)


async def test_a_replay_equals_a_live_run_of_two_workers_of_which_one_was_killed(
    setting: Setting, tmp_path: Path
) -> None:
    sources = [messy(1200, seed) for seed in range(PARTITIONS)]
    with worker(setting) as first, worker(setting) as second:
        async with asyncio.timeout(60):
            while None in await standing(setting):
                writing = asyncio.create_task(trickle(setting.log, setting.config, sources, seed=9, part=60))
                sources = [sources[0]._replace(control=[], predictions=[], labels=[])] * PARTITIONS
                await asyncio.sleep(2.0)
                await writing
        first.kill()
        await asyncio.to_thread(first.wait)
        await trickle(
            setting.log, setting.config, [messy(900, 40 + seed) for seed in range(PARTITIONS)], seed=2, part=60
        )
        await all_consumed(setting)
        assert second.poll() is None
    tidegauge("replay", "-c", setting.file, "--out", tmp_path / "replay", "--verify")
    tidegauge("replay", "-c", setting.file, "--out", tmp_path / "live", "--published")
    live = contents(tmp_path / "live")
    assert all(live.values())
    for kind, published in live.items():
        subprocess.run(["cmp", tmp_path / "replay" / f"{kind}.jsonl", tmp_path / "live" / f"{kind}.jsonl"], check=True)
        assert published.count(b"\n") > 2 or kind in ("alerts", "triggers")
