"""`replay --verify` says what it compared, and never that all is well where it compared nothing."""

import asyncio
from pathlib import Path

import orjson
import pytest

from schemas.cloudevents import default_source, to_message
from schemas.outputs import Alert, MetricSnapshot
from service.config import Config
from service.eventlog.protocol import NewRecord
from service.eventlog.sqlite import SqliteLog
from service.runtime.topics import prepare_topics
from tests.core.stream import Source
from tests.replay.live import messy
from tests.replay.test_commands import call
from tests.runtime.service import consumed, fast, outputs_of, publish, running


async def lived(path: Path, source: Source) -> None:
    """Let a service work through a source on a log of its own."""
    log, config = SqliteLog(path), fast(Config())
    await prepare_topics(log, config.topics, config.core)
    await publish(log, config, source)
    async with running(log, config) as worker:
        await consumed(log, config, worker)
    await log.close()


async def put_in(path: Path, source: str) -> None:
    """Publish an alert once more, as the service of that name."""
    log, config = SqliteLog(path), Config()
    found = [output for output, _ in await outputs_of(log, [config.topics.alerts, config.topics.metrics])]
    (again, *_) = [output for output in found if isinstance(output, Alert | MetricSnapshot)]
    message = to_message(again, source=source)
    appender = await log.appender()
    await appender.append([NewRecord(config.topics.alerts, 0, message.key, message.value, headers=message.headers)])
    await appender.close()
    await log.close()


@pytest.fixture(scope="module")
def log_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "log.sqlite"
    asyncio.run(lived(path, messy(1500, 1)))
    return path


def test_a_verification_says_how_many_outputs_of_which_kinds_and_what_it_left_out(
    log_path: Path, tmp_path: Path
) -> None:
    told = call("replay", "--log", log_path, "--out", tmp_path / "a", "--verify").stderr
    assert "verified: all " in told
    assert "  metrics: " in told
    assert "the same, byte for byte" in told
    asyncio.run(put_in(log_path, "tidegauge/another"))
    summary = orjson.loads(call("replay", "--log", log_path, "--out", tmp_path / "b", "--verify", "--json").stdout)
    verification = summary["verification"]
    assert verification["holds"]
    assert {kind["kind"]: kind["published"] for kind in verification["kinds"]} == summary["outputs"]
    assert verification["not_compared"] == ["tidegauge.alerts[0]: 1 records of other services"]


def test_an_output_too_many_is_found_and_where(log_path: Path, tmp_path: Path) -> None:
    asyncio.run(put_in(log_path, default_source(Config().runtime.name)))
    told = call("replay", "--log", log_path, "--out", tmp_path / "a", "--verify", expect=1).stderr
    assert "NOT verified: outputs differ" in told
    assert "alerts: differ from line " in told


def test_where_nothing_was_published_nothing_is_verified(tmp_path: Path) -> None:
    asyncio.run(lived(tmp_path / "log.sqlite", Source([], [], [])))
    told = call("replay", "--log", tmp_path / "log.sqlite", "--out", tmp_path / "a", "--verify", expect=1).stderr
    assert "NOT verified: nothing was published" in told
