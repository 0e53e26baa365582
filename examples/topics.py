"""Reading topics to the end, as training pipelines need it."""

from schemas.codec import decode_predictions
from schemas.outputs import OffsetRange
from service.eventlog.partitioner import partition_for
from service.eventlog.protocol import Log, TopicPartition

FETCH_RECORDS = 5_000
WAIT_MS = 500
LAST_RECORDS = 10
"""Records before the end among which the newest event is looked for: the very last may be none that can be read."""

MAX_RECORD_BYTES = 1_048_576


async def read_range(log: Log, part: OffsetRange) -> list[bytes | None]:
    """Give the values of a range of offsets. Raises OffsetOutOfRangeError where retention has deleted its beginning."""
    where = TopicPartition(part.topic, part.partition)
    return await _read(log, where, part.start_offset, part.end_offset)


async def read_whole_topic(log: Log, topic: str) -> list[bytes | None]:
    """Give all values that a topic holds now, partition after partition."""
    count = (await log.partitions([topic])).get(topic, 0)
    values: list[bytes | None] = []
    for number in range(count):
        where = TopicPartition(topic, number)
        begin, end = await _extent(log, where)
        values += await _read(log, where, begin, end)
    return values


async def newest_event_time_ms(log: Log, topic: str, model_id: str) -> int:
    """Give the event time of the last predictions in a model's partition: the stream's own clock. 0: there are none."""
    count = (await log.partitions([topic]))[topic]
    where = TopicPartition(topic, partition_for(model_id.encode(), count))
    begin, end = await _extent(log, where)
    values = await _read(log, where, max(begin, end - LAST_RECORDS), end)
    found = decode_predictions(values, MAX_RECORD_BYTES).events
    return max((event.event_time_ms for event in found), default=0)


async def _extent(log: Log, where: TopicPartition) -> tuple[int, int]:
    reader = await log.reader({where: 0})
    try:
        return (await reader.begin_offsets())[where], (await reader.end_offsets())[where]
    finally:
        await reader.close()


async def _read(log: Log, where: TopicPartition, start: int, end: int) -> list[bytes | None]:
    values: list[bytes | None] = []
    if start >= end:
        return values
    reader = await log.reader({where: start})
    position = start
    try:
        while position < end:
            chunks = await reader.fetch(max_records=min(FETCH_RECORDS, end - position), wait_ms=WAIT_MS)
            for chunk in chunks:
                offsets = chunk.offsets.tolist()
                values += [value for offset, value in zip(offsets, chunk.values, strict=True) if offset < end]
                position = chunk.next_position
            if not chunks and reader.at_end(where):
                break
    finally:
        await reader.close()
    return values
