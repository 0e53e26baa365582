"""Reading from the embedded log. Each call sees one state of the file, whatever is written meanwhile."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import msgspec
import numpy as np

from service.eventlog.errors import OffsetOutOfRangeError, TopicError
from service.eventlog.protocol import Chunk, Headers, TopicPartition
from service.eventlog.sqlite.schema import OFFSET_BITS

MAX_FETCH_BYTES = 32 << 20
"""Values that one fetch gives at most, so that large records cannot fill the memory. At the limit the chunk ends early,
after at least one record; the next fetch reads on."""

ROWS_AT_ONCE = 256
"""Rows that are taken before the limit of bytes is looked at: at most 256 records of 1 MiB beyond it."""

decode_headers = msgspec.msgpack.Decoder(Headers).decode


class Extent(NamedTuple):
    """Where a partition lies: its id in the file, the first offset that it holds, and its end."""

    partition_id: int
    begin: int
    end: int


@contextmanager
def one_state(db: sqlite3.Connection) -> Iterator[None]:
    """Read everything in here from the same state of the file."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("COMMIT")


def count_partitions(db: sqlite3.Connection, topics: Sequence[str]) -> dict[str, int]:
    """Count the partitions of the topics that exist."""
    query = "SELECT count(*) FROM partitions WHERE topic = ?"
    counts = {topic: int(db.execute(query, (topic,)).fetchone()[0]) for topic in topics}
    return {topic: count for topic, count in counts.items() if count}


def find(db: sqlite3.Connection, where: TopicPartition) -> Extent:
    """Say where a partition lies. Raises TopicError if it does not exist."""
    query = "SELECT id, begin_offset, end_offset FROM partitions WHERE topic = ? AND number = ?"
    row = db.execute(query, where).fetchone()
    if row is None:
        raise TopicError(f"no such partition: {where.topic}[{where.partition}]")
    return Extent(*row)


def extents(db: sqlite3.Connection, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Extent]:
    """Say where several partitions lie, at one moment."""
    with one_state(db):
        return {where: find(db, where) for where in partitions}


class Fetched(NamedTuple):
    """What a fetch gave, and where the partitions that it looked at ended at that moment."""

    chunks: list[Chunk]
    ends: dict[TopicPartition, int]


def fetch(db: sqlite3.Connection, wanted: Mapping[TopicPartition, int], max_records: int) -> Fetched:
    """Read from the given positions, in the given order. Raises OffsetOutOfRangeError."""
    chunks: list[Chunk] = []
    ends: dict[TopicPartition, int] = {}
    room = MAX_FETCH_BYTES
    with one_state(db):
        for where, position in wanted.items():
            if max_records <= 0 or room <= 0:
                break
            extent = find(db, where)
            ends[where] = extent.end
            if not extent.begin <= position <= extent.end:
                raise OffsetOutOfRangeError(where.topic, where.partition, position, extent.begin, extent.end)
            if position < extent.end:
                rows, weight = take_rows(db, extent, position, max_records, room)
                chunks.append(as_chunk(where, extent, rows, done=len(rows) < max_records and weight < room))
                max_records -= len(rows)
                room -= weight
    return Fetched(chunks, ends)


def take_rows(
    db: sqlite3.Connection, extent: Extent, position: int, max_records: int, room: int
) -> tuple[list[tuple[int, int, bytes | None, bytes | None, bytes | None]], int]:
    """Give rows from a position on until one of the limits is reached, and what their values weigh in bytes."""
    first_id = extent.partition_id << OFFSET_BITS
    query = "SELECT id, timestamp_ms, key, value, headers FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
    cursor = db.execute(query, (first_id + position, first_id + extent.end, max_records))
    rows = []
    weight = 0
    while weight < room and (some := cursor.fetchmany(ROWS_AT_ONCE)):
        rows += some
        weight += sum(len(row[3]) for row in some if row[3] is not None)
    cursor.close()
    return rows, weight


def as_chunk(
    where: TopicPartition,
    extent: Extent,
    rows: Sequence[tuple[int, int, bytes | None, bytes | None, bytes | None]],
    *,
    done: bool,
) -> Chunk:
    """Turn rows into columns. `done`: nothing follows, so the position is the end even where compaction left a gap."""
    count = len(rows)
    ids, stamps, keys, values, headers = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    offsets = np.fromiter(ids, np.int64, count) - (extent.partition_id << OFFSET_BITS)
    return Chunk(
        where.topic,
        where.partition,
        offsets,
        np.fromiter(stamps, np.int64, count),
        list(keys),
        list(values),
        [() if packed is None else decode_headers(packed) for packed in headers],
        extent.end if done else int(offsets[-1]) + 1,
    )


def offset_for_time(db: sqlite3.Connection, where: TopicPartition, timestamp_ms: int) -> int:
    """Give the first offset whose timestamp is at or after `timestamp_ms`, else the end.

    All records before a time mark are at most as new as the mark says, so the search begins at the last mark that is
    older than `timestamp_ms`. (Kafka's time index does the same.)
    """
    with one_state(db):
        extent = find(db, where)
        older = "SELECT max(next_offset) FROM time_marks WHERE partition_id = ? AND max_timestamp_ms < ?"
        mark = db.execute(older, (extent.partition_id, timestamp_ms)).fetchone()[0] or 0
        first_id = extent.partition_id << OFFSET_BITS
        scan = "SELECT id FROM records WHERE id >= ? AND id < ? AND timestamp_ms >= ? ORDER BY id LIMIT 1"
        row = db.execute(scan, (first_id + max(mark, extent.begin), first_id + extent.end, timestamp_ms)).fetchone()
    return extent.end if row is None else int(row[0]) - first_id


def read_positions(
    db: sqlite3.Connection, group: str, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    """Give what a group published."""
    query = "SELECT position FROM positions WHERE group_name = ? AND topic = ? AND number = ?"
    rows = {where: db.execute(query, (group, *where)).fetchone() for where in partitions}
    return {where: int(row[0]) for where, row in rows.items() if row is not None}


def data_version(db: sqlite3.Connection) -> int:
    """Give a number that changes when another connection, of any process, has committed. Reads no table."""
    return int(db.execute("PRAGMA data_version").fetchone()[0])
