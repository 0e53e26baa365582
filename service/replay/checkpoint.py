"""How far a replay has come: the task's state, and how much was written, in one file, all or nothing.

The file is a database of its own beside the outputs; live state is never touched.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from service.core.intake import Positions
from service.core.state import decode_entry, encode_entry

HEAD: Final = "head"
_VERSION: Final = 1


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a task's replay stands."""

    positions: Positions
    records: int
    marks: dict[str, int]
    finished: bool


class Checkpoint:
    """One task's file. Entries are the task's own (see core/task_state), so only what changed is written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, progress: Progress, changed: Mapping[str, bytes | None]) -> None:
        """Write what changed since the last time. Raises OSError or sqlite3.Error."""
        head = encode_entry(HEAD, _VERSION, msgspec.to_builtins(progress))
        with closing(sqlite3.connect(self.path)) as db, db:
            db.execute("CREATE TABLE IF NOT EXISTS entries (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
            gone = [(name,) for name, value in changed.items() if value is None]
            kept = [(f"entry/{name}", value) for name, value in changed.items() if value is not None]
            db.executemany("DELETE FROM entries WHERE name = 'entry/' || ?", gone)
            db.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?)", [*kept, (HEAD, head)])

    def load(self) -> tuple[Progress, dict[str, bytes]] | None:
        """Read it; None where there is none. Raises CorruptStateError or NewerStateError that names the file."""
        if not self.path.exists():
            return None
        with closing(sqlite3.connect(self.path)) as db:
            tables = db.execute("SELECT name FROM sqlite_master WHERE name = 'entries'").fetchall()
            rows = dict(db.execute("SELECT name, value FROM entries")) if tables else {}
        if HEAD not in rows:
            return None
        _, payload = decode_entry(rows.pop(HEAD), HEAD, _VERSION, str(self.path))
        entries = {name.removeprefix("entry/"): value for name, value in rows.items()}
        return msgspec.convert(payload, Progress), entries
