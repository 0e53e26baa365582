"""What a replay reads, opened as its options say: a range of the topics, or a file."""

import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from schemas.cloudevents import default_source
from service.app import open_log
from service.cli.errors import UsageError
from service.cli.replay_options import Given
from service.config import Config
from service.core.intake import Positions
from service.replay.file_feed import FILE_END, FileRequest
from service.replay.mapping import ColumnMapping, read_start, zone_of
from service.replay.plan import ReplayPlan, TaskPlan, make_plan, read_edge
from service.replay.run import Origin
from service.replay.sources import BadRow

FILE_START_MS: Final = 946_684_800_000
"""2000-01-01T00:00:00Z. Event time of a file's first row where nothing says it: the same at every replay."""


NAMED_BAD_ROWS: Final = 20
"""Rows that cannot be used are named up to here; all are counted."""


class BadRows:
    """Names the first rows of a file that cannot be used, and counts all."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.count = 0

    def take(self, row: BadRow) -> None:
        """Note one."""
        self.count += 1
        if self.count <= NAMED_BAD_ROWS:
            sys.stderr.write(f"{self._path}:{row.line}: {row.message}\n")


class Opened(NamedTuple):
    """What is to be replayed, ready to be read."""

    origin: Origin
    plan: ReplayPlan
    source: dict[str, Any]
    """As run.json tells it."""
    bad_rows: BadRows


def file_request(given: Given) -> FileRequest:
    """Read the options that say how a file is read. Raises UsageError."""
    if given["model_id"] is None or given["prediction"] is None:
        raise UsageError("a file needs --model-id (the model's name, or @COLUMN) and --prediction COLUMN")
    if given["label_delay_events"] and given["label_delay_ms"] is not None:
        raise UsageError("--label-delay-events and --label-delay-ms exclude each other")
    if len(given["delimiter"]) != 1:
        raise UsageError(f"--delimiter {given['delimiter']!r}: expected one character")
    zone_of(given["time_zone"])  # refused before anything is opened
    same = (
        "model_id",
        "model_version",
        "prediction_id",
        "prediction",
        "score",
        "score_class",
        "label",
        "latency",
        "time",
    )
    mapping = ColumnMapping(
        **{name: given[name] for name in (*same, "time", "time_unit", "time_zone", "step_ms")},
        start_ms=FILE_START_MS if given["start"] is None else read_start(given["start"], given["time_zone"]),
        features=None if given["features"] is None else _names(given["features"]),
        exclude=_names(given["exclude"]),
        segments=_names(given["segments"]),
        embeddings=_names(given["embeddings"]),
    )
    read = ("file_format", "delimiter", "label_delay_events", "label_delay_ms", "limit")
    return FileRequest(path=str(given["file"]), mapping=mapping, **{name: given[name] for name in read})


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name for name in (text or "").split(",") if name)


@contextlib.asynccontextmanager
async def opened(config: Config, given: Given, only: int | None = None) -> AsyncIterator[Opened]:
    """Open what the options name, and fix its range, or that of one task. Raises UsageError, RangeError or LogError."""
    if given["file"] is not None:
        request = file_request(given)
        whole = TaskPlan(partition=0, start=Positions(0, 0, 0), end=Positions(0, FILE_END, FILE_END))
        source = {"file": msgspec.to_builtins(request)}
        bad_rows = BadRows(given["file"])
        origin = Origin(config.topics.inputs, file=request, refuse=bad_rows.take)
        yield Opened(origin, ReplayPlan(tasks=(whole,)), source, bad_rows)
        return
    if config.log.carrier == "sqlite" and not Path(config.log.sqlite.path).exists():  # noqa: ASYNC240  # nothing waits
        raise UsageError(f"{config.log.sqlite.path}: no such log, and no FILE was named")
    async with open_log(config.log) as log:
        first, last = read_edge(given["from_"]), read_edge(given["to"])
        plan, boundaries = await make_plan(
            log, config.topics, first, last, given["order"], warm_up=given["warm_up"], only=only
        )
        source = {"carrier": config.log.carrier, "cloudevents_source": default_source(config.runtime.name)}
        yield Opened(
            Origin(config.topics.inputs, log, boundaries, rule=config.topics.rule), plan, source, BadRows(Path())
        )
