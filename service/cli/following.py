"""Reads topics as they grow, all partitions merged by the time at which their records were written."""

from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple

from service.eventlog.protocol import Headers, Log, Reader, TopicPartition

FETCH_RECORDS = 1_000
"""Records that a partition holds ready at most: so much memory, times their size, a watcher takes."""

IDLE_WAIT_MS = 500
BUSY_WAIT_MS = 20
"""While older records are in hand and a partition is asked whether it has one that is older still."""


class Entry(NamedTuple):
    """One record and where it lies."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    headers: Headers
    value: bytes | None


async def follow(log: Log, topics: Sequence[str], *, from_beginning: bool, forever: bool) -> AsyncIterator[Entry]:
    """Give the records of topics that exist: from the beginning or from now on; up to what is there now, or for ever.

    A record waits until every partition has shown its next one or is at its end, so the order is by time as far as
    anybody can know it. Raises LogError.
    """
    counts = await log.partitions(topics)
    partitions = [TopicPartition(topic, number) for topic, count in counts.items() for number in range(count)]
    reader = await log.reader(dict.fromkeys(partitions, 0))
    try:
        ends = await reader.end_offsets()
        begins = await reader.begin_offsets() if from_beginning else ends
        reader.seek(begins)
        # Without an end a busy log would never let us go: what is written meanwhile does not count.
        merge = _Merge(reader, begins, None if forever else ends)
        while not merge.finished():
            await merge.fill()
            for entry in merge.take():
                yield entry
    finally:
        await reader.close()


class _Merge:
    """A queue for each partition; the oldest record goes first."""

    def __init__(
        self, reader: Reader, begins: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int] | None
    ) -> None:
        self._reader = reader
        self._positions = dict(begins)
        self._ends = ends
        self._queues: dict[TopicPartition, deque[Entry]] = {where: deque() for where in begins}

    def finished(self) -> bool:
        return self._ends is not None and not any(self._queues.values()) and not self._unsettled()

    def _unsettled(self) -> list[TopicPartition]:
        """Name the partitions that may have a record which we have not seen."""
        return [
            where
            for where, queue in self._queues.items()
            if not queue and not self._read_enough(where) and not self._reader.at_end(where)
        ]

    def _read_enough(self, where: TopicPartition) -> bool:
        return self._ends is not None and self._positions[where] >= self._ends[where]

    async def fill(self) -> None:
        """Ask the partitions of which nothing is in hand."""
        empty = [where for where, queue in self._queues.items() if not queue and not self._read_enough(where)]
        wait_ms = BUSY_WAIT_MS if any(self._queues.values()) else IDLE_WAIT_MS
        for chunk in await self._reader.fetch(max_records=FETCH_RECORDS, wait_ms=wait_ms, only=empty):
            where = TopicPartition(chunk.topic, chunk.partition)
            self._positions[where] = chunk.next_position
            for offset, stamp, headers, value in zip(
                chunk.offsets.tolist(), chunk.timestamps_ms.tolist(), chunk.headers, chunk.values, strict=True
            ):
                if self._ends is None or offset < self._ends[where]:
                    self._queues[where].append(Entry(*where, offset, stamp, headers, value))

    def take(self) -> list[Entry]:
        """Give the oldest entries for as long as nobody can have an older one."""
        ready: list[Entry] = []
        while any(self._queues.values()) and not self._unsettled():
            _, where = min((_age(queue[0]), where) for where, queue in self._queues.items() if queue)
            ready.append(self._queues[where].popleft())
            if not self._queues[where]:
                break  # ask it first: its next record may be older than those of the others
        return ready


def _age(entry: Entry) -> tuple[int, bytes]:
    """Order by the moment of writing; what one commit wrote at one moment, by the event time that CloudEvents carry."""
    return entry.timestamp_ms, next((value for name, value in entry.headers if name == "ce_time"), b"")
