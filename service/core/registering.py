"""Classes that are met for the first time get their codes in merged order, and undecided models learn what they are."""

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

from schemas.events import Scalar
from service.core.classes import UNSEEN, class_name
from service.core.columns import Bool, Float, Int
from service.core.roster import Model, Roster


class Rows(NamedTuple):
    """Usable events of one input in order; one row each."""

    events: list[Any]
    sequence: Int
    log_ms: Int
    told_ms: Int
    time_ms: Int
    offset: Int

    def where(self, mask: Bool) -> "Rows":
        """Give the rows that are to be kept."""
        if mask.all():
            return self
        events = [self.events[row] for row in np.flatnonzero(mask).tolist()]
        return Rows(events, *(column[mask] for column in self[1:]))


def codes_of(predictions: Rows, places: Int, labels: Rows, label_places: Int, roster: Roster) -> tuple[Float, Float]:
    """Give the codes (of a regression: the numbers) of predictions and labels; new classes are registered."""
    prediction_models = [roster.model_of(place) for place in _distinct(places)]
    by_version = dict(zip(_distinct(places), prediction_models, strict=True))
    models = [by_version[place] for place in places.tolist()]
    label_models = [roster.models[place] for place in label_places.tolist()]
    raw: list[Scalar] = [event.prediction for event in predictions.events]
    truths: list[Scalar] = [event.label for event in labels.events]
    values = _look_up(models, raw)
    codes = _look_up(label_models, truths)
    _register(predictions, models, raw, values, labels, label_models, truths, codes)
    return values, codes


def _distinct(places: Int) -> list[int]:
    distinct: list[int] = np.unique(places).tolist()
    return distinct


def _look_up(models: list[Model], raw: list[Scalar]) -> Float:
    return np.fromiter((model.table[value] for model, value in zip(models, raw, strict=True)), np.float64, len(raw))


def _register(
    predictions: Rows,
    prediction_models: list[Model],
    raw: list[Scalar],
    values: Float,
    labels: Rows,
    label_models: list[Model],
    truths: list[Scalar],
    codes: Float,
) -> None:
    values_met = [
        _Met(predictions, prediction_models[row], raw[row], values, row, is_label=False)
        for row in _rows_met(values, prediction_models)
        if raw[row] is not None
    ]
    values_met += [
        _Met(labels, label_models[row], truths[row], codes, row, is_label=True)
        for row in _rows_met(codes, label_models)
    ]
    names_met = [*_names_met(predictions, prediction_models), *_classes_said(predictions, prediction_models)]
    for met in values_met:
        met.model.table.begin_step()
    # A prediction's own answer comes before the other classes that it names: the sort is stable.
    met_first: list[_Met | _Named] = [*values_met, *names_met]
    for first in sorted(met_first, key=lambda first: first.sequence):
        first.register()


def _rows_met(codes: Float, models: list[Model]) -> list[int]:
    """Find the rows of which each must be looked at in its turn: values without a code, and all of undecided models."""
    unseen: list[int] = np.flatnonzero(codes == UNSEEN).tolist()
    if not any(model.is_undecided for model in set(models)):
        return unseen
    return [row for row, model in enumerate(models) if model.is_undecided or codes[row] == UNSEEN]


class _Met(NamedTuple):
    """A value that has no code yet, or one that an undecided model counts, and where its code is wanted."""

    rows: Rows
    model: Model
    value: Scalar
    column: Float
    row: int
    is_label: bool

    @property
    def sequence(self) -> int:
        return int(self.rows.sequence[self.row])

    def register(self) -> None:
        event = self.rows.events[self.row]
        scored = not self.is_label and (event.score is not None or event.probabilities is not None)
        offset = int(self.rows.offset[self.row])
        self.column[self.row] = self.model.register(
            self.value, self.sequence, offset, is_label=self.is_label, scored=scored
        )


class _Named(NamedTuple):
    """Classes that a prediction names, of which some have no code yet."""

    sequence: int
    model: Model
    names: Collection[str]

    def register(self) -> None:
        if self.model.is_undecided:
            self.model.settle(self.sequence, regression=False)
        for name in self.names:
            self.model.table.learn(name, self.sequence)


def _names_met(predictions: Rows, models: list[Model]) -> list[_Named]:
    """Find the predictions whose probabilities name a class that was never an answer or a label.

    Its code must be known before the probabilities are stored: a label of that class may come later. Of an undecided
    model each prediction that names any tells what it is.
    """
    return [
        _Named(int(predictions.sequence[row]), models[row], event.probabilities)
        for row, event in enumerate(predictions.events)
        if event.probabilities is not None
        # Whether all names have codes already, an undecided model must not go by: it depends on where steps were cut.
        and (models[row].is_undecided or not event.probabilities.keys() <= models[row].table.keys())
    ]


def _classes_said(predictions: Rows, models: list[Model]) -> list[_Named]:
    """Find the predictions whose score speaks of a class that was never an answer or a label."""
    return [
        _Named(int(predictions.sequence[row]), models[row], (class_name(event.score_class),))
        for row, event in enumerate(predictions.events)
        if event.score_class is not None and (models[row].is_undecided or event.score_class not in models[row].table)
    ]
