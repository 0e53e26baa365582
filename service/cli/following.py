"""Reads topics as they grow, all partitions merged by the time at which their records were written."""

import heapq
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from service.eventlog.protocol import Headers, Log, Reader, TopicPartition

FETCH_RECORDS = 1_000
WAIT_MS = 500


class Entry(NamedTuple):
    """One record and where it lies."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    headers: Headers
    value: bytes | None


async def follow(
    log: Log, topics: Sequence[str], *, from_beginning: bool, forever: bool
) -> AsyncIterator[Entry]:
    """Give the records of topics that exist: from now on, or from the beginning; for ever, or up to what is there now.

    A record waits until every partition has shown its next one or is at its end, so that the order is by time as far
    as anybody can know it. Raises LogError.
    """
    counts = await log.partitions(topics)
    partitions = [TopicPartition(topic, number) for topic, count in counts.items() for number in range(count)]
    reader = await log.reader(dict.fromkeys(partitions, 0))
    try:
        ends = await reader.end_offsets()
        reader.seek(await reader.begin_offsets() if from_beginning else ends)
        if not forever:
            # What is written while we read does not count, or a busy log would never let us end.
            live = {where for where, offset in ends.items() if offset > 0}
            async for entry in _merged(reader, partitions, ends, live if from_beginning else set()):
                yield entry
            return
        async for entry in _merged(reader, partitions, None, set(partitions)):
            yield entry
    finally:
        await reader.close()


async def _merged(
    reader: Reader, partitions: Sequence[TopicPartition], ends: dict[TopicPartition, int] | None, live: set[TopicPartition]
) -> AsyncIterator[Entry]:
    """Give entries in order; with `ends`, until all of `live` have been read up to there."""
    queues: dict[TopicPartition, deque[Entry]] = {where: deque() for where in partitions}
    while ends is None or live or any(queues.values()):
        wanted = [where for where in partitions if not queues[where] and (ends is None or where in live)]
        quick = any(queues.values())
        for chunk in await reader.fetch(max_records=FETCH_RECORDS, wait_ms=0 if quick else WAIT_MS, only=wanted):
            where = TopicPartition(chunk.topic, chunk.partition)
            rows = zip(chunk.offsets.tolist(), chunk.timestamps_ms.tolist(), chunk.headers, chunk.values, strict=True)
            queues[where].extend(Entry(*where, *row) for row in rows if ends is None or row[0] < ends[where])
            if ends is not None and chunk.next_position >= ends[where]:
                live.discard(where)
        if ends is not None:
            # Behind the last record there may be nothing but markers, which no chunk tells of.
            live = {where for where in live if not reader.at_end(where)}
        waiting = {where for where in wanted if not queues[where] and not reader.at_end(where) and (ends is None or where in live)}
        for entry in _ready(queues, waiting):
            yield entry


def _ready(queues: dict[TopicPartition, deque[Entry]], waiting: set[TopicPartition]) -> list[Entry]:
    """Take the oldest entries for as long as nobody could still have an older one."""
    heap = [(queue[0].timestamp_ms, where) for where, queue in queues.items() if queue]
    heapq.heapify(heap)
    ready: list[Entry] = []
    while heap and not waiting:
        _, where = heapq.heappop(heap)
        ready.append(queues[where].popleft())
        if queues[where]:
            heapq.heappush(heap, (queues[where][0].timestamp_ms, where))
        else:
            break  # its next record may be older than those of the others
    return ready
