"""`tidegauge produce`: rows of a file into the topics of predictions and labels."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import msgspec

from schemas.events import Label
from service.cli.errors import UsageError
from service.eventlog.partitioner import RULES
from service.eventlog.protocol import Appender, NewRecord
from service.replay.delay import Delay, EventDelay, TimeDelay
from service.replay.events import GoodRow, encode_input, read_events
from service.replay.mapping import ColumnMapping, RowMapper, check_columns
from service.replay.sources import BadRow, Contents, Source
from service.runtime.settings import TopicSettings

Only = Literal["predictions", "labels"]

BATCH_RECORDS = 2_000
"""Records that are appended at once; of a limited rate a twentieth of a second's."""
BATCHES_PER_SECOND = 20

NAMED_BAD_ROWS = 20
"""Bad rows that are named; all are counted."""


class ProduceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be produced, from where, and how fast."""

    source: Source
    mapping: ColumnMapping
    """Its start_ms counts only where `start_given`; else it is chosen so that the last event lies before now."""
    start_given: bool = False
    label_delay_events: int = 0
    label_delay_ms: int | None = None
    only: Only | None = None
    rate: float | None = None
    """Records a second; None: as fast as it goes."""
    limit: int | None = None
    """Rows."""
    strict: bool = False
    """The first bad row ends it."""
    max_future_ms: int = 3_600_000


@dataclass
class Tally:
    """What was done so far."""

    rows: int = 0
    predictions: int = 0
    labels: int = 0
    unlabelled_rows: int = 0
    bad_rows: int = 0
    named_bad_rows: list[BadRow] = field(default_factory=list)
    ahead: int = 0
    """Events so far ahead of the clock that the service will refuse them."""
    first_event_time_ms: int | None = None
    last_event_time_ms: int | None = None
    elapsed_s: float = 0.0

    @property
    def events(self) -> int:
        """Records written."""
        return self.predictions + self.labels

    def as_json(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "rows": self.rows,
            "predictions": self.predictions,
            "labels": self.labels,
            "unlabelled_rows": self.unlabelled_rows,
            "bad_rows": self.bad_rows,
            "first_bad_rows": [row._asdict() for row in self.named_bad_rows],
            "events_ahead_of_clock": self.ahead,
            "first_event_time_ms": self.first_event_time_ms,
            "last_event_time_ms": self.last_event_time_ms,
            "elapsed_s": round(self.elapsed_s, 3),
            "events_per_second": round(self.events / self.elapsed_s, 1) if self.elapsed_s else None,
        }


class _Out(NamedTuple):
    """One record to write."""

    is_label: bool
    key: bytes
    value: bytes
    time_ms: int


Report = Callable[[Tally, Contents], None]


async def produce(
    request: ProduceRequest, appender: Appender, topics: TopicSettings, partitions: int, report: Report
) -> Tally:
    """Write the file's events in order of event time. Raises SourceError, MappingError, UsageError or LogError."""
    now_ms = time.time_ns() // 1_000_000
    mapping = _with_start(request, now_ms)
    _check(mapping, request.only)
    tally, began, pace = Tally(), time.monotonic(), _Pace(request.rate)
    with request.source as contents:
        if contents.columns is not None:
            check_columns(mapping, contents.columns)
        waiting: list[_Out] = []
        for outs in _outs(request, mapping, contents, tally):
            waiting.extend(outs)
            while len(waiting) >= pace.batch_records:
                await _append(waiting[: pace.batch_records], appender, topics, partitions)
                _count(waiting[: pace.batch_records], tally, now_ms + request.max_future_ms)
                del waiting[: pace.batch_records]
                tally.elapsed_s = time.monotonic() - began
                report(tally, contents)
                await pace.wait(tally.events)
        await _append(waiting, appender, topics, partitions)
        _count(waiting, tally, now_ms + request.max_future_ms)
        tally.elapsed_s = time.monotonic() - began
        report(tally, contents)
    return tally


class _Pace:
    """Holds a rate on the average since the beginning."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._began = time.monotonic()
        self.batch_records = BATCH_RECORDS
        if rate is not None:
            self.batch_records = max(1, min(BATCH_RECORDS, int(rate / BATCHES_PER_SECOND)))

    async def wait(self, events: int) -> None:
        if self._rate is not None:
            due = self._began + events / self._rate
            await asyncio.sleep(max(due - time.monotonic(), 0.0))


def _check(mapping: ColumnMapping, only: Only | None) -> None:
    if mapping.prediction is None and only != "labels":
        raise UsageError("--prediction COLUMN is needed, or --only labels")
    if mapping.label is None and only == "labels":
        raise UsageError("--only labels needs --label COLUMN")


def _with_start(request: ProduceRequest, now_ms: int) -> ColumnMapping:
    """Choose a start so that the last event, labels included, lies before now."""
    mapping = request.mapping
    if mapping.time is not None or request.start_given:
        return mapping
    rows = request.source.count_at_most()
    if request.limit is not None:
        rows = min(rows, request.limit)
    span_ms = (rows + request.label_delay_events) * mapping.step_ms + (request.label_delay_ms or 0)
    # Whole seconds are easier to read.
    start_ms = max((now_ms - span_ms) // 1000 * 1000, 0)
    return msgspec.structs.replace(mapping, start_ms=start_ms)


def _outs(request: ProduceRequest, mapping: ColumnMapping, contents: Contents, tally: Tally) -> Iterator[list[_Out]]:
    """Give what is to be written, in order, a list for each chunk of rows."""
    delay: Delay
    if request.label_delay_ms is not None:
        delay = TimeDelay(request.label_delay_ms)
    else:
        delay = EventDelay(request.label_delay_events)
    mapper = RowMapper(mapping, texts=contents.texts)
    for chunk in read_events(contents.rows, mapper, limit=request.limit):
        outs: list[_Out] = []
        for row in chunk:
            tally.rows += 1
            if isinstance(row, BadRow):
                _note_bad(request, row, tally)
            else:
                outs.extend(_row(row, delay, request.only, tally, labelled=mapping.label is not None))
        yield outs
    if request.only != "predictions":
        yield [_label(label) for label in delay.rest()]


def _row(row: GoodRow, delay: Delay, only: Only | None, tally: Tally, *, labelled: bool) -> Iterator[_Out]:
    mapped = row.mapped
    if mapped.prediction is not None and row.prediction is not None and only != "labels":
        yield _Out(
            is_label=False, key=mapped.prediction.model_id.encode(), value=row.prediction, time_ms=mapped.time_ms
        )
    if only != "predictions":
        tally.unlabelled_rows += labelled and mapped.label is None
        yield from map(_label, delay.row(mapped.time_ms, mapped.label))


def _label(label: Label) -> _Out:
    return _Out(is_label=True, key=label.model_id.encode(), value=encode_input(label), time_ms=label.event_time_ms)


def _note_bad(request: ProduceRequest, row: BadRow, tally: Tally) -> None:
    if request.strict:
        written = f"{tally.events:,} events of earlier rows were written"
        raise UsageError(f"{request.source.path}:{row.line}: {row.message} (--strict; {written})")
    tally.bad_rows += 1
    if len(tally.named_bad_rows) < NAMED_BAD_ROWS:
        tally.named_bad_rows.append(row)


async def _append(outs: list[_Out], appender: Appender, topics: TopicSettings, partitions: int) -> None:
    rule = RULES[topics.rule or "murmur2"]
    # No timestamp: the log stamps the moment of writing, on which retention counts. Event time is in the event.
    records = [
        NewRecord(
            topics.labels if out.is_label else topics.predictions,
            rule(out.key, partitions),
            out.key,
            out.value,
        )
        for out in outs
    ]
    if records:
        await appender.append(records)


def _count(outs: list[_Out], tally: Tally, latest_ms: int) -> None:
    for out in outs:
        tally.labels += out.is_label
        tally.predictions += not out.is_label
        tally.ahead += out.time_ms > latest_ms
    if outs:
        times = [out.time_ms for out in outs]
        first, last = tally.first_event_time_ms, tally.last_event_time_ms
        tally.first_event_time_ms = min(times) if first is None else min(first, *times)
        tally.last_event_time_ms = max(times) if last is None else max(last, *times)
