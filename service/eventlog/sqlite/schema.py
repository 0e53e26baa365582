"""The tables of the embedded log, and how a connection to it is opened."""

import sqlite3
from pathlib import Path

from service.eventlog.errors import UnavailableError

APPLICATION_ID = 0x7464_6C67
"""'tdlg', in the header of the file: tells our file from another program's."""

SCHEMA_VERSION = 1

OFFSET_BITS = 40
"""A record's row id is `partition_id << 40 | offset`: 1.1e12 records in each of 8 million partitions. One table with an
integer key keeps each partition's records together on disk, in order, without an index beside it."""

PAGE_BYTES = 32_768
"""Holds some 37 records of 850 bytes. In CPU time 1.5 times the appends that pages of 4,096 allow; 12 % less disk."""

CACHE_KIB = 32_768
WAL_PAGES = 512
"""16 MiB of write-ahead log between checkpoints."""

TABLES = """
CREATE TABLE topics (
    name TEXT PRIMARY KEY,
    cleanup TEXT NOT NULL,
    retention_ms INTEGER,
    max_message_bytes INTEGER
) WITHOUT ROWID;
CREATE TABLE partitions (
    id INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    number INTEGER NOT NULL,
    begin_offset INTEGER NOT NULL DEFAULT 0,
    end_offset INTEGER NOT NULL DEFAULT 0,
    max_timestamp_ms INTEGER NOT NULL DEFAULT -1,
    marked_offset INTEGER NOT NULL DEFAULT 0,
    compacted_offset INTEGER NOT NULL DEFAULT 0,
    UNIQUE (topic, number)
);
CREATE TABLE records (
    id INTEGER PRIMARY KEY,
    timestamp_ms INTEGER NOT NULL,
    key BLOB,
    headers BLOB,
    value BLOB
);
CREATE TABLE time_marks (
    partition_id INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    max_timestamp_ms INTEGER NOT NULL,
    PRIMARY KEY (partition_id, next_offset)
) WITHOUT ROWID;
CREATE TABLE writers (
    id TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE positions (
    group_name TEXT NOT NULL,
    topic TEXT NOT NULL,
    number INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (group_name, topic, number)
) WITHOUT ROWID;
"""


def connect(path: Path, *, busy_timeout_ms: int, durable: bool) -> sqlite3.Connection:
    """Open the file, or create it. Raises UnavailableError if it is not a log, or of a newer version.

    Without `durable` a commit survives the death of the process but not always the loss of power: the file then loses
    the last transactions whole, outputs and positions together, and stays consistent (SQLite's `synchronous=NORMAL`).
    """
    db = sqlite3.connect(path, isolation_level=None, timeout=busy_timeout_ms / 1000)
    try:
        prepare(db, path, durable=durable)
    except BaseException:
        db.close()
        raise
    return db


def prepare(db: sqlite3.Connection, path: Path, *, durable: bool) -> None:
    """Set the connection up, and the tables where the file is new."""
    db.execute(f"PRAGMA page_size={PAGE_BYTES}")
    check_version(db, path)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
    db.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
    db.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
    db.execute("BEGIN IMMEDIATE")
    # Asked again under the lock: two processes may create the file at the same moment.
    if version(db) == 0:
        for statement in TABLES.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA application_id={APPLICATION_ID}")
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    db.execute("COMMIT")


def version(db: sqlite3.Connection) -> int:
    """Give the version of the tables; 0 where there are none."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def check_version(db: sqlite3.Connection, path: Path) -> None:
    """Refuse other programs' files and versions that this code does not know."""
    found = version(db)
    application = int(db.execute("PRAGMA application_id").fetchone()[0])
    empty = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if application != APPLICATION_ID and not empty:
        raise UnavailableError(f"{path} is an SQLite file of another program")
    if found > SCHEMA_VERSION:
        raise UnavailableError(f"{path} has version {found}; this code knows versions up to {SCHEMA_VERSION}")
