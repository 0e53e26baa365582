"""What a classifier's own confidence says of its accuracy, once it has been held against labels.

Confidence-based performance estimation (CBPE; NannyML, and arXiv 2505.05295): a calibrated confidence of
0.8 is right in four of five, so the mean of the calibrated confidences is the accuracy to be expected, without a single
label. Calibration is by counting: confidences fall into cells, and of each cell the reference says how many were right.
Counts are whole numbers, so that nothing depends on where batches were cut.
"""

from typing import Final

import numpy as np

from service.core.columns import Bool, Cells, Float, Int
from service.core.metrics.arithmetic import ratio
from service.core.metrics.catalogue import ResolvedProblem, estimate_names
from service.core.metrics.scores import Speaks

BINS: Final = 20
"""Bins of a confidence. 500 outcomes of a reference put 25 into each: a standard error of 0.08 at an accuracy of 0.8,
of one bin; of the mean over all, 0.018."""

_GROUPS: Final = 5
"""Answers that are calibrated apart: with a score, the model's first and second class; with probabilities alone, the
first, the second, and all others. Where a model knows more than two classes those with probabilities are one."""
_SCORED: Final = 2

CELLS: Final = BINS * _GROUPS
NO_CELL: Final = 255
"""The answer came without a confidence."""

_PRIOR: Final = 2.0
"""Laplace's two outcomes, put where the model itself says: a cell of which the reference knows nothing is believed."""

_SAID: Final[Float] = np.tile((np.arange(BINS) + 0.5) / BINS, _GROUPS)
"""The middle of each cell's bin."""
_GROUP_OF: Final[Int] = np.repeat(np.arange(_GROUPS), BINS)


_SAYS: Final[list[Bool]] = [
    np.isin(_GROUP_OF, groups) for groups in ((0, _SCORED), (1, _SCORED + 1), (_SCORED + 2,), ())
]
"""Cells of answers that are the positive class, where that is the first, the second, another one, or not known."""


def confidence_cells(predicted: Float, score: Float, stated: Float) -> Cells:
    """Give the cell of each answer, shape (n,); NO_CELL where it came without a confidence, or the call failed.

    `predicted`: class codes, NaN where the call failed; `score`: NaN where absent, with a minus sign where it speaks of
    the other class than the model's scores do; `stated`: the probability that the model gave the class that it
    answered, NaN where it gave none. A score counts first. Beside a third class or a further one it can only mean
    the class that was answered.
    """
    given = ~np.isnan(score)
    scored = given & (predicted < _SCORED)
    magnitude = np.abs(score)
    turned = np.where(np.signbit(score), 1.0 - magnitude, magnitude)
    confidence = np.where(scored, turned, np.where(given & np.isnan(stated), magnitude, stated))
    known = ~np.isnan(confidence) & (predicted >= 0)
    group = np.minimum(np.where(known, predicted, 0.0), _GROUPS - _SCORED - 1)
    place = np.minimum(np.where(known, confidence, 0.0) * BINS, BINS - 1).astype(np.int64)
    cells = (group.astype(np.int64) + np.where(scored, 0, _SCORED)) * BINS + place
    return np.where(known, cells, NO_CELL).astype(np.uint8)


def stated_confidence(probabilities: list[bytes | None], predicted: Float) -> Float:
    """Give the probability of the class that was answered, shape (n,), from vectors by class code; NaN where absent."""
    stated = np.full(len(predicted), np.nan)
    if probabilities.count(None) == len(probabilities):
        return stated
    for row, vector in enumerate(probabilities):
        if vector is not None and predicted[row] >= 0:
            values, code = np.frombuffer(vector, "<f8"), int(predicted[row])
            stated[row] = values[code] if code < len(values) else 0.0
    return stated


def said_confidence(cells: Cells) -> Float:
    """Give the probability that an answer without a score gave its class, shape (n,), to the middle of its bin.

    NaN where it came with a score, or with nothing.
    """
    known = cells < CELLS
    said = np.full(len(cells), np.nan)
    unscored = known & (cells >= _SCORED * BINS)
    said[unscored] = _SAID[cells[unscored]]
    return said


def estimated_values(
    problem: ResolvedProblem,
    weights: Float,
    seen: Int,
    right: Int,
    positive: int | None,
    speaks: Speaks | None = None,
) -> dict[str, float | None]:
    """Give the estimates of a problem from the weight of the answers in each cell, shape (CELLS,).

    `seen` and `right`, of the same shape: the reference's outcomes in each cell, and those of them that were right.
    `positive`: code of the positive class; None while it is not known. `speaks`: of which class scores speak; None: of
    the positive one. Every estimate has a key; an undefined one is None.
    """
    values: dict[str, float | None] = dict.fromkeys(estimate_names(problem))
    weight = float(np.sum(weights))
    if not weight:
        return values
    expected = weights * chances(seen, right, positive if speaks is None else speaks, pooled=problem == "multiclass")
    values["estimated_accuracy"] = ratio(float(np.sum(expected)), weight)
    if problem == "binary" and positive is not None:
        says_positive = _says(positive)
        hits, answers = float(np.sum(expected[says_positive])), float(np.sum(weights[says_positive]))
        missed = float(np.sum((weights - expected)[~says_positive]))
        values["estimated_precision"] = ratio(hits, answers)
        values["estimated_recall"] = ratio(hits, hits + missed)
        values["estimated_f1"] = ratio(2.0 * hits, answers + hits + missed)
    return values


def scores_by_answer(cells: Cells) -> Int:
    """Count predictions by code of the class answered (the first two) and bin of the score, shape (2, BINS)."""
    return np.bincount(cells, minlength=CELLS)[: _SCORED * BINS].reshape(_SCORED, BINS)


def chances(seen: Int, right: Int, speaks: Speaks | None, *, pooled: bool) -> Float:
    """Give the probability that an answer is right, by cell, shape (CELLS,).

    `seen`, `right`: as in `estimated_values`. `speaks`: code of the class that scores speak of; "answer": of the class
    that was answered; None: not known.
    `pooled`: answers that came with probabilities alone are calibrated together, whatever their class.
    """
    if pooled:
        seen, right = _pool(seen), _pool(right)
    # A score of one class: who answers the other one is the surer, the lower it is.
    against = (_GROUP_OF < _SCORED) & ~_says(speaks) if speaks != "answer" else _SAYS[-1]
    said = np.where(against, 1.0 - _SAID, _SAID)
    return (right + _PRIOR * said) / (seen + _PRIOR)


def _says(positive: int | None) -> Bool:
    """Mark the cells of answers that are the positive class, shape (CELLS,)."""
    return _SAYS[-1 if positive is None else min(positive, _SCORED)]


def _pool(counts: Int) -> Int:
    pooled = counts.reshape(_GROUPS, BINS).copy()
    pooled[_SCORED:] = pooled[_SCORED:].sum(axis=0)
    return pooled.ravel()
