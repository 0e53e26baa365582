"""What really happened, as far as people know it: drift points and incident windows, to score a replay against."""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from schemas.outputs import DriftKind
from service.document import DocumentError, read_yaml
from service.replay.timeline import Timeline

DEFAULT_TOLERANCE_EVENTS: Final = 1_000
MAX_TRUTH_BYTES: Final = 10_000_000
"""A larger file is refused: it is no list of incidents."""


class TruthError(ValueError):
    """A file of truths cannot be used; the message names the path in it."""


class Happening(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A drift point, or with an end an incident window. Events are counted from 0, per model."""

    name: str = ""
    model_id: Annotated[str | None, Meta(description="null: every model")] = None
    kinds: Annotated[tuple[DriftKind, ...], Meta(description="kinds of alert that detect it; empty: any")] = ()
    event: Annotated[Annotated[int, Meta(ge=0)] | None, Meta(description="the first prediction after it")] = None
    time: Annotated[dt.datetime | int | None, Meta(description="or its event time: ISO 8601, or milliseconds")] = None
    end_event: Annotated[int, Meta(ge=0)] | None = None
    end_time: dt.datetime | int | None = None

    def __post_init__(self) -> None:
        if (self.event is None) == (self.time is None):
            raise ValueError("expected exactly one of event and time")
        if self.end_event is not None and self.end_time is not None:
            raise ValueError("expected at most one of end_event and end_time")


class Truth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is known."""

    tolerance_events: Annotated[
        int, Meta(ge=1, description="an alert within so many events of a drift point has detected it")
    ] = DEFAULT_TOLERANCE_EVENTS
    happenings: tuple[Happening, ...] = ()


class Window(NamedTuple):
    """Where an alert of one model detects a happening: events in [start, end)."""

    name: str
    start: int
    end: int
    start_ms: int
    kinds: frozenset[DriftKind]
    lasts: bool
    """Whether it is an incident window, not a drift point with its tolerance."""

    def detects(self, event: int, kind: DriftKind) -> bool:
        """Whether an alert does."""
        return self.start <= event < self.end and (not self.kinds or kind in self.kinds)


def read_truth(path: Path) -> Truth:
    """Read YAML or JSON. Raises TruthError that names the file and the path in it."""
    try:
        if path.stat().st_size > MAX_TRUTH_BYTES:
            raise TruthError(f"{path}: larger than {MAX_TRUTH_BYTES} bytes")
        return msgspec.convert(read_yaml(path.read_bytes()) or {}, Truth)
    except OSError as error:
        raise TruthError(f"{path}: {error.strerror or error}") from error
    except (DocumentError, msgspec.ValidationError) as error:
        raise TruthError(f"{path}: {error}") from error


def windows_of(truth: Truth, model_id: str, timeline: Timeline) -> list[Window]:
    """Lay the happenings of one model on its ruler, in order. Those behind its last event are left out."""
    concerned = [item for item in truth.happenings if item.model_id in (None, model_id)]
    starts = sorted((_event(timeline, item.event, item.time), place) for place, item in enumerate(concerned))
    windows = []
    for number, (start, place) in enumerate(starts):
        item = concerned[place]
        if start >= timeline.events:
            continue
        lasts = item.end_event is not None or item.end_time is not None
        if lasts:
            end = _event(timeline, item.end_event, item.end_time)
        else:
            # What comes behind the next drift point is that one's.
            later = (other for other, _ in starts[number + 1 :] if other > start)
            end = min(start + truth.tolerance_events, next(later, timeline.events))
        name = item.name or f"drift at {start:,}"
        windows.append(Window(name, start, max(end, start + 1), timeline.time_of(start), frozenset(item.kinds), lasts))
    return windows


def not_scored(truth: Truth, timelines: Mapping[str, Timeline]) -> list[str]:
    """Say where a happening cannot be scored: behind the last event of a model, or of a model that is not there."""
    told = []
    for item in truth.happenings:
        what = _named(item)
        if item.model_id is not None and item.model_id not in timelines:
            told.append(f"{what} is not scored: no event is of the model {item.model_id}")
            continue
        for model_id in sorted(timelines if item.model_id is None else [item.model_id]):
            events = timelines[model_id].events
            if _event(timelines[model_id], item.event, item.time) >= events:
                counted = ", and events are counted per model" if item.event is not None else ""
                told.append(f"{what} is not scored for {model_id}: it comes after its {events:,} events{counted}")
    return told


def _named(item: Happening) -> str:
    at = f"event {item.event:,}" if item.event is not None else f"{item.time}"
    if item.name:
        return f"{item.name} ({at})"
    lasts = item.end_event is not None or item.end_time is not None
    return f"an incident from {at}" if lasts else f"a drift at {at}"


def _event(timeline: Timeline, event: int | None, time: dt.datetime | int | None) -> int:
    if event is not None:
        return event
    if isinstance(time, dt.datetime):
        aware = time if time.tzinfo is not None else time.replace(tzinfo=dt.UTC)
        time = (aware - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)
    return timeline.event_at((time or 0) - 1)
