"""Learns that something was committed, by this process at once and by another one within a poll interval."""

import asyncio
from collections.abc import Awaitable, Callable


class ChangeWatch:
    """Counts changes. One poller serves all who wait, and rests while nobody does."""

    def __init__(self, data_version: Callable[[], Awaitable[int]], poll_interval_s: float) -> None:
        self._data_version = data_version
        self._poll_interval_s = poll_interval_s
        self._last_version = -1
        self._changed = asyncio.Event()
        self._waiting = 0
        self._poller: asyncio.Task[None] | None = None
        self.changes = 0
        """Take this number before you look; then wait for a change beyond it."""

    def touch(self) -> None:
        """Tell that this process has committed something."""
        self.changes += 1
        # Waiters hold the old event; those who come later wait on the new one.
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_beyond(self, changes: int, timeout_s: float) -> bool:
        """Wait until there was a change after number `changes`; say whether there was one in time."""
        if self.changes > changes:
            return True
        self._waiting += 1
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        waiting = asyncio.ensure_future(self._changed.wait())
        try:
            # Also woken if the poller fails, so that its error is not waited out.
            done, _ = await asyncio.wait([waiting, self._poller], timeout=timeout_s, return_when="FIRST_COMPLETED")
            if self._poller in done:
                self._poller.result()
            return self.changes > changes
        finally:
            waiting.cancel()
            self._waiting -= 1

    async def _poll(self) -> None:
        while self._waiting:
            version = await self._data_version()
            if version != self._last_version:
                self._last_version = version
                self.touch()
            await asyncio.sleep(self._poll_interval_s)

    async def close(self) -> None:
        """Stop polling."""
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.wait([self._poller])
