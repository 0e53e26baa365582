"""Stretches: a step's columns cut where a timer may fire or a command applies, and the join's view of each."""

from typing import NamedTuple

import numpy as np

from schemas.events import Prediction
from service.core.columns import LABEL_ROW, PREDICTION_ROW, Int
from service.core.join import JoinOps
from service.core.prepare import ControlRow, LabelBatch, PredictionBatch, Prepared
from service.core.roster import Roster


class Stop(NamedTuple):
    """Where a stretch ends: before the record with this number."""

    sequence: int
    tick_ms: int | None
    """Event time of the tick that fires here, before anything else of the record."""
    control: ControlRow | None


class Stretch(NamedTuple):
    """Records between two stops."""

    ops: JoinOps
    sequence: Int
    """Of each operation of the join."""
    watermark_ms: Int
    first_prediction: int
    """Row, in the step's predictions, of the stretch's first."""
    first_label: int


class Stretches:
    """Gives a step's predictions and labels stretch by stretch."""

    def __init__(self, prepared: Prepared, roster: Roster) -> None:
        predictions, labels = prepared.predictions, prepared.labels
        self._predictions, self._labels = predictions, labels
        sequence = np.concatenate([predictions.sequence, labels.sequence])
        order = np.argsort(sequence, kind="stable")
        self._sequence = sequence[order]
        self._is_label = order >= len(predictions.sequence)
        self._watermark_ms = np.concatenate([predictions.watermark_ms, labels.watermark_ms])[order]
        self._keys = np.concatenate([predictions.keys, labels.keys])[order]
        self._prediction_rows = _prediction_rows(predictions)
        self._label_rows = _label_rows(labels)
        self._extras = _probabilities(predictions, roster)
        self._done = 0

    def until(self, sequence: int | None) -> Stretch:
        """Give what comes before a record, from where the last stretch ended; None: all the rest."""
        start = self._done
        stop = len(self._sequence) if sequence is None else int(np.searchsorted(self._sequence, sequence))
        self._done = stop
        label_start, label_stop = (int(np.count_nonzero(self._is_label[:row])) for row in (start, stop))
        first, last = start - label_start, stop - label_stop
        part = slice(start, stop)
        ops = JoinOps(
            self._is_label[part],
            self._keys[part],
            self._watermark_ms[part],
            self._prediction_rows[first:last],
            self._label_rows[label_start:label_stop],
            None if self._extras is None else self._extras[first:last],
        )
        return Stretch(ops, self._sequence[part], self._watermark_ms[part], first, label_start)


def find_stops(prepared: Prepared, tick_ms: int, last_tick: int) -> list[Stop]:
    """Find where the watermark reaches a further multiple of `tick_ms`, and where commands stand, in order."""
    ticks = prepared.watermark_ms // tick_ms
    before = np.concatenate([[last_tick], ticks[:-1]]) if len(ticks) else ticks
    stops = [
        Stop(int(prepared.sequence[row]), int(ticks[row]) * tick_ms, None)
        for row in np.flatnonzero(ticks > before).tolist()
    ]
    stops += [Stop(control.sequence, None, control) for control in prepared.controls]
    stops.sort(key=lambda stop: (stop.sequence, stop.control is not None))
    return stops


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
