"""Stretches of a step, from one stop to the next, and the join's view of each."""

from typing import NamedTuple

import numpy as np

from schemas.events import Prediction
from service.core.columns import LABEL_ROW, PREDICTION_ROW, Int
from service.core.join import JoinOps, JoinResult
from service.core.prepare import ControlRow, LabelBatch, PredictionBatch, Prepared
from service.core.roster import Roster


class Stop(NamedTuple):
    """Where a stretch ends: before the record with this number."""

    sequence: int
    log_ms: int | None
    """The clock of the log there, where it passes a further multiple of the tick; None: a command alone."""
    control: ControlRow | None


class StepJoin(NamedTuple):
    """What the join did with the records between two stops."""

    sequence: Int
    """Of each operation."""
    result: JoinResult


def find_ticks(sequence: Int, log_ms: Int, tick_ms: int, before_ms: int) -> list[Stop]:
    """Find where the clock of the log passes a multiple of the tick. `before_ms`: that clock before the step."""
    rows = np.flatnonzero(np.diff(log_ms // tick_ms, prepend=before_ms // tick_ms) > 0)
    return [Stop(*row, None) for row in zip(sequence[rows].tolist(), log_ms[rows].tolist(), strict=True)]


class Operations:
    """A stretch's predictions and labels, as the join takes them."""

    def __init__(self, prepared: Prepared, roster: Roster) -> None:
        predictions, labels = prepared.predictions, prepared.labels
        sequence = np.concatenate([predictions.sequence, labels.sequence])
        order = np.argsort(sequence, kind="stable")
        self.sequence = sequence[order]
        self._order = order
        self.ops = JoinOps(
            order >= len(predictions.sequence),
            np.concatenate([predictions.keys, labels.keys])[order],
            self.in_order(predictions.log_ms, labels.log_ms),
            _prediction_rows(predictions),
            _label_rows(labels),
            _probabilities(predictions, roster),
        )

    def in_order(self, predictions: Int, labels: Int) -> Int:
        """Put a column of the predictions and one of the labels in the order of the operations."""
        return np.concatenate([predictions, labels])[self._order]


def _prediction_rows(batch: PredictionBatch) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    rows = np.zeros(len(batch.events), PREDICTION_ROW)
    rows["monitor"] = batch.place
    rows["segments"] = batch.segments
    rows["offset"] = batch.offset
    rows["time_ms"] = batch.time_ms
    rows["value"] = batch.value
    rows["score"] = batch.score
    rows["weight"] = batch.weight
    return rows


def _label_rows(batch: LabelBatch) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    rows = np.zeros(len(batch.events), LABEL_ROW)
    rows["model"] = batch.place
    rows["revision"] = [event.revision for event in batch.events]
    rows["offset"] = batch.offset
    rows["time_ms"] = batch.time_ms
    rows["value"] = batch.value
    return rows


def _probabilities(batch: PredictionBatch, roster: Roster) -> list[bytes | None] | None:
    """Give class probabilities as vectors in the order of class codes; None where no event has any."""
    if all(event.probabilities is None for event in batch.events):
        return None
    return [_vector(event, place, roster) for event, place in zip(batch.events, batch.place.tolist(), strict=True)]


def _vector(event: Prediction, place: int, roster: Roster) -> bytes | None:
    table = roster.model_of(place).table
    if event.probabilities is None or not table.names:
        return None
    vector = np.zeros(len(table.names))
    for name, probability in event.probabilities.items():
        code = table[name]
        if code >= 0:
            vector[int(code)] = probability
    return vector.tobytes()
