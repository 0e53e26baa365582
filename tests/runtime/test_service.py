"""The running service on the embedded carriers: what goes in comes out, once, whatever restarts."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from schemas.codec import encode
from schemas.outputs import Alert, DeadLetter, FineTuneTrigger, MetricSnapshot
from service.config import Config
from service.eventlog.memory import MemoryLog
from service.eventlog.protocol import Log
from service.eventlog.sqlite import SqliteLog
from service.runtime.topics import prepare_topics
from tests.core.stream import Driver, drifting
from tests.core.test_task import SETTINGS
from tests.runtime.service import consumed, fast, outputs_of, publish, running

CONFIG = fast(Config(core=SETTINGS), max_step_records=100)
OUTPUT_TOPICS = [CONFIG.topics.alerts, CONFIG.topics.triggers, CONFIG.topics.metrics, CONFIG.topics.dead_letters]
SOURCE = drifting(3000, 1500)


@pytest.fixture(params=["memory", "sqlite"])
async def carrier(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Log]:
    log: Log = MemoryLog() if request.param == "memory" else SqliteLog(tmp_path / "log.sqlite")
    yield log
    await log.close()


async def test_the_service_writes_what_the_core_says_in_its_order(carrier: Log) -> None:
    async with running(carrier, CONFIG) as worker:
        await publish(carrier, CONFIG, SOURCE)
        await consumed(carrier, CONFIG, worker)
    got = await outputs_of(carrier, OUTPUT_TOPICS)
    kinds = {type(output) for output, _ in got}
    assert kinds == {Alert, FineTuneTrigger, MetricSnapshot}
    assert DeadLetter not in kinds


async def test_a_restart_goes_on_where_the_service_stopped_and_repeats_nothing(carrier: Log) -> None:
    await prepare_topics(carrier, CONFIG.topics, CONFIG.core)
    await publish(carrier, CONFIG, SOURCE)
    for _ in range(4):
        async with running(carrier, CONFIG) as worker:
            while not worker.ready:
                await asyncio.sleep(0.005)
    async with running(carrier, CONFIG) as worker:
        await consumed(carrier, CONFIG, worker)
    expected = [encode(output) for output in Driver(SOURCE, SETTINGS).run(batch=100_000)]
    got = [value for _, value in await outputs_of(carrier, OUTPUT_TOPICS)]
    assert sorted(got) == sorted(expected)
