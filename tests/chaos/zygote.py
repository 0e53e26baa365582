"""Starts service processes at once: everything is imported here, and each of them is a fork.

A start of the interpreter costs most of a second of CPU, in which there is nothing to kill. A fork is as much a process
as any other: it has its own memory, threads, connections and file locks, and kill -9 ends it as it ends any other.

Reads `start`, or `wait PID`, a line each; answers with the pid, or with the exit code.
"""

import asyncio
import os
import sys
from pathlib import Path

import scipy.special

from service.app import configure_logging, run_until_signal
from service.config import load_config
from service.eventlog.sqlite import SqliteLog

__all__ = ["SqliteLog", "scipy"]  # imported before the fork, for the service imports them late


def main() -> None:
    config_file = Path(sys.argv[1])
    for line in sys.stdin:
        match line.split():
            case ["start"]:
                answer = os.fork() or serve(config_file)
            case ["wait", pid]:
                answer = os.waitstatus_to_exitcode(os.waitpid(int(pid), 0)[1])
            case _:
                raise ValueError(line)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def serve(config_file: Path) -> int:
    """Do what `tidegauge run --config FILE` does, and end the process."""
    code = 1
    try:
        config = load_config(config_file)
        configure_logging(config.logging)
        asyncio.run(run_until_signal(config))
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
