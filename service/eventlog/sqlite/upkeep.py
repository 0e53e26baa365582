"""Retention and compaction of the embedded log, in steps short enough to pass unnoticed between two commits."""

import sqlite3

from service.eventlog.sqlite.append import transaction
from service.eventlog.sqlite.retention_clock import Uptime, retention_time_ms
from service.eventlog.sqlite.schema import OFFSET_BITS

UPKEEP_EVERY_S = 5.0

MAX_DELETED_AT_ONCE = 20_000
"""Records of one partition that one step of retention deletes at most (some 100 ms); the rest waits for the next."""

MIN_DIRTY = 1_000
"""A partition is compacted when at least so many records, and as many as it held after the last time, were added: each
record is then looked at about twice in its life (Kafka's min.cleanable.dirty.ratio of .5)."""

KEEP_TOMBSTONES_MS = 24 * 3_600_000
"""A tombstone outlives its record by a day, so that a reader who is behind still learns of it (Kafka's
delete.retention.ms)."""


def tidy(db: sqlite3.Connection, now_ms: int, up: Uptime) -> bool:
    """Do one step for each partition that needs one; say whether any of them needs another.

    Neither a jump of the wall clock nor a silence deletes: age is measured by a clock that follows no jump, and at most
    from the newest record of the same partition.
    """
    more = False
    with transaction(db):
        now_ms = retention_time_ms(db, now_ms, up)
    listing = (
        "SELECT p.id, p.begin_offset, p.end_offset, p.compacted_offset, p.max_timestamp_ms, t.cleanup, t.retention_ms"
        " FROM partitions p JOIN topics t ON t.name = p.topic WHERE p.end_offset > p.begin_offset"
    )
    for partition_id, begin, end, compacted, newest_ms, cleanup, retention_ms in db.execute(listing).fetchall():
        if cleanup == "compact":
            if end - compacted >= max(MIN_DIRTY, count(db, partition_id, compacted)):
                compact(db, partition_id, end, now_ms)
        elif retention_ms is not None:
            more |= expire(db, partition_id, begin, end, min(now_ms, newest_ms) - retention_ms)
    return more


def count(db: sqlite3.Connection, partition_id: int, below: int) -> int:
    """Count the records of a partition below an offset."""
    first_id = partition_id << OFFSET_BITS
    query = "SELECT count(*) FROM records WHERE id >= ? AND id < ?"
    return int(db.execute(query, (first_id, first_id + below)).fetchone()[0])


def expire(db: sqlite3.Connection, partition_id: int, begin: int, end: int, older_than_ms: int) -> bool:
    """Delete the oldest records up to the first that is young enough; say whether the limit of one step ended it.

    As in Kafka, no record goes before one that lies in front of it.
    """
    first_id = partition_id << OFFSET_BITS
    limit = min(end, begin + MAX_DELETED_AT_ONCE)
    scan = "SELECT id FROM records WHERE id >= ? AND id < ? AND timestamp_ms >= ? ORDER BY id LIMIT 1"
    row = db.execute(scan, (first_id + begin, first_id + limit, older_than_ms)).fetchone()
    new_begin = limit if row is None else int(row[0]) - first_id
    if new_begin > begin:
        with transaction(db):
            db.execute("DELETE FROM records WHERE id >= ? AND id < ?", (first_id + begin, first_id + new_begin))
            db.execute("DELETE FROM time_marks WHERE partition_id = ? AND next_offset < ?", (partition_id, new_begin))
            db.execute("UPDATE partitions SET begin_offset = ? WHERE id = ?", (new_begin, partition_id))
    return row is None and limit < end


def compact(db: sqlite3.Connection, partition_id: int, end: int, now_ms: int) -> None:
    """Keep the last record of each key, and those without a key. Drop tombstones that everybody had time to see."""
    first_id = partition_id << OFFSET_BITS
    superseded = (
        "DELETE FROM records WHERE id IN (SELECT id FROM (SELECT id, value, timestamp_ms,"
        " row_number() OVER (PARTITION BY key ORDER BY id DESC) AS place"
        " FROM records WHERE id >= ? AND id < ? AND key IS NOT NULL)"
        " WHERE place > 1 OR (value IS NULL AND timestamp_ms < ?))"
    )
    with transaction(db):
        db.execute(superseded, (first_id, first_id + end, now_ms - KEEP_TOMBSTONES_MS))
        db.execute("UPDATE partitions SET compacted_offset = ? WHERE id = ?", (end, partition_id))
