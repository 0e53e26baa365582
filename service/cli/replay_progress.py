"""Progress of replays on standard error, where that is a terminal: how much, how fast, how long yet."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from service.replay.run import Report, Status


class Meter:
    """Adds up what the tasks report."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._tasks: dict[int, Status] = {}

    def take(self, status: Status) -> None:
        """Note how far a task is."""
        self._tasks[status.partition] = status

    @property
    def records(self) -> int:
        """Records of all tasks."""
        return sum(status.records for status in self._tasks.values())

    @property
    def done(self) -> tuple[int, int]:
        """How much of how much."""
        statuses = self._tasks.values()
        return sum(status.done for status in statuses), sum(status.total for status in statuses)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    @property
    def rate(self) -> float:
        """Records a second since the beginning."""
        return self.records / self.elapsed_s if self.elapsed_s else 0.0


@contextmanager
def replay_progress(meter: Meter) -> Iterator[Report]:
    """Show the sum of all tasks."""
    if not sys.stderr.isatty():
        yield meter.take
        return
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[speed]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None, speed="")

        def report(status: Status) -> None:
            meter.take(status)
            done, total = meter.done
            progress.update(task, total=total, completed=done, speed=f"{meter.records:,} records, {meter.rate:,.0f}/s")

        yield report
