"""What a stretch holds for each model: its versions' batches, and the moments at which its timers act.

Models do not touch each other, so each is taken through it by itself. A share is cut at its own moments alone.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from service.core.batches import Groups, Watermarks, count_by_place, group, version_batches
from service.core.columns import Bool, Int
from service.core.join import Gone, LabelFate
from service.core.label_flow import Unmet
from service.core.model import ModelMonitor
from service.core.model_clocks import Course
from service.core.prepare import PredictionBatch, Prepared
from service.core.repeated_ids import Repeated
from service.core.roster import Roster
from service.core.stretch import StepJoin
from service.core.version_batch import VersionBatch

_NO_ROWS: Final[Int] = np.zeros(0, dtype=np.int64)


class Moment(NamedTuple):
    """Where a model's timers may fire: before the record with this number."""

    sequence: int
    clock_ms: int
    """The clock at the record."""


class Counted(NamedTuple):
    """What the join says of predictions that came to nothing."""

    at: int
    """Twice the number of the record after which it is known, and one more."""
    place: int
    """Of the version."""
    name: str
    predictions: int


class Share:
    """One model's part of a stretch."""

    def __init__(self, model_id: str, step: PredictionBatch | None = None) -> None:
        self.model_id = model_id
        self._step = step
        """The predictions of all models."""
        self.batches: list[tuple[int, VersionBatch]] = []
        """By place of the version."""
        self.counted: list[Counted] = []
        """By `at`."""
        self.duplicate_labels: list[int] = []
        """Numbers of labels that told nothing new, rising."""
        self.repeated: list[Repeated] = []
        """Predictions with an identifier that is known, one by one, by number of the record."""
        self.unmatched: Unmet | None = None
        """Labels for which there is no prediction, so far."""
        self.moments: list[Moment] = []
        self._told = 0
        self._duplicates_told = 0
        self._repeated_told = 0
        self._unmatched_told = 0

    def moments_in_order(self) -> list[Moment]:
        """Put the moments in order. To be called before `segments`."""
        self.moments.sort(key=_number_of)
        return self.moments

    def segments(self) -> Iterator[list[tuple[int, VersionBatch]]]:
        """Give what stands before each moment, and behind the last one."""
        if not self.moments:
            yield self.batches
            return
        cuts = np.array([moment.sequence for moment in self.moments], dtype=np.int64)
        edges = [(key, batch, _edges(batch, cuts)) for key, batch in self.batches]
        for number in range(len(cuts) + 1):
            yield [
                (key, self._part(batch, number, rows))
                for key, batch, rows in edges
                if any(column[number] < column[number + 1] for column in rows)
            ]

    def _part(self, batch: VersionBatch, number: int, edges: list[list[int]]) -> VersionBatch:
        """Give the rows of every part of a batch between two of its edges."""
        parts = [
            part.part(rows[number], rows[number + 1]) if part is not None and rows[number] < rows[number + 1] else None
            for part, rows in zip(batch[:3], edges, strict=True)
        ]
        cut = VersionBatch(*parts)  # type: ignore[arg-type]  # each part gives rows of its own kind
        if cut.predictions is None or self._step is None:
            return cut
        first = int(np.searchsorted(self._step.sequence, cut.predictions.sequence[0]))
        return cut._replace(first_id=self._step.events[first].prediction_id)

    def counted_until(self, at: int) -> list[Counted]:
        """Take away what is known by then; see `Counted.at`."""
        start, self._told = self._told, bisect_right(self.counted, at, self._told, key=_known_at)
        return self.counted[start : self._told]

    def tell(self, monitor: ModelMonitor | None, sequence: int) -> None:
        """Tell a model's monitor what the join has said of its records before one, and was not told yet.

        Where there is no monitor there is no version that it could be put down to.
        """
        start, self._repeated_told = (
            self._repeated_told,
            bisect_left(self.repeated, sequence, self._repeated_told, key=_sequence_of),
        )
        if monitor is not None:
            for repeated in self.repeated[start : self._repeated_told]:
                monitor.note_repeated(repeated)
            self._tell_labels(monitor, sequence)

    def _tell_labels(self, monitor: ModelMonitor, sequence: int) -> None:
        if self.unmatched is not None:
            labels, start = self.unmatched, self._unmatched_told
            self._unmatched_told = stop = int(np.searchsorted(labels.sequence, sequence))
            if stop > start:
                part = slice(start, stop)
                ids = labels.prediction_ids[part]
                monitor.note_unmatched(Unmet(labels.sequence[part], labels.watermark_ms[part], ids))
        start = self._duplicates_told
        self._duplicates_told = stop = bisect_left(self.duplicate_labels, sequence, start)
        if stop > start:
            monitor.count_duplicate_labels(np.array(self.duplicate_labels[start:stop], dtype=np.int64))


def _sequence_of(repeated: Repeated) -> int:
    return repeated.sequence


def _number_of(moment: Moment) -> int:
    return moment.sequence


def _known_at(counted: Counted) -> int:
    return counted.at


def _edges(batch: VersionBatch, cuts: Int) -> list[list[int]]:
    """Give, for each part of a batch, the rows where it is cut, its ends included."""
    return [
        [0] * (len(cuts) + 2)
        if part is None
        else [0, *np.searchsorted(part.sequence, cuts).tolist(), len(part.sequence)]
        for part in batch[:3]
    ]


def shares_of(
    prepared: Prepared, joined: StepJoin, course: Course, watermarks: Watermarks, roster: Roster
) -> dict[int, Share]:
    """Give each model's share of a stretch by its place in the roster, for those that have one, without moments."""
    step = prepared.predictions
    shares = {model: Share(roster.models[model].model_id, step) for model in course.shares}
    for place, batch in version_batches(prepared, joined, watermarks, roster):
        model = roster.model_of(place)
        # One without a record here: an older program had put a prediction under it whose label is now its target's.
        shares.setdefault(model.place, Share(model.model_id, step)).batches.append((place, batch))
    for counted in sorted(_counted(prepared, joined), key=_known_at):
        model = roster.model_of(counted.place)
        shares.setdefault(model.place, Share(model.model_id)).counted.append(counted)
    duplicate = joined.result.label_fate == LabelFate.DUPLICATE
    if duplicate.any():
        rows = zip(prepared.labels.place[duplicate].tolist(), prepared.labels.sequence[duplicate].tolist(), strict=True)
        for place, number in rows:
            shares[place].duplicate_labels.append(number)
    _note_repeated(prepared, watermarks, ~joined.result.new_prediction, shares, roster)
    _note_unmatched(prepared, watermarks, joined.result.label_fate == LabelFate.WAITING, shares)
    return shares


def _note_repeated(
    prepared: Prepared, watermarks: Watermarks, repeated: Bool, shares: dict[int, Share], roster: Roster
) -> None:
    batch = prepared.predictions
    rows = np.flatnonzero(repeated)
    for row, model in zip(rows.tolist(), roster.models_of(batch.place[rows]).tolist(), strict=True):
        identifier, watermark_ms = batch.events[row].prediction_id, int(watermarks.predictions[row])
        shares[model].repeated.append(Repeated(1, int(batch.sequence[row]), identifier, watermark_ms))


def _note_unmatched(prepared: Prepared, watermarks: Watermarks, unmatched: Bool, shares: dict[int, Share]) -> None:
    batch = prepared.labels
    groups = group(batch.place, unmatched) if unmatched.any() else Groups(_NO_ROWS, [])
    for model, first, stop in groups.shares:
        rows = groups.rows[first:stop]
        ids = [batch.events[row].prediction_id for row in rows.tolist()]
        shares[model].unmatched = Unmet(batch.sequence[rows], watermarks.labels[rows], ids)


def _counted(prepared: Prepared, joined: StepJoin) -> Iterator[Counted]:
    repeated = ~joined.result.new_prediction
    if repeated.any():
        places, numbers = prepared.predictions.place[repeated], prepared.predictions.sequence[repeated]
        for place, number in zip(places.tolist(), numbers.tolist(), strict=True):
            yield Counted(2 * number + 1, place, "duplicates", 1)
    evicted = joined.result.evicted
    if len(evicted.predictions):
        after = joined.sequence[joined.result.evicted_predictions_after]
        for number in np.unique(after).tolist():
            for place, count in count_by_place(_places(evicted), after == number):
                yield Counted(2 * number + 1, place, "evicted", count)


def _places(gone: Gone) -> Int:
    places: Int = gone.predictions["monitor"].astype(np.int64)
    return places
