"""From the log into a task's intake: the one way in, for live work and for recovery."""

from collections.abc import Sequence

from schemas.rejection import Rejection
from service.core.decode import decode_block, rejected_block
from service.core.intake import Role
from service.core.task import Task
from service.eventlog.errors import OffsetOutOfRangeError, UnreadableRecordError
from service.eventlog.protocol import Chunk, Reader, TopicPartition
from service.runtime.context import TaskContext
from service.runtime.inputs_check import MarkBook, explained


async def read_some(
    context: TaskContext,
    reader: Reader,
    task: Task,
    marks: MarkBook,
    *,
    wait_ms: int,
    only: Sequence[TopicPartition],
) -> set[Role]:
    """Fetch and decode what there is; say which inputs gave something.

    Bytes that are no record become a dead letter at their offset, and reading goes on behind them. Raises
    InputLostError where a position is not in the log, else LogError.
    """
    try:
        chunks = await reader.fetch(max_records=context.settings.max_step_records, wait_ms=wait_ms, only=only)
    except UnreadableRecordError as error:
        return {_bury(context, reader, task, error)}
    except OffsetOutOfRangeError as error:
        raise explained(error) from error
    return {_offer(context, task, marks, chunk) for chunk in chunks}


def _offer(context: TaskContext, task: Task, marks: MarkBook, chunk: Chunk) -> Role:
    role = Role(context.topics.inputs.index(chunk.topic))
    marks.note(role, chunk)
    block = decode_block(
        role,
        chunk.offsets,
        chunk.timestamps_ms,
        chunk.values,
        chunk.next_position,
        context.core,
        chunk.keys,
        context.placement,
    )
    task.intake.offer(role, block)
    context.stats.read(role, len(chunk.values), block.size_bytes)
    return role


def _bury(context: TaskContext, reader: Reader, task: Task, error: UnreadableRecordError) -> Role:
    role = Role(context.topics.inputs.index(error.topic))
    task.intake.offer(role, rejected_block(error.position, unreadable(error)))
    reader.seek({TopicPartition(error.topic, error.partition): error.position + 1})
    context.stats.read(role, 1, 0)
    return role


def unreadable(error: UnreadableRecordError) -> Rejection:
    """Say why bytes that are no record are a dead letter."""
    message = f"$: the log cannot read this record: {error.reason}"
    return Rejection(index=0, reason="unreadable", message=message, path="$", model_id=None)


def open_positions(context: TaskContext, task: Task) -> dict[TopicPartition, int]:
    """Give the position of each input at which reading goes on."""
    return {context.inputs[role]: task.intake.position(role) for role in Role}
