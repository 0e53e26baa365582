"""A connection that lives in a thread of its own, so that the event loop never waits for the disk."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from service.eventlog.errors import LogError, LogLostError, UnavailableError
from service.eventlog.sqlite.presence import Presence
from service.eventlog.sqlite.schema import connect

P = ParamSpec("P")
T = TypeVar("T")


DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def in_our_words(error: sqlite3.Error, path: Path) -> LogError:
    """Tell damage, which no second try mends, from a file that is busy, or a disk that is full."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # above it: details
    if code not in DAMAGE:
        return UnavailableError(f"{path}: {error}")
    return LogLostError(
        f"{path} is damaged ({error}). Keep a copy of it and of its -wal file; then put a backup in its place, or save "
        f"what can be read (`tidegauge log salvage {path} --out saved.sqlite`, or sqlite3's .recover) and put that "
        "there; where the service then refuses its state, run `tidegauge state rebuild`"
    )


class Connection:
    """One SQLite connection and the one thread that uses it. Opened at the first call."""

    def __init__(self, path: Path, *, busy_timeout_ms: int, durable: bool) -> None:
        self._path = path
        self._open = partial(connect, path, busy_timeout_ms=busy_timeout_ms, durable=durable)
        self._db: sqlite3.Connection | None = None
        self._presence: Presence | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"sqlite {path.name}")
        self._closed = False

    async def run(self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do work with the connection; calls are done one after the other. A call that is cancelled is still done.

        Raises UnavailableError for SQLite's errors, and LogLostError where the file is gone or damaged.
        """
        if self._closed:
            raise UnavailableError(f"{self._path} is closed")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(self._work, work, *args, **kwargs))

    def _work(self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            if self._db is None:
                self._db = self._open()
                self._presence = Presence(self._path)
            if self._presence is not None:
                self._presence.demand()
            return work(self._db, *args, **kwargs)
        except sqlite3.Error as error:
            raise in_our_words(error, self._path) from error

    async def close(self) -> None:
        """Close the connection after what is under way. Idempotent."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
            self._thread.shutdown()

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
