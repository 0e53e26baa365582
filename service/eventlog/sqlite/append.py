"""Writing to the embedded log: topics, epochs, and records in one transaction."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from service.eventlog.errors import FencedError, TopicError
from service.eventlog.protocol import NewRecord, TopicPartition, TopicSpec
from service.eventlog.records import DEFAULT_MAX_MESSAGE_BYTES, by_partition, refuse_too_large
from service.eventlog.sqlite.schema import OFFSET_BITS

MARK_EVERY = 1_024
"""Records between two time marks: looking an offset up by time reads at most about so many rows."""

encode_headers = msgspec.msgpack.Encoder().encode


class Fence(NamedTuple):
    """The lock under which a transaction is written."""

    writer_id: str
    epoch: int


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Write everything in here at once, or nothing. Takes the write lock at the beginning, waiting if need be."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def create_topics(db: sqlite3.Connection, specs: Sequence[TopicSpec]) -> None:
    """Create the topics that are missing."""
    with transaction(db):
        for spec in specs:
            settings = (spec.name, spec.cleanup, spec.retention_ms, spec.max_message_bytes)
            if db.execute("INSERT OR IGNORE INTO topics VALUES (?, ?, ?, ?)", settings).rowcount:
                rows = [(spec.name, number) for number in range(spec.partitions)]
                db.executemany("INSERT INTO partitions (topic, number) VALUES (?, ?)", rows)


def open_epoch(db: sqlite3.Connection, writer_id: str) -> int:
    """Raise the epoch of a writer: all earlier ones are fenced from here on, in whatever process they live."""
    with transaction(db):
        raised = "INSERT INTO writers VALUES (?, 1) ON CONFLICT (id) DO UPDATE SET epoch = epoch + 1 RETURNING epoch"
        return int(db.execute(raised, (writer_id,)).fetchone()[0])


def check_fence(db: sqlite3.Connection, fence: Fence) -> None:
    """Raise FencedError if another writer of this id was opened. Holds until the end of the transaction."""
    row = db.execute("SELECT epoch FROM writers WHERE id = ?", (fence.writer_id,)).fetchone()
    if row is None or row[0] != fence.epoch:
        raise FencedError(f"another writer of {fence.writer_id} was opened")


def message_limits(db: sqlite3.Connection, topics: Sequence[str]) -> dict[str, int]:
    """Give the largest record that each topic takes, in bytes."""
    query = "SELECT max_message_bytes FROM topics WHERE name = ?"
    rows = {topic: db.execute(query, (topic,)).fetchone() for topic in topics}
    return {topic: row[0] or DEFAULT_MAX_MESSAGE_BYTES for topic, row in rows.items() if row}


def write(db: sqlite3.Connection, records: Sequence[NewRecord], now_ms: int, fence: Fence | None) -> None:
    """Append all records in one transaction, or raise and append none."""
    groups = by_partition(records)
    refuse_too_large(records, message_limits(db, sorted({topic for topic, _ in groups})))
    with transaction(db):
        if fence is not None:
            check_fence(db, fence)
        for where, group in groups.items():
            write_partition(db, where, group, now_ms)


def write_partition(db: sqlite3.Connection, where: TopicPartition, records: Sequence[NewRecord], now_ms: int) -> None:
    """Append records to one partition, inside a transaction."""
    find = "SELECT id, end_offset, max_timestamp_ms, marked_offset FROM partitions WHERE topic = ? AND number = ?"
    row = db.execute(find, where).fetchone()
    if row is None:
        raise TopicError(f"no such partition: {where.topic}[{where.partition}]")
    partition_id, end, max_timestamp_ms, marked = row
    if end - marked >= MARK_EVERY:
        db.execute("INSERT INTO time_marks VALUES (?, ?, ?)", (partition_id, end, max_timestamp_ms))
        marked = end
    first_id = (partition_id << OFFSET_BITS) + end
    rows = [
        (
            first_id + place,
            now_ms if timestamp_ms is None else timestamp_ms,
            key,
            encode_headers(headers) if headers else None,
            value,
        )
        for place, (_, _, key, value, headers, timestamp_ms) in enumerate(records)
    ]
    db.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?)", rows)
    newest_ms = max(max_timestamp_ms, *(row[1] for row in rows))
    move = "UPDATE partitions SET end_offset = ?, max_timestamp_ms = ?, marked_offset = ? WHERE id = ?"
    db.execute(move, (end + len(rows), newest_ms, marked, partition_id))


def write_positions(db: sqlite3.Connection, group: str, positions: Mapping[TopicPartition, int]) -> None:
    """Keep what a group published."""
    rows = [(group, topic, number, position) for (topic, number), position in positions.items()]
    with transaction(db):
        db.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)", rows)
