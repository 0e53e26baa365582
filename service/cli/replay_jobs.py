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

MAX_TASKS = 1_000_000
"""More partitions than any topic has: what tells one process's tasks from another's."""


async def run_jobs(directory: Path, plans: Sequence[TaskPlan], jobs: int | None, report: Report) -> int:
    """Replay tasks in `jobs` processes at a time; give how many records there were."""
    commands = [("replay-task", str(directory), str(plan.partition)) for plan in plans]
    return sum(await run_processes(commands, jobs or os.cpu_count() or 1, report))


async def run_processes(commands: Sequence[Sequence[str]], jobs: int, report: Report) -> list[int]:
    """Run commands of this program; give how many records each told of. Raises UsageError with what one said."""
    room = asyncio.Semaphore(jobs)

    async def work(number: int, command: Sequence[str]) -> int:
        async with room:
            return await _run_one(number, command, report)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work(number, command)) for number, command in enumerate(commands)]
    except* UsageError as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def _run_one(number: int, command: Sequence[str], report: Report) -> int:
    records: dict[int, int] = {}
    async with _process(("-m", "service", *command)) as process:
        async for status in _statuses(process):
            records[status.partition] = status.records
            # Several processes may be at the same task, each with a share of the configurations.
            report(status._replace(partition=number * MAX_TASKS + status.partition))
    return sum(records.values())


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
