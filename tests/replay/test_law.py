"""The law: replaying what a live run consumed gives its bytes, whatever befell the live run."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from service.app import make_worker
from service.config import Config
from service.core.settings import CoreSettings, JoinSettings
from service.eventlog.memory import MemoryLog
from service.eventlog.sqlite import SqliteLog
from service.runtime.topics import prepare_topics
from tests.core.test_task import SETTINGS
from tests.replay.live import START_MS, Storm, contents, messy, published, replayed, trickle
from tests.runtime.service import consumed, fast, running

LONG_AFTER_MS = START_MS + 10**9
SOURCES = [messy(1100, 1), messy(900, 2)]


def configuration(core: CoreSettings = SETTINGS) -> Config:
    quick = fast(Config(core=core), max_step_records=64, commit_interval_ms=5, max_idle_ms=20)
    return msgspec.structs.replace(quick, topics=msgspec.structs.replace(quick.topics, partitions=2))


CONFIG = configuration(
    msgspec.structs.replace(
        SETTINGS,
        default=msgspec.structs.replace(SETTINGS.default, snapshot_interval_ms=4_000),
        join=JoinSettings(orphan_horizon_ms=20_000),
        allowed_lateness_ms=2_000,
        tick_ms=1_000,
    )
)


async def live_run(log: MemoryLog | SqliteLog, storm: Storm | None) -> None:
    """Two workers, of which one leaves on the way; crashes, if there is a storm, until all was written."""
    partitions = await prepare_topics(log, CONFIG.topics, CONFIG.core)
    async with running(log, CONFIG) as worker:
        leaving = asyncio.Event()
        second = asyncio.create_task(make_worker(CONFIG, log, partitions).run(leaving))
        writing = asyncio.create_task(trickle(log, CONFIG, SOURCES, seed=5))
        await asyncio.sleep(0.4)
        leaving.set()
        await second
        await writing
        if storm is not None:
            storm.calm = True
            for stats in worker.stats.values():
                stats.last_error = None
        await asyncio.sleep(0.1)
        await settled(log, worker)


async def settled(log: MemoryLog | SqliteLog, worker: object) -> None:
    await consumed(log, CONFIG, worker)  # type: ignore[arg-type]


@pytest.fixture(params=["memory", "sqlite"])
async def log(request: pytest.FixtureRequest, tmp_path: Path):
    made = MemoryLog() if request.param == "memory" else SqliteLog(tmp_path / "log.sqlite")
    yield made
    await made.close()


async def test_replaying_what_a_live_run_consumed_gives_its_bytes(log: MemoryLog | SqliteLog, tmp_path: Path) -> None:
    await live_run(log, None)
    await published(log, CONFIG, tmp_path / "live", 2)
    info = await replayed(log, CONFIG, tmp_path / "replay")
    assert all(plan.recorded for plan in info.plan.tasks)
    live = contents(tmp_path / "live")
    assert all(live.values())
    assert contents(tmp_path / "replay") == live


SLOW = pytest.mark.slow


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=SLOW), pytest.param(2, marks=SLOW)])
async def test_the_law_holds_whatever_crashes_and_lost_replies_the_live_run_had(seed: int, tmp_path: Path) -> None:
    storm = Storm(seed)
    log = MemoryLog(faults=storm)
    storm.calm = True
    await prepare_topics(log, CONFIG.topics, CONFIG.core)
    storm.calm = False
    await live_run(log, storm)
    assert storm.crashes > 0
    await published(log, CONFIG, tmp_path / "live", 2)
    await replayed(log, CONFIG, tmp_path / "replay")
    assert contents(tmp_path / "replay") == contents(tmp_path / "live")


async def test_topics_without_recorded_steps_replay_to_the_same_bytes_every_time(tmp_path: Path) -> None:
    runs = []
    for number, part in enumerate((50, 400)):
        log = MemoryLog(clock_ms=lambda: LONG_AFTER_MS)
        await prepare_topics(log, CONFIG.topics, CONFIG.core)
        await trickle(log, CONFIG, SOURCES, seed=number, part=part)
        info = await replayed(log, CONFIG, tmp_path / f"run-{number}")
        assert not any(plan.recorded for plan in info.plan.tasks)
        runs.append(contents(tmp_path / f"run-{number}"))
    assert runs[0]["alerts"]
    assert runs[0] == runs[1]
