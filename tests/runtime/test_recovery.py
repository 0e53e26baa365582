"""A task that is acquired after a crash stands where the last cut left it, and tells nothing twice on the way there."""

import asyncio

import pytest

from service.config import Config
from service.core.intake import Positions, Role
from service.eventlog.memory import MemoryLog
from service.eventlog.protocol import TopicPartition
from service.runtime.acquire import acquire
from service.runtime.changelog import Cut, Head, entries_of, head_of, read_cuts, read_records
from service.runtime.context import TaskContext
from service.runtime.settings import TaskId
from service.runtime.stats import TaskStats
from service.runtime.topics import prepare_topics
from tests.core.stream import Driver, Source, drifting
from tests.runtime.service import consumed, fast, outputs_of, publish, running
from tests.runtime.test_service import output_topics

SOURCE = drifting(1500, 700)
PARTS = 60


def part(number: int) -> Source:
    size = len(SOURCE.predictions) // PARTS
    return Source(*(values[number * size : (number + 1) * size] for values in SOURCE))


async def lived(log: MemoryLog, config: Config) -> None:
    """Let records come in small parts, so that idle inputs end steps and there are many cuts."""
    for number in range(PARTS):
        await publish(log, config, part(number))
        await asyncio.sleep(0.02)


def live_state(config: Config, cuts: tuple[Cut, ...]) -> dict[str, bytes | None]:
    """Give the whole state of a task that took the recorded steps and was never restored."""
    driver = Driver(SOURCE, config.core)
    for role in Role:
        driver.offer(role, len(SOURCE.of(role)))
    for cut in cuts:
        for end in cut.steps:
            driver.task.step_to(end)
    return driver.task.changed_state()


async def all_cuts(log: MemoryLog, config: Config) -> tuple[Cut, ...]:
    return await read_cuts(log, config.topics, 0, Head(0, Positions(0, 0, 0), 0, config.topics.inputs, 1))


@pytest.mark.parametrize("snapshot_interval_ms", [3_600_000, 250])
async def test_following_the_cuts_behind_a_snapshot_gives_the_state_of_the_live_task_and_no_output(
    snapshot_interval_ms: int,
) -> None:
    log, config = MemoryLog(), fast(Config(), commit_interval_ms=10, snapshot_interval_ms=snapshot_interval_ms)
    await prepare_topics(log, config.topics, config.core)
    async with running(log, config) as worker:
        await lived(log, config)
        await consumed(log, config, worker)
        cuts, told = await all_cuts(log, config), await outputs_of(log, output_topics(config))
        # What is stored now is what a kill -9 leaves; the first owner is fenced and cannot add to it.
        changelog = TopicPartition(config.topics.changelog, 0)
        stored = await read_records(log, changelog)
        task_id = TaskId(config.runtime.name, config.runtime.group, 0)
        acquired = await acquire(TaskContext(task_id, log, config.topics, config.core, config.runtime, 1, TaskStats(0)))
    head = head_of(stored, changelog)
    assert head is not None
    assert len(cuts) > 30
    assert acquired.repeated == cuts[-1].number - head.number
    assert acquired.repeated > 30 if snapshot_interval_ms > 250 else head.number > 0
    assert await outputs_of(log, output_topics(config)) == told
    kept: dict[str, bytes | None] = {name: entry.value for name, entry in entries_of(stored).items()}
    recovered = {name: entry for name, entry in (kept | acquired.task.changed_state()).items() if entry is not None}
    assert recovered == live_state(config, cuts)
    assert acquired.task.intake.taken == cuts[-1].end
