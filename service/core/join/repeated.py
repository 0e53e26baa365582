"""Keys that occur several times in one segment, one operation after the other.

The rare case, and the definition of the rules: what the masks of `segment` decide for a whole batch is what these lines
decide for one operation.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from service.core.columns import Int
from service.core.join.operations import LabelFate
from service.core.join.rows import (
    JOINED,
    LABEL_BYTES,
    ORPHAN,
    PREDICTION_BYTES,
    ROW_TYPES,
    WAITING,
    Raw,
)
from service.core.join.segment import Extras, Work, joined_rows

STORED = -1


@dataclass(slots=True)
class _Entry:
    kind: int
    time_ms: int
    prediction: bytes = b""
    label: bytes = b""
    revision: int = 0
    extra: bytes | None = None
    operation: int = STORED
    """The operation that made the entry what it is; STORED: one of an earlier segment."""


@dataclass(slots=True)
class _Events:
    """Operations with the bytes that belong to them."""

    operation: list[int] = field(default_factory=list)
    first: list[bytes] = field(default_factory=list)
    second: list[bytes] = field(default_factory=list)

    def add(self, operation: int, first: bytes, second: bytes = b"") -> None:
        self.operation.append(operation)
        self.first.append(first)
        self.second.append(second)

    def operations(self) -> Int:
        return np.array(self.operation, np.int64)


def resolve_repeated(work: Work, operations: Int) -> None:
    """Decide these operations, which are all those of their keys, in rising order."""
    run = _Run(work)
    for operation in operations.tolist():
        run.do(operation)
    run.finish()


class _Run:
    def __init__(self, work: Work) -> None:
        self._segment, self._found, self._horizons = work.segment, work.found, work.horizons
        self._changes, self._entries = work.changes, work.entries
        self._known: dict[tuple[int, int], _Entry | None] = {}
        self._stored: dict[tuple[int, int], tuple[int, int]] = {}
        self._outcomes, self._corrections = _Events(), _Events()
        self._expired_predictions, self._expired_labels, self._dead_outcomes = _Events(), _Events(), _Events()
        self._extras: Extras = []
        self._old_labels: list[bytes] = []

    def do(self, operation: int) -> None:
        segment = self._segment
        key = (int(segment.hi[operation]), int(segment.lo[operation]))
        entry = self._known[key] if key in self._known else self._load(key, operation)
        watermark_ms = int(segment.watermark_ms[operation])
        if entry is not None and entry.time_ms < watermark_ms - self._horizons[entry.kind]:
            self._expire(entry, operation)
            entry = None
        act = self._label if segment.is_label[operation] else self._prediction
        self._known[key] = act(operation, int(segment.place[operation]), entry)

    def _load(self, key: tuple[int, int], operation: int) -> _Entry | None:
        """Read the entry that the key had before the segment."""
        for kind, matches in self._found.of.items():
            at = int(matches.index.searchsorted(operation))
            if at < len(matches.index) and matches.index[at] == operation:
                number = int(matches.numbers[at])
                self._stored[key] = (kind, number)
                return self._read(kind, matches.rows[at : at + 1], number)
        return None

    def _read(self, kind: int, row: Raw, number: int) -> _Entry:
        fields = row.view(ROW_TYPES[kind])[0]
        entry = _Entry(kind, int(fields["time_ms"]))
        if kind != ORPHAN:
            entry.prediction = fields["prediction"].tobytes()
        if kind != WAITING:
            entry.label, entry.revision = fields["label"].tobytes(), int(fields["revision"])
        else:
            entry.extra = self._entries.stores[WAITING].extras_of(np.array([number]))[0]
        return entry

    def _expire(self, entry: _Entry, operation: int) -> None:
        if entry.kind == WAITING:
            self._expired_predictions.add(operation, entry.prediction)
        elif entry.kind == ORPHAN:
            self._expired_labels.add(operation, entry.label)
        else:
            self._dead_outcomes.add(operation, entry.prediction)

    def _prediction(self, operation: int, place: int, entry: _Entry | None) -> _Entry:
        if entry is not None and entry.kind != ORPHAN:
            self._changes.new_prediction[place] = False
            return entry
        segment = self._segment
        prediction = segment.predictions[place].tobytes()
        extra = segment.extras[place] if segment.extras is not None else None
        if entry is None:
            now_ms = int(segment.watermark_ms[operation])
            return _Entry(WAITING, now_ms, prediction, extra=extra, operation=operation)
        return self._join(operation, replace(entry, prediction=prediction, extra=extra))

    def _label(self, operation: int, place: int, entry: _Entry | None) -> _Entry:
        segment, fate = self._segment, self._changes.label_fate
        label, fields = segment.labels[place].tobytes(), segment.label_fields[place]
        revision, now_ms = int(fields["revision"]), int(segment.watermark_ms[operation])
        waiting = _Entry(ORPHAN, now_ms, label=label, revision=revision, operation=operation)
        if entry is None:
            return waiting
        if entry.kind == WAITING:
            fate[place] = LabelFate.JOINED
            return self._join(operation, replace(entry, label=label, revision=revision))
        if revision <= entry.revision:
            fate[place] = LabelFate.DUPLICATE
            return entry
        if entry.kind == ORPHAN:
            fate[place] = LabelFate.REPLACED
            return waiting
        fate[place] = LabelFate.CORRECTED
        self._corrections.add(operation, entry.prediction, label)
        self._old_labels.append(entry.label)
        return replace(entry, label=label, revision=revision, operation=operation, time_ms=now_ms)

    def _join(self, operation: int, entry: _Entry) -> _Entry:
        self._outcomes.add(operation, entry.prediction, entry.label)
        self._extras.append(entry.extra)
        joined_ms = int(self._segment.watermark_ms[operation])
        return replace(entry, kind=JOINED, time_ms=joined_ms, extra=None, operation=operation)

    def finish(self) -> None:
        """Hand over what happened, and the entries as they are now."""
        changes = self._changes
        if self._outcomes.operation:
            changes.outcomes.append(self._joined_rows(self._outcomes))
            changes.outcome_extras.append(self._extras)
        if self._corrections.operation:
            changes.corrections.append(self._joined_rows(self._corrections))
            changes.old_labels.append((self._corrections.operations(), _items(self._old_labels, LABEL_BYTES)))
        for events, parts, item in (
            (self._expired_predictions, changes.expired_predictions, PREDICTION_BYTES),
            (self._expired_labels, changes.expired_labels, LABEL_BYTES),
            (self._dead_outcomes, changes.dead_outcomes, PREDICTION_BYTES),
        ):
            if events.operation:
                parts.append((events.operations(), _items(events.first, item)))
        last: dict[int, list[int]] = {WAITING: [], ORPHAN: [], JOINED: []}
        for key, entry in self._known.items():
            if entry is not None and entry.operation != STORED:
                last[entry.kind].append(entry.operation)
                if key in self._stored:
                    kind, number = self._stored[key]
                    changes.replaced.append((kind, np.array([number])))
        changes.waiting.append(np.array(sorted(last[WAITING]), np.int64))
        changes.orphans.append(np.array(sorted(last[ORPHAN]), np.int64))
        passing = {*self._outcomes.operation, *self._corrections.operation}.difference(last[JOINED])
        changes.forgotten.append(np.array(sorted(passing), np.int64))

    def _joined_rows(self, events: _Events) -> tuple[Int, Raw]:
        operation = events.operations()
        predictions, labels = _items(events.first, PREDICTION_BYTES), _items(events.second, LABEL_BYTES)
        return operation, joined_rows(self._segment, operation, predictions, labels)


def _items(items: list[bytes], item: np.dtype[np.void]) -> Raw:
    return np.frombuffer(b"".join(items), item)
