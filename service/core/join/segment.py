"""What a run of operations does to the entries, for all operations at once.

Operations on different keys do not touch each other, so keys that occur once in the segment are decided by masks over
the whole segment. So are keys that occur twice as a prediction and its label, with no entry before. What is left (keys
that occur more often, or twice in another way) goes one by one through `repeated`. Everything is sorted by operation in
the end, so the result is that of doing one operation after the other.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.core.columns import Bool, Int
from service.core.join.entries import Entries, Found, Matches
from service.core.join.index import U64
from service.core.join.operations import LabelFate
from service.core.join.rows import (
    JOINED,
    JOINED_ROW,
    ORPHAN,
    ORPHAN_ROW,
    ROW_TYPES,
    WAITING,
    WAITING_ROW,
    Raw,
    empty,
    in_order,
)

Horizons = dict[int, int]
"""Kind to milliseconds that an entry of it outlives its time."""
Extras = list[bytes | None]


class Segment(NamedTuple):
    """Operations between two checks of the bounds. Shape (n,) each, unless said otherwise."""

    is_label: Bool
    hi: U64
    lo: U64
    watermark_ms: Int
    place: Int
    """Index of the operation's row in `predictions` or in `labels`."""
    predictions: Raw
    labels: Raw
    prediction_fields: NDArray[np.void]
    label_fields: NDArray[np.void]
    extras: Extras | None

    def extras_of(self, operation: Int) -> Extras | None:
        """Give the extras of predictions."""
        if self.extras is None:
            return None
        return [self.extras[place] for place in self.place.take(operation).tolist()]


@dataclass(slots=True)
class Changes:
    """What the segment does. Each part is (operations, rows), operations rising within it."""

    new_prediction: Bool
    label_fate: NDArray[np.uint8]
    waiting: list[Int] = field(default_factory=list)
    """Predictions that wait from now on."""
    orphans: list[Int] = field(default_factory=list)
    """Labels that wait from now on."""
    outcomes: list[tuple[Int, Raw]] = field(default_factory=list)
    outcome_extras: list[Extras | None] = field(default_factory=list)
    corrections: list[tuple[Int, Raw]] = field(default_factory=list)
    old_labels: list[tuple[Int, Raw]] = field(default_factory=list)
    forgotten: list[Int] = field(default_factory=list)
    """Operations whose outcome or correction is not remembered, because its key was changed again in the segment."""
    expired_predictions: list[tuple[Int, Raw]] = field(default_factory=list)
    expired_labels: list[tuple[Int, Raw]] = field(default_factory=list)
    dead_outcomes: list[tuple[Int, Raw]] = field(default_factory=list)
    """Predictions of outcomes that were remembered for too long."""
    replaced: list[tuple[int, Int]] = field(default_factory=list)
    """(kind, numbers) of rows that are not those of their entries any more."""


class Work(NamedTuple):
    """A segment, what it meets, and what comes of it."""

    segment: Segment
    found: Found
    entries: Entries
    horizons: Horizons
    changes: Changes


def resolve_single(work: Work, alone: Bool | None) -> None:
    """Decide the operations on keys that occur once. `alone` tells which those are; None: all."""
    absent = work.found.slot < 0
    if alone is not None:
        absent &= alone
    if absent.any():
        _arrive(work, absent.nonzero()[0])
    for kind, matches in work.found.of.items():
        ours = matches if alone is None else _select(matches, alone.take(matches.index))
        living = _without_dead(work, kind, ours)
        is_label = work.segment.is_label.take(living.index)
        labels = _select(living, is_label)
        if len(labels.index):
            _labels_meet(work, kind, labels)
        if len(labels.index) < len(living.index):
            _predictions_meet(work, kind, _select(living, ~is_label))


def _select(matches: Matches, which: Bool) -> Matches:
    if which.all():
        return matches
    return Matches(matches.index[which], matches.numbers[which], matches.rows[which])


def _arrive(work: Work, operation: Int) -> None:
    """Let predictions and labels wait that meet nothing."""
    labels = work.segment.is_label.take(operation)
    work.changes.orphans.append(operation[labels])
    work.changes.waiting.append(operation[~labels])


def _without_dead(work: Work, kind: int, matches: Matches) -> Matches:
    """Take out the entries that had died before their operation: for it they are not there."""
    changes, times = work.changes, matches.rows.view(ROW_TYPES[kind])["time_ms"]
    dead = times < work.segment.watermark_ms.take(matches.index) - work.horizons[kind]
    if not dead.any():
        return matches
    gone = _select(matches, dead)
    if kind == WAITING:
        changes.expired_predictions.append((gone.index, gone.rows.view(WAITING_ROW)["prediction"].copy()))
    elif kind == ORPHAN:
        changes.expired_labels.append((gone.index, gone.rows.view(ORPHAN_ROW)["label"].copy()))
    else:
        changes.dead_outcomes.append((gone.index, gone.rows.view(JOINED_ROW)["prediction"].copy()))
    changes.replaced.append((kind, gone.numbers))
    _arrive(work, gone.index)
    return _select(matches, ~dead)


def _predictions_meet(work: Work, kind: int, matches: Matches) -> None:
    """Join predictions with labels that wait; next to a prediction they are duplicates."""
    segment, changes = work.segment, work.changes
    places = segment.place.take(matches.index)
    if kind != ORPHAN:
        changes.new_prediction[places] = False
        return
    labels = matches.rows.view(ORPHAN_ROW)["label"]
    _join(work, matches.index, segment.predictions.take(places), labels, segment.extras_of(matches.index))
    changes.replaced.append((ORPHAN, matches.numbers))


def _labels_meet(work: Work, kind: int, matches: Matches) -> None:
    """Join labels with predictions that wait; next to a label their revision decides."""
    segment, changes = work.segment, work.changes
    places = segment.place.take(matches.index)
    fields = matches.rows.view(ROW_TYPES[kind])
    if kind == WAITING:
        changes.label_fate[places] = LabelFate.JOINED
        store = work.entries.stores[WAITING]
        extras = store.extras_of(matches.numbers) if store.extra_bytes else None
        _join(work, matches.index, fields["prediction"], segment.labels.take(places), extras)
        changes.replaced.append((WAITING, matches.numbers))
        return
    higher = segment.label_fields["revision"].take(places) > fields["revision"]
    fate = LabelFate.REPLACED if kind == ORPHAN else LabelFate.CORRECTED
    changes.label_fate[places] = np.where(higher, fate, LabelFate.DUPLICATE)
    matches = _select(matches, higher)
    if kind == ORPHAN:
        changes.orphans.append(matches.index)
    else:
        _correct(work, matches, places[higher])
    changes.replaced.append((kind, matches.numbers))


def _correct(work: Work, matches: Matches, places: Int) -> None:
    """Replace the labels of outcomes."""
    old = matches.rows.view(JOINED_ROW)
    rows = joined_rows(work.segment, matches.index, old["prediction"], work.segment.labels.take(places))
    work.changes.corrections.append((matches.index, rows))
    work.changes.old_labels.append((matches.index, old["label"].copy()))


def resolve_pairs(work: Work, first: Int, second: Int) -> Bool:
    """Join keys that occur as a prediction and its label, in either order, and nothing else; tells which those were.

    `first` and `second` are the operations of keys that occur twice, by rising `first`.
    """
    segment, horizons, changes = work.segment, work.horizons, work.changes
    label_first = segment.is_label.take(first)
    ours: Bool = (work.found.slot.take(first) < 0) & (label_first != segment.is_label.take(second))
    ours &= segment.lo.take(first) == segment.lo.take(second)
    prediction, label = np.where(label_first, second, first), np.where(label_first, first, second)
    waits_until = segment.watermark_ms.take(first) + np.where(label_first, horizons[ORPHAN], horizons[WAITING])
    ours &= waits_until >= segment.watermark_ms.take(second)
    prediction, label, second = prediction[ours], label[ours], second[ours]
    labels = segment.place.take(label)
    changes.label_fate[labels[~label_first[ours]]] = LabelFate.JOINED
    order = second.argsort(kind="stable")
    prediction, labels, second = prediction[order], labels[order], second[order]
    predictions = segment.predictions.take(segment.place.take(prediction))
    _join(work, second, predictions, segment.labels.take(labels), segment.extras_of(prediction))
    return ours


def _join(work: Work, operation: Int, predictions: Raw, labels: Raw, extras: Extras | None) -> None:
    work.changes.outcomes.append((operation, joined_rows(work.segment, operation, predictions, labels)))
    work.changes.outcome_extras.append(extras)


def joined_rows(segment: Segment, operation: Int, predictions: Raw, labels: Raw) -> Raw:
    """Make the rows that remember outcomes."""
    rows = empty(JOINED_ROW, len(operation))
    fields = rows.view(JOINED_ROW)
    fields["hi"] = segment.hi.take(operation)
    fields["lo"] = segment.lo.take(operation)
    fields["time_ms"] = segment.watermark_ms.take(operation)
    fields["prediction"] = predictions
    fields["label"] = labels
    return rows


def write(work: Work) -> None:
    """Bring the entries up to date, in the order of the operations."""
    changes = work.changes
    if len(operation := _sorted(changes.waiting)):
        _write_waiting(work, operation)
    if len(operation := _sorted(changes.orphans)):
        _write_orphans(work, operation)
    operation, rows = in_order(changes.outcomes + changes.corrections, JOINED_ROW)
    if changes.forgotten:
        kept = np.isin(operation, np.concatenate(changes.forgotten), invert=True)
        operation, rows = operation[kept], rows[kept]
    work.entries.write(JOINED, work.found.slot.take(operation), rows)
    for kind, numbers in changes.replaced:
        work.entries.drop(kind, numbers)


def _write_waiting(work: Work, operation: Int) -> None:
    segment, rows = work.segment, _keyed(work, WAITING_ROW, operation)
    rows.view(WAITING_ROW)["prediction"] = segment.predictions.take(segment.place.take(operation))
    work.entries.write(WAITING, work.found.slot.take(operation), rows, segment.extras_of(operation))


def _write_orphans(work: Work, operation: Int) -> None:
    segment, rows = work.segment, _keyed(work, ORPHAN_ROW, operation)
    rows.view(ORPHAN_ROW)["label"] = segment.labels.take(segment.place.take(operation))
    work.entries.write(ORPHAN, work.found.slot.take(operation), rows)


def _keyed(work: Work, row: np.dtype[np.void], operation: Int) -> Raw:
    rows = empty(row, len(operation))
    fields = rows.view(row)
    fields["hi"] = work.segment.hi.take(operation)
    fields["lo"] = work.segment.lo.take(operation)
    fields["time_ms"] = work.segment.watermark_ms.take(operation)
    return rows


def _sorted(parts: list[Int]) -> Int:
    if not parts:
        return np.zeros(0, np.int64)
    return parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts))
