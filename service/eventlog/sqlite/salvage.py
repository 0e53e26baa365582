"""Saves what can be read of a damaged embedded log into a new file.

SQLite's own program can do that with `.recover`, where it was built for it; not every distribution's was. Here the
records keep their offsets, and what is lost is told by topic, partition and offsets.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from service.eventlog.errors import LogLostError
from service.eventlog.sqlite.append import transaction
from service.eventlog.sqlite.schema import OFFSET_BITS, check_version, connect

NEEDED: Final = ("topics", "partitions", "writers", "positions")
"""Tables without which nothing can be saved: a few rows each, on the first pages of the file."""

SELECT: Final = "SELECT id, timestamp_ms, key, headers, value FROM records WHERE id >= ? AND id < ? ORDER BY id"

ONE: Final = f"{SELECT} LIMIT 1"


class Lost(NamedTuple):
    """Offsets of one partition that cannot be read: from the first up to, and without, the last."""

    topic: str
    partition: int
    first: int
    last: int


class Salvage(NamedTuple):
    """What was saved, and what was not."""

    records: int
    lost: tuple[Lost, ...]


def salvage(damaged: Path, saved: Path) -> Salvage:
    """Copy what can be read into a file that does not exist yet. Raises LogLostError where nothing can be saved."""
    source = sqlite3.connect(f"{damaged.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        check_version(source, damaged)
        tables = {name: source.execute(f"SELECT * FROM {name}").fetchall() for name in NEEDED}  # noqa: S608
        partitions = source.execute("SELECT id, topic, number, begin_offset, end_offset FROM partitions").fetchall()
    except sqlite3.Error as error:
        source.close()
        raise LogLostError(f"{damaged}: its tables cannot be read ({error}): nothing of it can be saved") from error
    target = connect(saved, busy_timeout_ms=0, durable=False)
    try:
        for name, rows in tables.items():
            if rows:
                marks = ", ".join("?" * len(rows[0]))
                target.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)  # noqa: S608
        copies = [_copy(source, target, *partition) for partition in partitions]
    finally:
        source.close()
        target.close()
    return Salvage(sum(copy.records for copy in copies), tuple(lost for copy in copies for lost in copy.lost))


def _copy(
    source: sqlite3.Connection, target: sqlite3.Connection, partition_id: int, topic: str, number: int, *extent: int
) -> Salvage:
    """Copy the records of one partition, stepping over what cannot be read."""
    first_id = partition_id << OFFSET_BITS
    place, end = (first_id + offset for offset in extent)
    count, lost = 0, []
    while place < end:
        with transaction(target):
            for row in _readable(source, place, end):
                target.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?)", row)
                place, count = row[0] + 1, count + 1
        after = _next_readable(source, place, end)
        if after == place:  # no damage: nothing follows
            break
        lost.append(Lost(topic, number, place - first_id, after - first_id))
        place = after
    return Salvage(count, tuple(lost))


def _readable(source: sqlite3.Connection, place: int, end: int) -> Iterator[tuple[int, int, bytes, bytes, bytes]]:
    """Give rows until the end, or the first that cannot be read."""
    try:
        for row in source.execute(SELECT, (place, end)):
            place = row[0] + 1
            yield row
    except sqlite3.DatabaseError:
        # A cursor reads one row ahead: the last good one before the damage must be asked for alone.
        while _can_read(source, place, end) and (row := source.execute(ONE, (place, end)).fetchone()):
            place = row[0] + 1
            yield row


def _next_readable(source: sqlite3.Connection, place: int, end: int) -> int:
    """Give the first id from which on a row can be read, or the end; `place` itself where there is no damage."""
    if _can_read(source, place, end):
        return place
    bad, step = place, 1
    while bad + step < end and not _can_read(source, bad + step, end):
        bad, step = bad + step, 2 * step
    good = min(bad + step, end)
    while good - bad > 1:
        middle = (bad + good) // 2
        bad, good = (bad, middle) if _can_read(source, middle, end) else (middle, good)
    return good


def _can_read(source: sqlite3.Connection, place: int, end: int) -> bool:
    try:
        source.execute(ONE, (place, end)).fetchone()
    except sqlite3.DatabaseError:
        return False
    return True
