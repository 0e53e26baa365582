"""Backtests of public streams with the default configuration: a table, and a report of each.

    python -m benchmarks.gallery ../shared/data gallery

writes gallery/<stream>.html and prints the table. The model is a Hoeffding tree that answers each row before it learns
it; rows are a second apart, labels come 100 rows later, and an alert within 1,000 rows of a drift has found it. A tree
that goes on learning forgets a concept by itself, if slowly: what is to be found is its fall in between.
"""

import asyncio
import csv
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from examples.elec2_predictions import predictions
from service.config import Config, shown
from service.core.intake import Positions
from service.replay.backtest import Backtest, backtest
from service.replay.file_feed import FILE_END, FileRequest
from service.replay.mapping import ColumnMapping
from service.replay.plan import TaskPlan
from service.replay.report.page import write_report
from service.replay.run import Origin
from service.replay.session import Settings
from service.replay.truth import Happening, Truth

Row = dict[str, str]

START_MS = 946_684_800_000
"""2000-01-01T00:00:00Z, as `tidegauge backtest` has it where nothing else is said."""


class Stream(NamedTuple):
    """A public stream with its known drifts."""

    name: str
    files: tuple[str, ...]
    drifts: tuple[int, ...]


STREAMS = (
    Stream("elec2", ("elec2/elec.csv",), (17_424,)),
    Stream("sea", ("sea/SEA_training_data.csv", "sea/SEA_training_class.csv"), (12_500, 25_000, 37_500)),
    Stream("sine1", ("tornado/sine1_w_50_n_0.1_101.arff",), (20_000, 40_000, 60_000, 80_000)),
    Stream("circles", ("tornado/circles_w_500_n_0.1_101.arff",), (25_000, 50_000, 75_000)),
)


def rows_of(stream: Stream, data: Path) -> Iterator[Row]:
    """Give the rows, with the truth in `class`: 0 or 1."""
    first, *more = (data / name for name in stream.files)
    with first.open(newline="") as file:
        if more:
            with more[0].open() as labels:
                for line, label in zip(csv.reader(file), labels, strict=True):
                    yield {f"x{number}": cell for number, cell in enumerate(line)} | {"class": label.strip()}
        elif first.suffix == ".arff":
            for *cells, label in csv.reader(itertools.islice(_behind(file, "@data"), None)):
                named = {f"x{number}": cell for number, cell in enumerate(cells)}
                yield named | {"class": str(int(label.strip() == "p"))}
        else:
            yield from csv.DictReader(file)


def _behind(lines: Iterator[str], mark: str) -> Iterator[str]:
    """Give the lines behind a mark that hold something."""
    behind = itertools.dropwhile(lambda line: line.strip().lower() != mark, lines)
    return (line for line in itertools.islice(behind, 1, None) if line.strip())


def write_predictions(stream: Stream, data: Path, path: Path) -> float:
    """Write what the model says of each row; give its accuracy."""
    right = total = 0
    with path.open("w", newline="") as file:
        writer: csv.DictWriter[str] | None = None
        for row in predictions(rows_of(stream, data)):
            if writer is None:
                writer = csv.DictWriter(file, list(row))
                writer.writeheader()
            writer.writerow(row)
            right += int(row["prediction"]) == int(float(row["label"]))
            total += 1
    return right / max(total, 1)


async def score(stream: Stream, path: Path, report: Path) -> Backtest:
    """Backtest a stream's predictions with the default configuration."""
    config = Config()
    mapping = ColumnMapping(
        model_id=stream.name, start_ms=START_MS, prediction="prediction", score="score", label="label"
    )
    request = FileRequest(path=str(path), mapping=mapping, label_delay_events=100)
    plan = TaskPlan(partition=0, start=Positions(0, 0, 0), end=Positions(0, FILE_END, FILE_END))
    truth = Truth(happenings=tuple(Happening(event=event) for event in stream.drifts))
    settings = Settings(config.core, config.runtime, config.topics)
    found = await backtest(settings, Origin(config.topics.inputs, file=request), [plan], truth, lambda _: None)
    ranges = [f"{stream.name}: rows without a time, told as if they came a second apart from 2000 on"]
    write_report(report, found, truth, shown(config), ranges)
    return found


def line(stream: Stream, accuracy: float, found: Backtest) -> str:
    """Write a row of the table."""
    own, always, *_ = found.scores[0].tallies
    delay = "" if own.mean_delay_events is None else f"{own.mean_delay_events:,.0f}"
    cells = (
        stream.name,
        f"{found.scores[0].events:,}",
        f"{accuracy:.3f}",
        f"{own.detected} of {len(stream.drifts)}",
        delay,
        f"{own.false_alarms}",
        f"{own.false_per_10k_events:.2f}",
        f"{always.false_per_10k_events:,.0f}",
        f"{own.cost.fine_tunes}",
    )
    return "| " + " | ".join(cells) + " |"


def main(data: Path, out: Path) -> None:
    """Backtest all streams."""
    out.mkdir(parents=True, exist_ok=True)
    heads = (
        "stream",
        "rows",
        "accuracy",
        "drifts found",
        "delay, rows",
        "false",
        "per 10k",
        "always firing",
        "triggers",
    )
    print("| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads))
    for stream in STREAMS:
        path = out / f"{stream.name}.csv"
        accuracy = write_predictions(stream, data, path)
        found = asyncio.run(score(stream, path, out / f"{stream.name}.html"))
        print(line(stream, accuracy, found), flush=True)
        path.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
