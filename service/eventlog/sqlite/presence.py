"""Whether the file of the embedded log is still the one that was opened.

SQLite goes on with a file that was deleted: everything would seem to work, and be gone at the end of the process.
"""

import os
from pathlib import Path
from typing import NamedTuple

from service.eventlog.errors import LogLostError


class Identity(NamedTuple):
    """What tells one file from another under the same name."""

    device: int
    inode: int


class Presence:
    """Remembers which files a connection has open: the log and its write-ahead log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = {name: _identity(name) for name in (path, path.with_name(f"{path.name}-wal"))}

    def demand(self) -> None:
        """Raise LogLostError where one of them was deleted or replaced. Takes some microseconds."""
        for name, opened in self._files.items():
            found = _identity(name)
            if opened is not None and found != opened:
                what = "was deleted" if found is None else "was replaced by another file"
                raise LogLostError(
                    f"{name} {what} while it was in use: what was written since is in no file any more. Put "
                    f"{self._path} back with its -wal and -shm files, or begin with a new one, and start again"
                )


def _identity(path: Path) -> Identity | None:
    try:
        found = os.stat(path)  # noqa: PTH116  (a third of the time that Path.stat takes, at every call)
    except FileNotFoundError:
        return None
    return Identity(found.st_dev, found.st_ino)
