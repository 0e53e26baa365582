"""What a record weighs, and how records are grouped: the same for every carrier."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from service.eventlog.errors import RecordTooLargeError
from service.eventlog.protocol import NewRecord, TopicPartition

DEFAULT_MAX_MESSAGE_BYTES = 1_048_588
"""Kafka's own default of `max.message.bytes`: 1 MiB and the 12 bytes that precede a batch."""

BATCH_OVERHEAD_BYTES = 61
"""The header of a Kafka record batch, version 2."""

RECORD_OVERHEAD_BYTES = 36
"""At most, in a batch of version 2: length 5, attributes 1, time delta 10, offset delta 5, key length 5, value
length 5, number of headers 5 (the numbers are varints)."""

HEADER_OVERHEAD_BYTES = 10
"""At most: two lengths of 5 bytes."""


def record_bytes(record: NewRecord) -> int:
    """Give the most that a record takes inside a batch, in bytes."""
    size = RECORD_OVERHEAD_BYTES
    if record.key is not None:
        size += len(record.key)
    if record.value is not None:
        size += len(record.value)
    for name, value in record.headers:
        size += HEADER_OVERHEAD_BYTES + len(name.encode()) + len(value)
    return size


def by_partition(records: Sequence[NewRecord]) -> dict[TopicPartition, list[NewRecord]]:
    """Group records by partition, each group in the order of appending."""
    groups: defaultdict[TopicPartition, list[NewRecord]] = defaultdict(list)
    for record in records:
        groups[TopicPartition(record.topic, record.partition)].append(record)
    return dict(groups)


def refuse_too_large(records: Sequence[NewRecord], limits: Mapping[str, int]) -> None:
    """Raise RecordTooLargeError if a record, alone in its batch, is larger than its topic takes (`limits`, bytes)."""
    for record in records:
        size = BATCH_OVERHEAD_BYTES + record_bytes(record)
        limit = limits.get(record.topic, DEFAULT_MAX_MESSAGE_BYTES)
        if size > limit:
            raise RecordTooLargeError(
                f"{record.topic}[{record.partition}]: a record of up to {size} bytes, where the limit is {limit}",
                record,
            )
