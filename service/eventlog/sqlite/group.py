"""Groups on the embedded log: one worker owns all tasks, under a file lock that dies with its process.

A second process of the same group waits, and takes over when the first ends, however it ends. A process that is stopped
(SIGSTOP) keeps its lock.
"""

import asyncio
import fcntl
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import IO

from service.eventlog.errors import LogError, UnavailableError
from service.eventlog.mailbox import AssignmentMailbox
from service.eventlog.protocol import Assignment, TopicPartition

RETRY_S = 0.2


def lock_path(log: Path, group: str) -> Path:
    """Name the lock file of a group, beside the log. A hash, for a group's name may hold what a file's may not."""
    return log.with_name(f"{log.name}.{hashlib.sha256(group.encode()).hexdigest()[:16]}.lock")


def try_lock(path: Path) -> IO[bytes] | None:
    """Take the lock and give the open file that holds it, or None while another one has it."""
    lock = path.open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


class SqliteMembership:
    """All tasks or none."""

    def __init__(
        self, path: Path, task_count: int, publish: Callable[[Mapping[TopicPartition, int]], Awaitable[None]]
    ) -> None:
        self._path = path
        self._tasks = frozenset(range(task_count))
        self._publish = publish
        self._mailbox = AssignmentMailbox()
        self._lock: IO[bytes] | None = None
        self._waiting = asyncio.create_task(self._wait_for_lock())

    async def _wait_for_lock(self) -> None:
        try:
            self._lock = try_lock(self._path)
            if self._lock is None:
                self._mailbox.put(frozenset())
            while self._lock is None:
                await asyncio.sleep(RETRY_S)
                self._lock = try_lock(self._path)
        except OSError as error:
            self._mailbox.fail(UnavailableError(f"{self._path}: {error}"))
        else:
            self._mailbox.put(self._tasks)

    def assignments(self) -> AsyncIterator[Assignment]:
        """Give none of the tasks while another worker has them, all of them from then on."""
        return self._mailbox.assignments()

    async def released(self, generation: int) -> None:
        """Do nothing: tasks move only when this membership is closed."""

    async def publish_positions(self, positions: Mapping[TopicPartition, int]) -> None:
        """Keep the positions for those who ask the group."""
        try:
            await self._publish(positions)
        except LogError:
            # Best effort by contract: the next commit publishes newer ones.
            return

    async def close(self) -> None:
        """Give the lock up."""
        self._waiting.cancel()
        await asyncio.wait([self._waiting])
        self._mailbox.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None
