"""Metrics of classes against classes, from three weights per class; and the confusion matrix.

No K x K matrix is ever made beyond the classes shown: with 10,000 classes it would take 800 MB.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from service.core.columns import Float, Int
from service.core.metrics.arithmetic import ratio, weigh

MAX_SHOWN_CLASSES = 50
"""Classes in a confusion matrix and in per-class metrics. 50 x 50 cells of a few digits are about 30 kB of JSON, and
nobody reads more. Beyond it the 50 most frequent are shown and the rest share OTHER. Averages still use all."""

OTHER = "(other)"


class ClassCounts(NamedTuple):
    """Weights per class, indexed by class code. Shape (K,) each."""

    hits: Float
    """Predicted rightly."""
    labels: Float
    """Occurs as the label."""
    predictions: Float
    """Occurs as the prediction."""

    @property
    def present(self) -> Int:
        """Codes of the classes that occur in the window, as a label or as a prediction."""
        return np.flatnonzero((self.labels > 0) | (self.predictions > 0))


def count_classes(actual: Int, predicted: Int, weight: Float, size: int) -> ClassCounts:
    """Sum the weights of n outcomes by class: codes below `size`, all shapes (n,)."""
    right = actual == predicted
    return ClassCounts(
        hits=weigh(actual[right], weight[right], size),
        labels=weigh(actual, weight, size),
        predictions=weigh(predicted, weight, size),
    )


def averaged_values(counts: ClassCounts) -> dict[str, float | None]:
    """Give accuracy, balanced accuracy and the macro and weighted averages over the classes that occur.

    In an average a class that was never predicted has precision 0, and one that was never the label has recall 0, as
    scikit-learn counts by default: a model that stopped predicting a class must look worse, not undefined.
    """
    hits, labels, predictions = (column[counts.present] for column in counts)
    recall = _divide(hits, labels)
    measures = {
        "precision": _divide(hits, predictions),
        "recall": recall,
        "f1": _divide(2.0 * hits, labels + predictions),
    }
    whole = float(np.sum(labels))
    labelled = labels > 0
    values = {
        "accuracy": ratio(float(np.sum(hits)), whole),
        "balanced_accuracy": ratio(float(np.sum(recall[labelled])), float(np.count_nonzero(labelled))),
    }
    for name, measure in measures.items():
        values[f"{name}_macro"] = ratio(float(np.sum(measure)), float(measure.size))
        values[f"{name}_weighted"] = ratio(float(np.sum(measure * labels)), whole)
    return values


def class_values(counts: ClassCounts, code: int) -> dict[str, float | None]:
    """Give precision, recall and F1 of one class; None where nothing was predicted, labelled, or either."""
    hits, labels, predictions = (float(column[code]) for column in counts)
    return {
        "precision": ratio(hits, predictions),
        "recall": ratio(hits, labels),
        "f1": ratio(2.0 * hits, labels + predictions),
    }


def shown_classes(counts: ClassCounts, classes: Sequence[str]) -> list[int]:
    """Give the codes to show, sorted by name: those that occur, at most the MAX_SHOWN_CLASSES most frequent.

    Frequent is weight as label plus weight as prediction; of equals the smaller name is shown.
    """
    codes = sorted(counts.present.tolist(), key=classes.__getitem__)
    if len(codes) > MAX_SHOWN_CLASSES:
        frequency = counts.labels + counts.predictions
        codes.sort(key=lambda code: -float(frequency[code]))  # stable: names break ties
        codes = sorted(codes[:MAX_SHOWN_CLASSES], key=classes.__getitem__)
    return codes


def confusion(actual: Int, predicted: Int, shown: Sequence[int], classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count outcomes by label, then by prediction. Unweighted: these are outcomes seen, not estimated.

    Classes that are not shown share OTHER, which may be a class of that name too.
    """
    names = [classes[code] for code in shown]
    cell = np.full(len(classes), -1, dtype=np.int64)
    cell[list(shown)] = np.arange(len(names))
    rows, columns = cell[actual], cell[predicted]
    if actual.size and min(rows.min(), columns.min()) < 0:
        other = names.index(OTHER) if OTHER in names else len(names)
        names = names if OTHER in names else [*names, OTHER]
        rows, columns = np.where(rows < 0, other, rows), np.where(columns < 0, other, columns)
    size = len(names)
    table = np.bincount(rows * size + columns, minlength=size * size).reshape(size, size).tolist()
    return {name: dict(zip(names, row, strict=True)) for name, row in zip(names, table, strict=True)}


def _divide(part: Float, whole: Float) -> Float:
    """Divide element by element; 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
