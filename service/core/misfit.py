"""Signs that a model is not what it is watched as: classes taken for numbers, or numbers for classes."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from service.core.columns import Float
from service.core.metrics.catalogue import ResolvedProblem

FEW_LABELS: Final = 2
"""Distinct whole labels of a regression, however its predictions are written: nobody fits numbers to two values."""
FEW_VALUES: Final = 20
"""Distinct whole labels of a regression whose predictions are whole as well."""
MANY_CLASSES: Final = 50
"""Classes of a model, all of them numbers, from which it is rather a regression."""


class Misfit(NamedTuple):
    """What does not fit."""

    words: str
    statistic: float
    threshold: float
    outcomes: int


def misfit_of(problem: ResolvedProblem, predicted: Float, actual: Float, classes: Sequence[str]) -> Misfit | None:
    """Look at the latest outcomes, shape (n,), and the classes known; None where nothing speaks against the problem."""
    usable = np.isfinite(predicted) & np.isfinite(actual)
    predicted, actual = predicted[usable], actual[usable]
    if not len(actual):
        return None
    if problem != "regression":
        return _of_classes(predicted, classes)
    labels = np.unique(actual)
    whole = bool((labels == np.floor(labels)).all())
    few = FEW_VALUES if bool((predicted == np.floor(predicted)).all()) else FEW_LABELS
    if whole and len(labels) <= few:
        words = f"its latest {len(actual):,} labels are {len(labels)} distinct whole numbers, as of classes"
        return Misfit(words, float(len(labels)), float(few), len(actual))
    return None


def _of_classes(predicted: Float, classes: Sequence[str]) -> Misfit | None:
    if len(classes) < MANY_CLASSES or not all(map(_is_number, classes)):
        return None
    distinct = len(np.unique(predicted))
    among = f"{distinct} of them among the last {len(predicted):,} answers"
    words = f"its {len(classes)} classes are all numbers, {among}"
    return Misfit(words, float(len(classes)), float(MANY_CLASSES), len(predicted))


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return name == "(other)"
    return True
