"""Waiting for what a service does in its own time."""

import asyncio
from collections.abc import Callable

from service.runtime.worker import Worker


async def until(happened: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Wait until something is true: the service knows no tests, and so tells them nothing."""
    async with asyncio.timeout(timeout_s):
        while not happened():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def failure(worker: Worker, partition: int = 0) -> str:
    """Wait until a task has failed for good, and give its error as it is shown."""
    await until(lambda: partition in worker.stats and worker.stats[partition].phase == "failed")
    assert not worker.ready
    return worker.stats[partition].last_error or ""
