"""Drops the state of tasks, so that they are built anew from the inputs."""

import secrets

from service.cli.state import TaskReport
from service.config import Config
from service.eventlog.protocol import Log, NewRecord, TopicPartition
from service.runtime.changelog import BARRIER_KEY, barrier_records, dropped_record, read_records
from service.runtime.settings import TaskId


async def drop_state(log: Log, config: Config, partition: int) -> int:
    """Write a tombstone for each record of a task's changelog, in one transaction; give how many.

    The task's writer is taken first, as its owner would: a service that runs is fenced, drops what it has in memory
    and acquires the task again, without state. Raises LogError.
    """
    task = TaskId(config.runtime.name, config.runtime.group, partition)
    where = TopicPartition(config.topics.changelog, partition)
    writer = await log.writer(task.writer_id)
    try:
        token = secrets.token_bytes(16)
        await writer.commit(barrier_records(config.topics, task, token))
        keys = [key for key in await read_records(log, where, token) if key != BARRIER_KEY]
        tombstones = [NewRecord(where.topic, where.partition, key, None) for key in keys]
        await writer.commit([*tombstones, dropped_record(config.topics, task)])
    finally:
        await writer.close()
    return len(keys)


def consequences(report: TaskReport, config: Config) -> list[str]:
    """Say in sentences what dropping a task's state means."""
    lines = [f"task {report.partition}: drops {len(report.entries)} entries ({report.size_bytes:,} bytes)"]
    if config.runtime.start == "latest":
        return [*lines, "it begins at the end of the inputs (runtime.start: latest): nothing is read again"]
    reached = report.reached
    for place, (topic, (begin, end)) in enumerate(report.inputs.items()):
        before = 0 if reached is None else max(min(reached[place], end) - begin, 0)
        lost = f"; {begin:,} before them are gone and stay out of the references" if begin else ""
        lines.append(f"  reads again {before:,} records of {topic}[{report.partition}], from {begin:,} on{lost}")
    lines.append(
        "  publishes again the alerts, triggers, metrics and dead letters of that time. Where the state was sound they "
        "have the same identifiers, and consumers that drop duplicates by (source, id) see no difference, as long as "
        "nothing was deleted and the inputs are merged as they were; fine-tune triggers may start training again"
    )
    return lines
