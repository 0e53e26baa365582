"""Tasks of a replay in processes of their own. They are told where the run lies, and tell how far they are in lines."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import orjson

from service.cli.errors import UsageError
from service.replay.plan import TaskPlan
from service.replay.run import Report, Status


async def run_jobs(directory: Path, plans: Sequence[TaskPlan], jobs: int | None, report: Report) -> int:
    """Replay tasks, `jobs` at a time; give how many records there were. Raises UsageError with what a process said."""
    room = asyncio.Semaphore(jobs or os.cpu_count() or 1)

    async def work(plan: TaskPlan) -> int:
        async with room:
            return await _run_one(directory, plan.partition, report)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work(plan)) for plan in plans]
    return sum(task.result() for task in tasks)


async def _run_one(directory: Path, partition: int, report: Report) -> int:
    command = ("-m", "service", "replay-task", str(directory), str(partition))
    records = 0
    async with _process(command) as process:
        async for status in _statuses(process):
            records = status.records
            report(status)
    return records


@contextlib.asynccontextmanager
async def _process(command: Sequence[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
        # A process says at most one line of error, or a traceback: nothing that could fill the pipe.
        said = b"" if process.stderr is None else await process.stderr.read()
        if await process.wait():
            raise UsageError(said.decode(errors="replace").strip().removeprefix("tidegauge: ") or "a process failed")
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def _statuses(process: asyncio.subprocess.Process) -> AsyncIterator[Status]:
    if process.stdout is None:
        return
    while line := await process.stdout.readline():
        yield Status(*orjson.loads(line))
