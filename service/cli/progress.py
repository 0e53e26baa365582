"""Progress on standard error, where that is a terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from service.cli.produce import Report, Tally
from service.replay.sources import Contents


@contextmanager
def file_progress() -> Iterator[Report]:
    """Show how much of a file was read, and how fast events are written."""
    if not sys.stderr.isatty():
        yield lambda _tally, _contents: None
        return
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[speed]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None, speed="")

        def report(tally: Tally, contents: Contents) -> None:
            speed = tally.events / tally.elapsed_s if tally.elapsed_s else 0.0
            text = f"{tally.events:,} events, {speed:,.0f}/s"
            progress.update(task, total=contents.size, completed=contents.done(), speed=text)

        yield report
