"""What an acquisition reads, however the internal topics look."""

import pytest

from service.eventlog.errors import UnavailableError
from service.eventlog.memory import MemoryLog
from service.eventlog.protocol import TopicPartition, TopicSpec
from service.runtime.changelog import barrier_records, read_state
from service.runtime.settings import TaskId, TopicSettings
from tests.simulation.loop import run_in_virtual_time

TOPICS, TASK = TopicSettings(), TaskId("service", "group", 0)


async def log_with(*tokens: bytes) -> MemoryLog:
    log = MemoryLog(clock_ms=lambda: 0)
    await log.ensure_topics([TopicSpec(TOPICS.changelog, 1), TopicSpec(TOPICS.steps, 1)])
    writer = await log.writer(TASK.writer_id)
    for token in tokens:
        await writer.commit(barrier_records(TOPICS, TASK, token))
    return log


def test_who_is_overtaken_and_whose_barrier_is_compacted_away_gives_up_in_time() -> None:
    async def acquire() -> None:
        log = await log_with(b"ours", b"theirs")
        log.compact(TOPICS.changelog)
        await read_state(log, TOPICS, TASK, b"ours")

    with pytest.raises(UnavailableError, match="barrier"):
        run_in_virtual_time(acquire())


def test_a_barrier_is_found_behind_offsets_without_records() -> None:
    async def acquire() -> bool:
        log = await log_with(b"theirs")
        for topic in (TOPICS.changelog, TOPICS.steps):
            log.partition(TopicPartition(topic, 0)).skip()
        writer = await log.writer(TASK.writer_id)
        await writer.commit(barrier_records(TOPICS, TASK, b"ours"))
        log.compact(TOPICS.changelog)
        return (await read_state(log, TOPICS, TASK, b"ours")).head is None

    assert run_in_virtual_time(acquire())
