"""How a task is acquired: steps A1 to A5 of docs/delivery-guarantee.md.

The changelog is the truth about where a task stands; being assigned is only a reason to try. Whoever opens the task's
writer last owns it.
"""

import asyncio
import secrets
from collections.abc import Mapping
from typing import NamedTuple

import structlog

from service.core.failures import ModelError
from service.core.intake import Positions, Role
from service.core.overview import described, overview
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
    orphaned_cut,
    read_head,
    read_state,
)
from service.runtime.context import TaskContext
from service.runtime.inputs_check import MarkBook, check_inputs
from service.runtime.isolation import ENVIRONMENT
from service.runtime.reading import read_some

log = structlog.get_logger(__name__)


class Acquired(NamedTuple):
    """A task that is ours: its lock, its inputs, its core, and the number of its last commit."""

    writer: Writer
    reader: Reader
    task: Task
    number: int
    marks: MarkBook
    repeated: int
    """Cuts that were followed since the newest snapshot."""


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
            acquired = await _begin(context, writer, token)
        else:
            acquired = await _restore(context, writer, recovered, recovered.head)
    except BaseException:
        await writer.close()
        raise
    for snapshot in described(acquired.task):
        context.stats.newest_of(snapshot)
        await asyncio.sleep(0)
    context.stats.acquired(acquired.task.intake.taken, acquired.task.watermark_ms, overview(acquired.task))
    return acquired


async def _begin(context: TaskContext, writer: Writer, token: bytes) -> Acquired:
    await _demand_new(context, token)
    if context.partition:  # task 0 always is: it knows whether there were as many before
        sibling = await read_head(context.carrier, context.topics, 0)
        if sibling is not None:
            _check_head(context, sibling)
    # A task without state fixes where it begins before it reads anything, so that a crash cannot move it.
    reader = await context.carrier.reader(context.at(Positions(0, 0, 0)))
    try:
        earliest = context.settings.start == "earliest"
        offsets = await context.bounded(reader.begin_offsets() if earliest else reader.end_offsets())
        positions = Positions(*(offsets[context.inputs[role]] for role in Role))
        reader.seek(context.at(positions))
        task = Task(context.core, context.task_topics, positions, spill=context.spill)
        marks = MarkBook()
        await context.bounded(writer.commit(await state_records(context, task, 0, positions, marks)))
    except BaseException:
        await reader.close()
        raise
    log.info("task_begun", partition=context.partition, **positions._asdict())
    return Acquired(writer, reader, task, 0, marks, 0)


async def _demand_new(context: TaskContext, token: bytes) -> None:
    """Refuse to begin a task that has begun before: its snapshot was there, and is gone."""
    cut = await orphaned_cut(context.carrier, context.topics, context.partition, token)
    if cut is not None:
        raise StateMismatchError(
            f"{context.topics.changelog}[{context.partition}] holds no snapshot, but {cut} is a commit of this task: "
            "its state was deleted (the changelog needs cleanup.policy=compact). Restore the topic, or run `tidegauge "
            "state rebuild` to begin anew from the inputs"
        )


async def _restore(context: TaskContext, writer: Writer, recovered: Recovered, head: Head) -> Acquired:
    _check_head(context, head)
    positions, reached = head.positions, recovered.cuts[-1].end if recovered.cuts else head.positions
    await check_inputs(context.carrier, context.inputs, positions, reached, head.marks)
    # A4 restore the snapshot.
    with recovered.blaming():
        task = await _restore_snapshot(context, positions, recovered.entries)
    marks = MarkBook(head.marks)
    reader = await context.carrier.reader(context.at(positions))
    number = head.number
    try:
        # A5 follow the recorded steps to the last cut. Their outputs are out already, and are dropped here.
        for cut in recovered.cuts:
            await _repeat(context, reader, task, marks, cut)
            number = cut.number
    except BaseException:
        await reader.close()
        raise
    log.info("task_restored", partition=context.partition, cuts=len(recovered.cuts), **task.intake.taken._asdict())
    return Acquired(writer, reader, task, number, marks, len(recovered.cuts))


async def _restore_snapshot(context: TaskContext, positions: Positions, entries: Mapping[str, bytes]) -> Task:
    """Restore in parts: the heartbeat must not wait for a thousand models."""
    parts = Task.restoring(context.core, context.task_topics, positions, entries, spill=context.spill)
    task = next(parts)
    for whole in parts:
        task = whole
        await asyncio.sleep(0)
    return task


async def _repeat(context: TaskContext, reader: Reader, task: Task, marks: MarkBook, cut: Cut) -> None:
    stands = task.intake.taken
    if stands != cut.start:
        raise StateMismatchError(
            f"cut {cut.number} of task {context.partition} starts at {cut.start}, the state at {stands}: the "
            "two internal topics are not of one piece (was one restored alone?); restore both, or run `tidegauge state "
            "rebuild`"
        )
    task.judge(cut.verdicts)
    for end in cut.steps:
        while short := [role for role in Role if task.intake.position(role) < end[role]]:
            only = [context.inputs[role] for role in short]
            await read_some(context, reader, task, marks, wait_ms=1000, only=only)
        _repeat_step(context, task, cut, end)
        await asyncio.sleep(0)


def _repeat_step(context: TaskContext, task: Task, cut: Cut, end: Positions) -> None:
    """Take a recorded step again. It was taken once, so that who cannot take it is another program."""
    try:
        task.step_to(end)
    except ModelError as error:
        if isinstance(error.__cause__, ENVIRONMENT):
            raise
        raise StateMismatchError(
            f"commit {cut.number} of task {context.partition} was made by steps at which this program fails ({error}), "
            "and its outputs are out: let the program that made it end gracefully, which leaves nothing to repeat, or "
            "run `tidegauge state rebuild`"
        ) from error


def _check_head(context: TaskContext, head: Head) -> None:
    """Refuse state that another service wrote, or this one on other topics or with another number of partitions."""
    own, found = f"the state in {context.topics.changelog}", ""
    if head.owner not in ("", context.task_id.owner):
        found = f"belongs to the service {head.owner} (runtime.name and group), not to {context.task_id.owner}"
    elif head.inputs != context.topics.inputs:
        found = f"was made from {', '.join(head.inputs)}, not from {', '.join(context.topics.inputs)}"
    if found:
        raise StateMismatchError(
            f"{own} {found}: give each service topics.changelog and topics.steps of its own, and another runtime.name"
        )
    if head.partitions != context.partitions:
        raise StateMismatchError(
            f"{own} was written when the inputs had {head.partitions} partitions; now they have {context.partitions}, "
            "and keys have moved between them, so that labels may miss their predictions. Go back to as many, or give "
            "the service another runtime.name, changelog and steps topic, or rebuild all tasks (`tidegauge state "
            "rebuild`)"
        )


async def state_records(
    context: TaskContext, task: Task, number: int, positions: Positions, marks: MarkBook
) -> list[NewRecord]:
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
    owner, inputs = context.task_id.owner, context.topics.inputs
    head = Head(number, positions, steps_from, inputs, context.partitions, owner, marks.before(positions))
    entries: list[NewRecord] = []
    for part in task.changed_parts():
        entries += entry_records(context.topics, context.task_id, part)
        await asyncio.sleep(0)
    return [*entries, head_record(context.topics, context.task_id, head)]
