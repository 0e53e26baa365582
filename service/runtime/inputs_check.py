"""Whether the inputs are still those that a task's state was made from. Where not, a person must decide.

A position is a number; a topic that was deleted and made anew has the same numbers for other records. So a head also
holds a *mark* of each input: the offset, timestamp and checksum of one of the last records before its positions.
"""

import zlib
from collections import deque

import msgspec
import numpy as np

from service.core.intake import Positions, Role
from service.eventlog.errors import OffsetOutOfRangeError
from service.eventlog.protocol import Chunk, Log, TopicPartition

MAX_MARKS = 64
"""Marks of one input between two snapshots. One is noted a chunk and the oldest go: then the mark lies further back."""

REBUILD = (
    "to begin anew with what the inputs still hold, stop the service and run `tidegauge state rebuild` (it says what "
    "that repeats)"
)


class InputLostError(Exception):
    """Records that a task needs are gone, or others are in their place. It is never answered by going on elsewhere."""

    retriable = False


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """One record that a task has taken."""

    offset: int
    timestamp_ms: int
    checksum: int
    """CRC-32 of its value; of a tombstone, that of nothing."""


Marks = tuple[Mark | None, Mark | None, Mark | None]
"""Of each input, in rank order; None where nothing was read of it."""


class MarkBook:
    """Remembers the last record of each chunk, until a snapshot says up to where they are taken."""

    def __init__(self, marks: Marks = (None, None, None)) -> None:
        self._noted: dict[Role, deque[Mark]] = {
            role: deque([] if mark is None else [mark], maxlen=MAX_MARKS)
            for role, mark in zip(Role, marks, strict=True)
        }

    def note(self, role: Role, chunk: Chunk) -> None:
        """Take note of a chunk."""
        if len(chunk.values):
            self._noted[role].append(_mark(chunk, -1))

    def before(self, positions: Positions) -> Marks:
        """Give the newest marks before some positions, and forget the older ones."""
        control, predictions, labels = (
            self._before(self._noted[role], end) for role, end in zip(Role, positions, strict=True)
        )
        return control, predictions, labels

    def _before(self, noted: deque[Mark], end: int) -> Mark | None:
        while len(noted) > 1 and noted[1].offset < end:
            noted.popleft()
        return noted[0] if noted and noted[0].offset < end else None


def _mark(chunk: Chunk, row: int) -> Mark:
    checksum = zlib.crc32(chunk.values[row] or b"")
    return Mark(int(chunk.offsets[row]), int(chunk.timestamps_ms[row]), checksum)


async def check_inputs(
    log: Log, inputs: dict[Role, TopicPartition], snapshot: Positions, reached: Positions, marks: Marks
) -> None:
    """Raise InputLostError unless all is there that recovery reads: from the snapshot's positions on.

    `reached`: where the last commit ended. Raises LogError.
    """
    reader = await log.reader(dict(zip(inputs.values(), snapshot, strict=True)))
    try:
        begins, ends = await reader.begin_offsets(), await reader.end_offsets()
    finally:
        await reader.close()
    for role, where in inputs.items():
        _check_extent(where, snapshot[role], reached[role], begins[where], ends[where])
    for role, where in inputs.items():
        mark = marks[role]
        if mark is not None and mark.offset >= begins[where]:
            await _check_mark(log, where, mark)


def _check_extent(where: TopicPartition, snapshot: int, reached: int, begin: int, end: int) -> None:
    name = f"{where.topic}[{where.partition}]"
    if end < reached:
        raise InputLostError(
            f"{name} ends at {end}, but the task has read up to {reached}: the topic was recreated, or its log was cut "
            f"off. Restore it, or {REBUILD}"
        )
    if begin > reached:
        raise InputLostError(
            f"{name} begins at {begin}, but the task has read up to {reached}: retention deleted {begin - reached} "
            f"records that were never read. Their effect is lost; {REBUILD}"
        )
    if begin > snapshot:
        raise InputLostError(
            f"{name} begins at {begin}, but the state is that of position {snapshot}: retention deleted "
            f"{begin - snapshot} records that must be read again to bring it to {reached}. {REBUILD.capitalize()}"
        )


async def _check_mark(log: Log, where: TopicPartition, mark: Mark) -> None:
    reader = await log.reader({where: mark.offset})
    try:
        chunks = await reader.fetch(max_records=1, wait_ms=1000)
    except OffsetOutOfRangeError:
        return  # retention was faster: there is nothing to compare any more
    finally:
        await reader.close()
    for chunk in chunks:
        if len(chunk.values) and int(chunk.offsets[0]) == mark.offset and _mark(chunk, 0) != mark:
            found = np.datetime64(int(chunk.timestamps_ms[0]), "ms")
            raise InputLostError(
                f"{where.topic}[{where.partition}]: the record at {mark.offset} (of {found}) is not the one that the "
                f"task has read: the topic was recreated and filled anew. Give it the old records, or {REBUILD}"
            )


def explained(error: OffsetOutOfRangeError) -> InputLostError:
    """Say what happened to a position that a running task wants to read, and what can be done."""
    if error.position < error.begin:
        lost = error.begin - error.position
        why = f"retention deleted {lost} records before they were read: it must be longer than the service is behind"
    else:
        why = "the topic was recreated, or its log was cut off, while the service ran"
    return InputLostError(f"{error}: {why}; {REBUILD}")
