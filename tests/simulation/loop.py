"""An event loop whose time passes only when nobody has anything to do. A minute of waiting costs nothing.

Callbacks that are due at the same moment run in the order in which they were scheduled, so a run depends on nothing
but what it draws from its own generators.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class EveryoneWaitsError(Exception):
    """No callback is due, now or later: whatever the coroutines wait for will never come."""


class _NoWaiting(selectors.DefaultSelector):
    """Moves its loop's clock on instead of waiting."""

    loop: "VirtualTimeLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise EveryoneWaitsError
        self.loop.now += max(timeout, 0.0)
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Begins at zero seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        selector = _NoWaiting()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
