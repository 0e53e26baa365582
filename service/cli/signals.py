"""SIGTERM, from the first moment on: whoever is asked to end before the work began has ended well.

Imports the standard library's lightest modules alone: this runs before anything else is imported.
"""

import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from types import FrameType
from typing import Any, Final

ENDLESS: Final = ("run", "demo", "watch")
"""Commands that go on until they are stopped: a stop is their ordinary end, and no failure."""


def end_well_while_starting(arguments: Sequence[str]) -> None:
    """Let SIGTERM end an endless command with 0 while it still imports; nothing is open that would have to be closed.

    Not by an exception: that one would come out of the middle of an import, where libraries may catch it.
    """
    if next((word for word in arguments if not word.startswith("-")), None) in ENDLESS:
        signal.signal(signal.SIGTERM, _end_now)


def _end_now(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # as the signal module calls it
    os._exit(0)


def run_until_sigterm(work: Coroutine[Any, Any, object]) -> None:
    """Run something, and cancel it at SIGTERM: then its files are closed, and the program exits with 0."""
    import asyncio  # noqa: PLC0415  (asyncio is a tenth of a start)

    ended = False

    async def watched() -> None:
        nonlocal ended
        task = asyncio.ensure_future(work)

        def end() -> None:
            nonlocal ended
            ended = True
            task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
        try:
            await task
        except asyncio.CancelledError:
            if not ended:
                raise

    asyncio.run(watched())
    if ended:
        sys.exit(0)
