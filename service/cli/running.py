"""What `tidegauge run` does: one worker in this process, or several in processes of their own."""

import asyncio
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec

from service.app import configure_logging, run_until_signal
from service.cli.workers import (
    GRACE_S,
    Patience,
    check_workers,
    is_worker,
    run_as_worker,
    supervise,
    worker_commands,
)
from service.config import Config, redaction


class RunOptions(NamedTuple):
    """The options of `tidegauge run` as they were given, so that workers can be given the same."""

    config: Path | None
    bootstrap: str | None
    log: Path | None
    http_port: int | None

    def words(self) -> list[str]:
        """Write them as a command line, but for the port, which every worker has of its own."""
        given = {"--config": self.config, "--bootstrap": self.bootstrap, "--log": self.log}
        return [word for name, value in given.items() if value is not None for word in (name, str(value))]


def run_workers(config: Config, options: RunOptions, workers: int) -> None:
    """Run until a signal, and exit with the workers' code where there are several. Raises UsageError or LogError."""
    if options.http_port is not None:
        config = msgspec.structs.replace(config, http=msgspec.structs.replace(config.http, port=options.http_port))
    check_workers(workers, config)
    configure_logging(config.logging, redaction(config))
    if is_worker():
        asyncio.run(run_as_worker(config))
    elif workers == 1:
        asyncio.run(run_until_signal(config))
    else:
        patience = Patience(stop_s=config.runtime.stop_timeout_ms / 1000 + GRACE_S)
        sys.exit(asyncio.run(supervise(worker_commands(workers, config, options.words()), patience)))
