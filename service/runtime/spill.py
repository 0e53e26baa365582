"""Rows of the join in a file: what waits for labels for weeks need not stay in memory.

The file is mapped (MAP_SHARED), so a row is read and written as if it were in memory, and the kernel decides what stays
there: pages of the file are the first that it takes back when memory is short, which needs no tuning and, in a
container, counts as cache and not against the limit for good. After some batches the pages are let go of (they stay in
the kernel's cache), so that the process's own size is what it really needs.

The file has no name and vanishes with the process: what is durable is in the changelog, and a restart fills it anew.
"""

import contextlib
import mmap
import os
import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from service.core.join.memory import Spill
from service.core.join.rows import Raw
from service.core.settings import JoinSettings

REST_EVERY: Final = 16
"""Batches between two times that pages are let go of. A scattered read maps up to 64 kB around it (Linux's
fault_around_bytes), so a process looks up to 16 x 4,096 x 64 kB larger than it is, but never by more than the file."""


class FileRows:
    """Rows in an unnamed file of a directory."""

    def __init__(self, row_bytes: int, directory: Path) -> None:
        self._row = np.dtype(f"V{row_bytes}")
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115  (it lives as long as this object)
        self._map: mmap.mmap | None = None
        self._batches = 0
        self.rows: Raw = np.zeros(0, self._row)

    @property
    def nbytes(self) -> int:
        """Nothing: the kernel may take back all of it."""
        return 0

    def resize(self, count: int) -> None:
        """Become as long. The room is taken from the disk at once: a full disk is an error here, not a crash later."""
        size, before = count * self._row.itemsize, os.fstat(self._file.fileno()).st_size
        if size > before:
            os.posix_fallocate(self._file.fileno(), before, size - before)
        self._unmap()
        os.ftruncate(self._file.fileno(), size)
        if size:
            self._map = mmap.mmap(self._file.fileno(), size)
            self._map.madvise(mmap.MADV_RANDOM)
            self.rows = np.frombuffer(self._map, self._row)

    def _unmap(self) -> None:
        self.rows = np.zeros(0, self._row)
        if self._map is not None:
            self._map.close()  # BufferError where somebody still holds a view: then nothing has changed
            self._map = None

    def rest(self) -> None:
        """Let the pages go, now and then."""
        self._batches += 1
        if self._map is not None and self._batches % REST_EVERY == 0:
            self._map.madvise(mmap.MADV_DONTNEED)

    def __del__(self) -> None:
        with contextlib.suppress(BufferError):
            self._unmap()
        self._file.close()


def spill_of(settings: JoinSettings, directory: Path) -> Spill | None:
    """Give the join its place on disk, where the settings ask for one. Makes the directory. Raises OSError."""
    if settings.spill_above_entries is None:
        return None
    directory.mkdir(parents=True, exist_ok=True)
    return Spill(settings.spill_above_entries, lambda row_bytes: FileRows(row_bytes, directory))
