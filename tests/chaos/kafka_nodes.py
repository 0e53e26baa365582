"""Worker processes, and what is done to them. A process that ends without being told to is started again, and noted."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from service.cli.workers import WORKER_VARIABLE

ROOT = Path(__file__).resolve().parent.parent.parent
MUTANT_VARIABLE = "TIDEGAUGE_MUTANT"
RESTART_PAUSE_S = 0.5
STOP_LIMIT_S = 40.0
"""A graceful end: runtime.stop_timeout_ms, leaving the group and closing connections, on a machine that is busy."""
JOIN_LIMIT_S = 60.0


class UnexpectedError(AssertionError):
    """A worker did what no worker may do."""


class Node:
    """One life of one worker process."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.log = log
        self.frozen = False
        self.doomed = False
        """Whether its end was asked for."""

    def freeze(self) -> None:
        """Stop it where it is; to everybody else it is dead."""
        self.frozen = True
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on as if nothing had happened."""
        self.process.send_signal(signal.SIGCONT)
        self.frozen = False

    async def kill(self) -> None:
        """End it between two instructions."""
        self.doomed = True
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        """Ask for a graceful end. Raises UnexpectedError where it is late, or not graceful."""
        self.doomed = True
        self.process.terminate()
        try:
            code = await asyncio.wait_for(self.process.wait(), STOP_LIMIT_S)
        except TimeoutError:
            raise UnexpectedError(f"{self.log.name}: not stopped {STOP_LIMIT_S:.0f} s after SIGTERM") from None
        # Asked before Python had loaded the program, it has said nothing and has nothing to end.
        if code and not (code == -signal.SIGTERM and not self.last_words()):
            raise UnexpectedError(f"{self.log.name}: exit code {code} after SIGTERM: {self.last_words()}")

    def tasks(self) -> list[int]:
        """Give what the group has given it last, as far as it has said."""
        lines = (line for line in reversed(self.log.read_bytes().splitlines()) if b'"assigned"' in line)
        newest = next(lines, None)
        return [] if newest is None else list(orjson.loads(newest)["tasks"])

    async def joined(self) -> None:
        """Wait until the group has given it something, or it has ended. Raises UnexpectedError."""
        try:
            async with asyncio.timeout(JOIN_LIMIT_S):
                while not self.tasks() and self.process.returncode is None:  # noqa: ASYNC110  # its log tells no event
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise UnexpectedError(f"{self.log.name}: no task {JOIN_LIMIT_S:.0f} s after its start") from None

    def last_words(self) -> str:
        """Give the end of what it said."""
        lines = self.log.read_text().splitlines()
        return " | ".join(lines[-3:])[-600:]


class Fleet:
    """All worker processes of a run."""

    def __init__(self, command: Sequence[str], directory: Path) -> None:
        self._command = command
        self._directory = directory
        self._minders: set[asyncio.Task[None]] = set()
        self._over = False
        self._lives: list[Node] = []
        self.nodes: list[Node] = []
        self.own_ends: list[str] = []
        """Last words of processes that ended by themselves."""

    @property
    def lives(self) -> int:
        """How many processes there have been."""
        return len(self._lives)

    @property
    def awake(self) -> list[Node]:
        """Processes that run."""
        return [node for node in self.nodes if not node.frozen]

    async def start(self) -> Node:
        """Start one more worker."""
        log = self._directory / f"worker-{len(self._lives)}.log"
        with log.open("wb") as sink:
            # As of `tidegauge run --workers`: when this program is gone, its workers read the end of the pipe and stop.
            environment = {**os.environ, WORKER_VARIABLE: str(len(self._lives))}
            process = await asyncio.create_subprocess_exec(
                *self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=sink, stderr=sink, env=environment
            )
        node = Node(process, log)
        self._lives.append(node)
        self.nodes.append(node)
        minder = asyncio.create_task(self._mind(node))
        self._minders.add(minder)
        minder.add_done_callback(self._minders.discard)
        return node

    async def _mind(self, node: Node) -> None:
        code = await node.process.wait()
        self.nodes.remove(node)
        if node.doomed or self._over:
            return
        self.own_ends.append(f"{node.log.name}: exit code {code}: {node.last_words()}")
        await asyncio.sleep(RESTART_PAUSE_S)
        if not self._over:
            await self.start()

    async def stop(self) -> None:
        """Stop all gracefully. Raises UnexpectedError."""
        self._over = True
        for node in self.nodes:
            if node.frozen:
                node.thaw()
        await asyncio.gather(*(node.stop() for node in list(self.nodes)))

    async def bury(self) -> None:
        """Leave no process behind, whatever happened."""
        self._over = True
        for node in list(self.nodes):
            await node.kill()
        for minder in list(self._minders):
            minder.cancel()
        await asyncio.gather(*self._minders, return_exceptions=True)

    def count(self, event: str) -> int:
        """Count the lines of all lives that tell of an event so far."""
        return sum(node.log.read_bytes().count(f'"event": "{event}"'.encode()) for node in self._lives)

    def said(self) -> Iterator[dict[str, Any]]:
        """Give the log lines of all lives. Raises UnexpectedError over a line that is none: a traceback, a warning."""
        for node in self._lives:
            lines = node.log.read_bytes().splitlines()
            for number, line in enumerate(lines):
                try:
                    yield {"node": node.log.name, **orjson.loads(line)}
                except orjson.JSONDecodeError:
                    cut_off = number == len(lines) - 1 and node.process.returncode == -signal.SIGKILL
                    own_end = line.startswith(b"tidegauge: ")
                    if not (cut_off or own_end):
                        raise UnexpectedError(f"{node.log.name}: {line.decode(errors='replace')}") from None


def tally(fleet: Fleet, expected_errors: tuple[str, ...]) -> Counter[str]:
    """Count what the workers' logs say happened. Raises UnexpectedError over a failure that chaos does not explain."""
    counts: Counter[str] = Counter()
    for line in fleet.said():
        counts[str(line["event"])] += 1
        if line["event"] == "task_failed":
            counts[line["error"].split(":")[0]] += 1
            if not line["error"].startswith(expected_errors):
                raise UnexpectedError(f"{line['node']}: {line['error']}\n{line.get('exception', '')}")
    return counts


def service_command(config: Path, *, mutant: str | None = None) -> list[str]:
    """Give the command line of one worker: what `tidegauge run` runs, whole or broken on purpose."""
    module = "service" if mutant is None else "tests.chaos.kafka_mutants"
    variable = [] if mutant is None else ["env", f"{MUTANT_VARIABLE}={mutant}"]
    return [*variable, sys.executable, "-m", module, "run", "--config", str(config)]
