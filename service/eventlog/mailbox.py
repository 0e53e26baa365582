"""Where a carrier leaves the newest assignment for the worker. It holds one: only the newest matters."""

import asyncio
from collections.abc import AsyncIterator

from service.eventlog.errors import LogError
from service.eventlog.protocol import Assignment


class AssignmentMailbox:
    """A box of one assignment, or the error that ends the membership."""

    def __init__(self) -> None:
        self._newest: Assignment | None = None
        self._error: LogError | None = None
        self._closed = False
        self._changed = asyncio.Event()
        self.generation = 0
        """Of the last assignment that was put in; 0 before the first."""

    def put(self, tasks: frozenset[int]) -> int:
        """Leave an assignment of the next generation, in place of one that nobody took; give its generation."""
        return self._put(tasks, settled=True)

    def revoke(self) -> int:
        """Take everything back until the next `put`; give the generation."""
        return self._put(frozenset(), settled=False)

    def _put(self, tasks: frozenset[int], *, settled: bool) -> int:
        self.generation += 1
        self._newest = Assignment(self.generation, tasks, settled)
        self._changed.set()
        return self.generation

    def fail(self, error: LogError) -> None:
        """Let the worker's next look raise this."""
        self._error = error
        self._changed.set()

    def close(self) -> None:
        """Let the worker's iteration end."""
        self._closed = True
        self._changed.set()

    async def assignments(self) -> AsyncIterator[Assignment]:
        """Give each assignment as it comes, until the box is closed or failed."""
        while not self._closed:
            await self._changed.wait()
            self._changed.clear()
            if self._error is not None:
                raise self._error
            newest, self._newest = self._newest, None
            if newest is not None and not self._closed:
                yield newest
