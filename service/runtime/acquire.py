"""How a task is acquired: steps A1 to A5 of docs/delivery-guarantee.md.

The changelog is the truth about where a task stands; being assigned is only a reason to try. Whoever opens the task's
writer last owns it.
"""

import secrets
from typing import NamedTuple

import structlog

from service.core.intake import Positions, Role
from service.core.task import Task
from service.eventlog.protocol import NewRecord, Reader, TopicPartition, Writer
from service.runtime.changelog import (
    Cut,
    Head,
    Recovered,
    StateMismatchError,
    barrier_records,
    entry_records,
    head_record,
    read_state,
)
from service.runtime.context import TaskContext
from service.runtime.reading import read_some

log = structlog.get_logger(__name__)


class Acquired(NamedTuple):
    """A task that is ours: its lock, its inputs, its core, and the number of its last commit."""

    writer: Writer
    reader: Reader
    task: Task
    number: int


async def acquire(context: TaskContext) -> Acquired:
    """Become the owner of a task and bring it to where its last commit left it."""
    context.stats.phase = "acquiring"
    # A1 fence: every earlier owner's next call fails, and its open transaction is resolved first.
    writer = await context.bounded(context.carrier.writer(context.task_id.writer_id))
    try:
        # A2 barrier: a token, not an offset; neither control records nor compaction can hide it.
        token = secrets.token_bytes(16)
        await context.bounded(writer.commit(barrier_records(context.topics, context.task_id, token)))
        # A3 read committed state until the barrier is seen.
        recovered = await read_state(context.carrier, context.topics, context.task_id, token)
        context.stats.phase = "restoring"
        if recovered.head is None:
            acquired = await _begin(context, writer)
        else:
            acquired = await _restore(context, writer, recovered, recovered.head)
    except BaseException:
        await writer.close()
        raise
    context.stats.acquired(acquired.task.intake.taken, acquired.task.watermark_ms)
    return acquired


async def _begin(context: TaskContext, writer: Writer) -> Acquired:
    # A task without state fixes where it begins before it reads anything, so that a crash cannot move it.
    reader = await context.carrier.reader(context.at(Positions(0, 0, 0)))
    try:
        earliest = context.settings.start == "earliest"
        offsets = await context.bounded(reader.begin_offsets() if earliest else reader.end_offsets())
        positions = Positions(*(offsets[context.inputs[role]] for role in Role))
        reader.seek(context.at(positions))
        task = Task(context.core, context.task_topics, positions)
        await context.bounded(writer.commit(await state_records(context, task, 0, positions)))
    except BaseException:
        await reader.close()
        raise
    log.info("task_begun", partition=context.partition, **positions._asdict())
    return Acquired(writer, reader, task, 0)


async def _restore(context: TaskContext, writer: Writer, recovered: Recovered, head: Head) -> Acquired:
    _check_inputs(context, head)
    # A4 restore the snapshot.
    positions = head.positions
    task = Task.restore(context.core, context.task_topics, positions, recovered.entries)
    reader = await context.carrier.reader(context.at(positions))
    number = head.number
    try:
        # A5 follow the recorded steps to the last cut. Their outputs are out already, and are dropped here.
        for cut in recovered.cuts:
            await _repeat(context, reader, task, cut)
            number = cut.number
    except BaseException:
        await reader.close()
        raise
    log.info("task_restored", partition=context.partition, cuts=len(recovered.cuts), **task.intake.taken._asdict())
    return Acquired(writer, reader, task, number)


async def _repeat(context: TaskContext, reader: Reader, task: Task, cut: Cut) -> None:
    stands = task.intake.taken
    if stands != cut.start:
        raise StateMismatchError(
            f"cut {cut.number} of task {context.partition} starts at {cut.start}, the state at {stands}"
        )
    for end in cut.steps:
        while short := [role for role in Role if task.intake.position(role) < end[role]]:
            only = [context.inputs[role] for role in short]
            await read_some(context, reader, task, wait_ms=1000, only=only)
        task.step_to(end)


def _check_inputs(context: TaskContext, head: Head) -> None:
    if head.inputs != context.topics.inputs or head.partitions != context.partitions:
        raise StateMismatchError(
            f"the state of task {context.partition} of {context.task_id.name!r} belongs to {', '.join(head.inputs)} "
            f"with {head.partitions} partitions, not to {', '.join(context.topics.inputs)} with {context.partitions}: "
            "give this service another runtime.name and another changelog topic"
        )


async def state_records(context: TaskContext, task: Task, number: int, positions: Positions) -> list[NewRecord]:
    """Write what changed of the state, and the head that makes it the newest snapshot.

    `positions`: where the commit of this number ends. The task's own may lie behind, by offsets that hold no record.
    """
    steps = TopicPartition(context.topics.steps, context.partition)
    # Any offset at or before the next cut will do, and the end of what is committed is one.
    probe = await context.carrier.reader({steps: 0})
    try:
        steps_from = (await context.bounded(probe.end_offsets()))[steps]
    finally:
        await probe.close()
    head = Head(number, positions, steps_from, context.topics.inputs, context.partitions)
    entries = entry_records(context.topics, context.task_id, task.changed_state())
    return [*entries, head_record(context.topics, context.task_id, head)]
