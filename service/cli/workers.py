"""`tidegauge run --workers N`: one worker in each of N processes, and this process watches over them.

A worker's process is `tidegauge run` with the same options and an HTTP port of its own. Its standard input is a pipe
that this process holds open: when this process is gone, however it went, its workers read the end of it and stop
gracefully, so that none of them goes on unseen and keeps its port.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import structlog

from service.app import run_service
from service.cli.errors import MISUSE, UsageError
from service.config import Config

log = structlog.get_logger(__name__)

WORKER_VARIABLE: Final = "TIDEGAUGE_WORKER"
"""In the environment of a worker's process: its number."""

MAX_WORKERS: Final = 256
"""A process needs some 150 MB; more of them on one machine is a mistake in typing."""

GRACE_S: Final = 10.0
"""What a worker's process gets beyond runtime.stop_timeout_ms, to leave the group and close its connections."""


class Patience(NamedTuple):
    """How long to wait for what. Seconds."""

    stop_s: float
    """After this a worker that was asked to stop is killed. What it had not committed is done again."""
    first_pause_s: float = 0.5
    """Before a worker that ended is started again; doubles with each time."""
    longest_pause_s: float = 30.0
    healthy_s: float = 60.0
    """A worker that lived this long begins with the first pause again."""

    def pause_s(self, failures: int) -> float:
        """Say how long to wait after so many failures in a row; at least one."""
        return min(self.first_pause_s * 2.0 ** min(failures - 1, 30), self.longest_pause_s)


def check_workers(count: int, config: Config) -> None:
    """Raise UsageError where so many workers cannot share the log or the ports."""
    if not 1 <= count <= MAX_WORKERS:
        raise UsageError(f"--workers {count}: expected 1 to {MAX_WORKERS}")
    if count > 1 and config.log.carrier == "sqlite":
        raise UsageError(
            f"--workers {count}: on the embedded log one worker owns all tasks, and others could only wait for its "
            "end; use Kafka (--bootstrap, or log.carrier: kafka), or one worker"
        )
    port = config.http.port
    if config.http.enabled and port and port + count - 1 > 65535:
        raise UsageError(f"--workers {count}: the ports {port} to {port + count - 1} do not all exist")


def worker_commands(count: int, config: Config, options: Sequence[str]) -> list[list[str]]:
    """Give the command line of each worker: ports rise by one from the configured one; 0 stays 0."""
    port = config.http.port
    ports = [port + number if port else 0 for number in range(count)]
    program = [sys.executable, "-m", "service", "run", *options]
    return [[*program, "--http-port", str(port)] for port in ports]


async def supervise(commands: Sequence[Sequence[str]], patience: Patience) -> int:
    """Keep one process of each command running until SIGTERM or SIGINT; give the exit code.

    0 where all ended gracefully; MISUSE where one of them, at its first start, said that it cannot be run as it is,
    which ends the others too; 1 where one had to be killed or failed on its way out.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    jobs = [_keep(number, command, patience, stopping) for number, command in enumerate(commands)]
    codes = await asyncio.gather(*jobs)
    if MISUSE in codes:
        return MISUSE
    return int(any(codes))


async def _keep(number: int, command: Sequence[str], patience: Patience, stopping: asyncio.Event) -> int:
    """Run one worker's process, again and again, until stopped; give its last exit code."""
    loop, failures, starts = asyncio.get_running_loop(), 0, 0
    while not stopping.is_set():
        began = loop.time()
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, env={**os.environ, WORKER_VARIABLE: str(number)}
        )
        starts += 1
        log.info("worker_started", worker=number, pid=process.pid)
        code = await _until_end(process, patience.stop_s, stopping)
        if stopping.is_set():
            log.info("worker_stopped", worker=number, code=code)
            return code
        if code == MISUSE and starts == 1:  # it has said why; another try would say the same
            stopping.set()
            return code
        failures = 1 if loop.time() - began >= patience.healthy_s else failures + 1
        pause_s = patience.pause_s(failures)
        log.error("worker_ended", worker=number, code=code, restart_in_s=pause_s)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), pause_s)
    return 0


async def _until_end(process: asyncio.subprocess.Process, stop_s: float, stopping: asyncio.Event) -> int:
    """Wait for a process's end; once asked to stop it, at most `stop_s`. Gives its exit code."""
    ended, asked = asyncio.create_task(process.wait()), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            _send(process.terminate)
            await asyncio.wait({ended}, timeout=stop_s)
        if not ended.done():
            log.error("worker_killed", pid=process.pid, after_s=stop_s)
            _send(process.kill)
        return await ended
    finally:
        asked.cancel()
        if not ended.done():  # this process itself is torn down: leave nothing behind
            _send(process.kill)


def _send(signal_it: Callable[[], None]) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended by itself
        signal_it()


def is_worker(environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether this process was started by `supervise`."""
    return WORKER_VARIABLE in environment


async def run_as_worker(config: Config) -> None:
    """Run one worker until SIGTERM, SIGINT, or the end of standard input: whoever watched over it is gone."""
    structlog.contextvars.bind_contextvars(worker=int(os.environ[WORKER_VARIABLE]))
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)

    def read() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            loop.remove_reader(sys.stdin.fileno())
            log.warning("supervisor_gone")
            stopping.set()

    loop.add_reader(sys.stdin.fileno(), read)
    await run_service(config, stopping)
