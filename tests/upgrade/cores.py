"""What the core says of one task's records, step by step as they were recorded. Runs beside the sources of any program.

    python -m tests.upgrade.cores CONFIG PARTITIONS begin|restore HANDOVERS OUT

HANDOVERS: JSON, for each partition the positions at which the next program took over. `begin`: a new task follows the
cuts up to there. `restore`: a task made of the newest snapshot up to there follows the cuts behind it; what it says
before the handover was said by the program before. OUT: JSON, for each partition a list of [topic, value], in order.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from service.app import open_log
from service.config import Config, load_config
from service.core.intake import Positions, Role
from service.core.state import NewerStateError
from service.core.task import Task
from service.eventlog.protocol import Log, TopicPartition
from service.runtime.changelog import CUT_KEY, CUT_VERSION, ENTRY_PREFIX, HEAD_KEY, HEAD_VERSION, Cut, Head, _open
from service.runtime.context import TaskContext
from service.runtime.inputs_check import MarkBook
from service.runtime.outbox import Outbox
from service.runtime.reading import read_some
from service.runtime.settings import TaskId
from service.runtime.stats import TaskStats


def before(positions: Positions, limit: Positions) -> bool:
    """Whether none lies beyond the limit."""
    return all(position <= end for position, end in zip(positions, limit, strict=True))


async def records_of(log: Log, where: TopicPartition) -> list[tuple[bytes | None, bytes | None]]:
    """Read all committed records of a partition."""
    reader = await log.reader({where: 0})
    end, position = (await reader.end_offsets())[where], 0
    found: list[tuple[bytes | None, bytes | None]] = []
    while position < end:
        for chunk in await reader.fetch(max_records=5000, wait_ms=1000):
            found += zip(chunk.keys, chunk.values, strict=True)
            position = chunk.next_position
    await reader.close()
    return found


async def snapshot_at(log: Log, context: TaskContext, limit: Positions) -> tuple[Head, dict[str, bytes]]:
    """Give the newest snapshot that lies before a handover, as the program before left it."""
    entries: dict[str, bytes] = {}
    newest: tuple[Head, dict[str, bytes]] | None = None
    for key, value in await records_of(log, TopicPartition(context.topics.changelog, context.partition)):
        if key is None:
            continue
        if key.startswith(ENTRY_PREFIX):
            name = key.removeprefix(ENTRY_PREFIX).decode()
            entries.pop(name, None)
            if value is not None:
                entries[name] = value
        elif key == HEAD_KEY and value is not None:
            head = _open(value, "head", HEAD_VERSION, "head", Head)
            if not before(head.positions, limit):
                break
            newest = head, dict(entries)
    assert newest is not None
    return newest


async def cuts_of(log: Log, context: TaskContext) -> list[Cut]:
    """Read a task's cuts, as far as this program can."""
    found: list[Cut] = []
    for key, value in await records_of(log, TopicPartition(context.topics.steps, context.partition)):
        if key == CUT_KEY and value is not None:
            try:
                found.append(_open(value, "cut", CUT_VERSION, "cut", Cut))
            except NewerStateError:
                break
    return found


async def say(log: Log, context: TaskContext, limit: Positions, *, restore: bool) -> list[tuple[str, str]]:
    """Follow one task's cuts; give what it says."""
    number, start = 0, Positions(0, 0, 0)
    task = Task(context.core, context.task_topics, start)
    if restore:
        head, entries = await snapshot_at(log, context, limit)
        number, start = head.number, head.positions
        task = Task.restore(context.core, context.task_topics, start, entries)
    outbox = Outbox(context.topics, context.settings, context.partition)
    reader, marks = await log.reader(context.at(start)), MarkBook()
    for cut in await cuts_of(log, context):
        old = before(cut.end, limit)
        if cut.number <= number or (not restore and not old):
            continue
        assert task.intake.taken == cut.start, (cut.number, task.intake.taken, cut.start)
        if hasattr(cut, "verdicts"):
            task.judge(cut.verdicts)
        for end in cut.steps:
            while short := [role for role in Role if task.intake.position(role) < end[role]]:
                only = [context.inputs[role] for role in short]
                await read_some(context, reader, task, marks, wait_ms=1000, only=only)
            outputs = task.step_to(end).outputs
            if not (restore and old):
                outbox.add(outputs)
    await reader.close()
    return [(record.topic, (record.value or b"").decode()) for record in outbox.peek()]


async def main(config: Config, partitions: int, mode: str, handovers: dict[str, list[int]]) -> dict[str, Any]:
    """Follow all tasks."""
    said = {}
    async with open_log(config.log) as log:
        for partition in range(partitions):
            task_id = TaskId(config.runtime.name, config.runtime.group, partition)
            stats = TaskStats(partition)
            context = TaskContext(task_id, log, config.topics, config.core, config.runtime, partitions, stats)
            limit = Positions(*handovers[str(partition)])
            said[str(partition)] = await say(log, context, limit, restore=mode == "restore")
    return said


if __name__ == "__main__":
    _, file, count, mode, handovers, out = sys.argv
    found = asyncio.run(main(load_config(Path(file)), int(count), mode, json.loads(handovers)))
    Path(out).write_bytes(msgspec.json.encode(found))
