"""A step's records as columns: places of models, codes of classes, keys of the join.

Whatever is met for the first time (a model, a version, a class) is registered in merged order, so that places and codes
are the same wherever batches were cut. That is the slow path; all else is whole columns.
"""

from typing import Any, Final, NamedTuple

import numpy as np

from schemas.events import Control, Label, Prediction
from service.core.classes import class_name
from service.core.clock import told_times
from service.core.columns import Bool, Cells, Float, Int
from service.core.dead_letters import UseReason, from_event, from_rejected
from service.core.decode import Rejected
from service.core.effects import Caused
from service.core.intake import Lane, Merged, Role
from service.core.join import hash_keys
from service.core.join.keys import Keys
from service.core.metrics import positive_class
from service.core.metrics.confidence import confidence_cells
from service.core.registering import Rows, codes_of
from service.core.roster import Roster, VersionKey
from service.core.units import model_of


class TaskTopics(NamedTuple):
    """Names of the inputs and the task's partition, for training windows and dead letters."""

    control: str
    predictions: str
    labels: str
    partition: int

    def of(self, role: Role) -> str:
        """Name the topic of an input."""
        return (self.control, self.predictions, self.labels)[role]


class PredictionBatch(NamedTuple):
    """Usable predictions of a step in order; one row each."""

    events: list[Prediction]
    sequence: Int
    log_ms: Int
    """Clock of the log at the record."""
    told_ms: Int
    """What the record tells its model's clock: its event time, but no later than its timestamp."""
    time_ms: Int
    offset: Int
    place: Int
    """Place of the version in the roster."""
    value: Float
    score: Float
    latency_ms: Float
    weight: Float
    error: Bool
    segments: Int
    """Code of the combination of tracked segments; -1: none."""
    keys: Keys
    confidence: Cells


class LabelBatch(NamedTuple):
    """Usable labels of a step in order; one row each."""

    events: list[Label]
    sequence: Int
    log_ms: Int
    told_ms: Int
    time_ms: Int
    offset: Int
    place: Int
    """Place of the model in the roster."""
    value: Float
    keys: Keys


class ControlRow(NamedTuple):
    """A command or a status report."""

    sequence: int
    log_ms: int
    """Clock of the log at the record."""
    offset: int
    event: Control
    watermark_ms: int = 0
    """Of the model that it is for, once that is known."""


class Prepared(NamedTuple):
    """One step in columns."""

    sequence: Int
    log_ms: Int
    predictions: PredictionBatch
    labels: LabelBatch
    controls: list[ControlRow]
    dead: list[Caused]

    def before(self, sequence: int) -> "Prepared":
        """Give what comes before the record with this number; of the predictions and labels."""
        first, label = self._rows(sequence)
        return self._part(slice(first), slice(label))

    def behind(self, sequence: int) -> "Prepared":
        """Give the other predictions and labels."""
        first, label = self._rows(sequence)
        return self._part(slice(first, None), slice(label, None))

    def _rows(self, sequence: int) -> tuple[int, int]:
        predictions = np.searchsorted(self.predictions.sequence, sequence)
        return int(predictions), int(np.searchsorted(self.labels.sequence, sequence))

    def _part(self, predictions: slice, labels: slice) -> "Prepared":
        return self._replace(
            predictions=PredictionBatch._make([column[predictions] for column in self.predictions]),
            labels=LabelBatch._make([column[labels] for column in self.labels]),
        )


def prepare(merged: Merged, sequence: Int, log_ms: Int, roster: Roster, topics: TaskTopics) -> Prepared:
    """Turn merged records into columns. `sequence` and `log_ms`: of each record, in merged order."""
    dead: list[Caused] = []
    rows: dict[Role, Rows] = {}
    for role in Role:
        at = np.flatnonzero(merged.roles == role)
        rows[role] = _usable(role, merged.lanes[role], sequence[at], log_ms[at], topics, dead)
    predictions, labels = rows[Role.PREDICTIONS], rows[Role.LABELS]
    prediction_places, label_places = _places(predictions, labels, roster)
    predictions, prediction_places = _watched(predictions, prediction_places, Role.PREDICTIONS, topics, dead)
    labels, label_places = _watched(labels, label_places, Role.LABELS, topics, dead)
    values, truths = codes_of(predictions, prediction_places, labels, label_places, roster)
    error = np.fromiter((event.error for event in predictions.events), np.bool_, len(predictions.events))
    values[error] = np.nan
    fits = error | ~np.isnan(values)
    predictions, prediction_places, values = _numeric(
        predictions, prediction_places, values, fits, Role.PREDICTIONS, topics, dead
    )
    labels, label_places, truths = _numeric(labels, label_places, truths, ~np.isnan(truths), Role.LABELS, topics, dead)
    return Prepared(
        sequence,
        log_ms,
        _prediction_batch(predictions, prediction_places, values, error[fits], roster),
        LabelBatch(*labels, label_places, truths, _keys(labels.events)),
        _control_rows(rows[Role.CONTROL]),
        dead,
    )


def _prediction_batch(rows: Rows, places: Int, values: Float, error: Bool, roster: Roster) -> PredictionBatch:
    events: list[Prediction] = rows.events
    # None becomes NaN on the way into a float column.
    score: Float = np.array([event.score for event in events], dtype=np.float64)
    stated = np.full(len(events), np.nan)
    if any(event.probabilities is not None for event in events):
        _add_scores(events, rows.sequence, places, score, roster)
        _state(events, places, values, stated, roster)
    elif any(event.score_class is not None for event in events):
        _add_scores(events, rows.sequence, places, score, roster)
    return PredictionBatch(
        *rows,
        place=places,
        value=values,
        score=score,
        latency_ms=np.array([event.latency_ms for event in events], dtype=np.float64),
        weight=1.0 / np.array([event.sampling_rate for event in events], dtype=np.float64),
        error=error,
        segments=_segments(events, places, roster),
        keys=_keys(events),
        confidence=confidence_cells(values, score, stated),
    )


def _segments(events: list[Prediction], places: Int, roster: Roster) -> Int:
    """Code the tracked segments, in order; models without any cost nothing."""
    codes = np.full(len(events), -1, dtype=np.int64)
    for place in np.unique(places).tolist():
        table = roster.model_of(place).segments
        if table.names:
            rows = np.flatnonzero(places == place)
            codes[rows] = [table.code(events[row].segments) for row in rows.tolist()]
    return codes


def _add_scores(events: list[Prediction], sequence: Int, places: Int, score: Float, roster: Roster) -> None:
    """Say of which class scores speak, and take those of binary models that give their two probabilities alone."""
    for row, event in enumerate(events):
        said = roster.model_of(int(places[row])).scores
        if event.score is not None and event.score_class is not None:
            name, answered = class_name(event.score_class), event.prediction
            turns = said.turns(name, None if answered is None else class_name(answered), int(sequence[row]))
            score[row] = -event.score if turns else event.score
        elif event.score is None and event.probabilities is not None and len(event.probabilities) == 2:
            # Of the event's own two names: which names the model has by now would depend on where batches were cut.
            positive = said.name or positive_class(sorted(event.probabilities))
            if positive in event.probabilities:
                said.turns(positive, None, int(sequence[row]))
                score[row] = event.probabilities[positive]


def _state(events: list[Prediction], places: Int, values: Float, stated: Float, roster: Roster) -> None:
    """Say of each answer which probability its own class was given: 0 where its class is not named."""
    for row, event in enumerate(events):
        if event.probabilities is not None and not event.error:
            table = roster.model_of(int(places[row])).table
            given = (share for name, share in event.probabilities.items() if table[name] == values[row])
            stated[row] = next(given, 0.0)


def _control_rows(rows: Rows) -> list[ControlRow]:
    columns = (rows.sequence.tolist(), rows.log_ms.tolist(), rows.offset.tolist(), rows.events)
    return [ControlRow(*row) for row in zip(*columns, strict=True)]


def _usable(role: Role, lane: Lane, sequence: Int, log_ms: Int, topics: TaskTopics, dead: list[Caused]) -> Rows:
    told_ms = told_times(lane.times_ms, lane.timestamps_ms)
    rows = Rows(lane.events, sequence, log_ms, told_ms, lane.times_ms, lane.offsets)
    rejected = lane.times_ms < 0
    for row in np.flatnonzero(rejected).tolist():
        reason: Rejected = lane.events[row]
        letter = from_rejected(
            reason, topics.of(role), topics.partition, int(lane.offsets[row]), int(lane.timestamps_ms[row])
        )
        dead.append(Caused(int(sequence[row]), letter))
    return rows.where(~rejected)


def _keys(events: list[Any]) -> Keys:
    return hash_keys(
        # By the model's own name, as before targets were units: what waits since then is still met.
        [event.model_id if event.target is None else model_of(event.model_id) for event in events],
        [event.prediction_id for event in events],
        [event.row_id for event in events],
        [event.target for event in events],
    )


def _places(predictions: Rows, labels: Rows, roster: Roster) -> tuple[Int, Int]:
    versions = roster.version_places(predictions.events)
    models = roster.model_places(labels.events)
    new = [
        (int(predictions.sequence[row]), Role.PREDICTIONS, row) for row, place in enumerate(versions) if place is None
    ]
    new += [(int(labels.sequence[row]), Role.LABELS, row) for row, place in enumerate(models) if place is None]
    for number, role, row in sorted(new):
        if role is Role.PREDICTIONS:
            event = predictions.events[row]
            versions[row] = roster.add_version(VersionKey(event.model_id, event.model_version), number)
        else:
            models[row] = roster.add_unpredicted(labels.events[row].model_id, number)
    return _as_places(versions), _as_places(models)


def _as_places(places: list[int | None]) -> Int:
    try:
        return np.array(places, dtype=np.int64)
    except TypeError:  # a None: there was no room for it
        return np.array([-1 if place is None else place for place in places], dtype=np.int64)


_TOO_MANY: Final = {
    Role.PREDICTIONS: "more models or versions than core.max_models, or more targets of one than core.max_targets",
    Role.LABELS: "more models without a prediction than core.max_unpredicted_models",
}


def _watched(rows: Rows, places: Int, role: Role, topics: TaskTopics, dead: list[Caused]) -> tuple[Rows, Int]:
    watched = places >= 0
    if watched.all():
        return rows, places
    why = _TOO_MANY[role]
    _bury(rows, ~watched, role, topics, dead, ("too_many", f"$.model_id: {why}", "$.model_id"))
    return rows.where(watched), places[watched]


def _numeric(
    rows: Rows, places: Int, values: Float, fits: Bool, role: Role, topics: TaskTopics, dead: list[Caused]
) -> tuple[Rows, Int, Float]:
    if fits.all():
        return rows, places, values
    path = "$.prediction" if role is Role.PREDICTIONS else "$.label"
    _bury(
        rows,
        ~fits,
        role,
        topics,
        dead,
        ("wrong_type", f"{path}: expected a number, for the model is a regression", path),
    )
    return rows.where(fits), places[fits], values[fits]


def _bury(
    rows: Rows, mask: Bool, role: Role, topics: TaskTopics, dead: list[Caused], why: tuple[UseReason, str, str]
) -> None:
    for row in np.flatnonzero(mask).tolist():
        letter = from_event(
            *why,
            topic=topics.of(role),
            partition=topics.partition,
            offset=int(rows.offset[row]),
            time_ms=int(rows.time_ms[row]),
            model_id=rows.events[row].model_id,
            prediction_id=rows.events[row].prediction_id,
        )
        dead.append(Caused(int(rows.sequence[row]), letter))
