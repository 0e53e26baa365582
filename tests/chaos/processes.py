"""Processes of the service and of its producer, and how they are ended."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Protocol

from tests.chaos.settings import Workplace


class Process(Protocol):
    """A service process that somebody started."""

    pid: int

    def wait(self) -> int:
        """Wait for its end and give its exit code; -9 after SIGKILL."""
        ...


class Zygote:
    """The process that forks service processes."""

    def __init__(self, place: Workplace, said: IO[bytes]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.zygote", str(place.config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )

    def ask(self, line: str) -> int:
        """Send a command and give its answer."""
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the zygote was started without pipes")
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    def start(self) -> "Forked":
        """Fork one."""
        return Forked(self, self.ask("start"))

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


class Forked:
    """A fork of the zygote, whose child only the zygote can wait for."""

    def __init__(self, zygote: Zygote, pid: int) -> None:
        self._zygote = zygote
        self.pid = pid

    def wait(self) -> int:
        return self._zygote.ask(f"wait {self.pid}")


def start_from_scratch(place: Workplace, said: IO[bytes]) -> Process:
    """Start the service as a person does."""
    command = [sys.executable, "-m", "service", "run", "--config", str(place.config)]
    return subprocess.Popen(command, stderr=said)


@contextmanager
def producing(place: Workplace, seed: int, per_second: float, said: IO[bytes]) -> Iterator[None]:
    """Let a producer append for as long as this lasts."""
    command = [sys.executable, "-m", "tests.chaos.producer", str(place.config), str(seed), str(per_second)]
    process = subprocess.Popen(command, stderr=said)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait()
    if code != 0:
        raise RuntimeError(f"the producer ended with {code}")


def kill(process: Process, number: signal.Signals) -> int:
    """Send a signal and give the exit code."""
    os.kill(process.pid, number)
    return process.wait()
