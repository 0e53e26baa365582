"""Metrics of scores and probabilities against classes: AUC, average precision, log loss, Brier score."""

import math
from collections.abc import Iterable

import numpy as np

from service.core.columns import Bool, Float, Int
from service.core.metrics.arithmetic import ratio, weigh, weighted_mean

_EPSILON = float(np.finfo(np.float64).eps)

SUM_TOLERANCE = 0.02
"""How far the probabilities of an outcome may be from summing to 1. JSON logs round them: each of K classes is off by
at most half a unit of its last decimal, so four classes of two decimals by at most 4 x 0.005. Beyond it they are no
probabilities, and log loss, Brier score and multiclass AUC are None (scikit-learn warns or raises)."""


def rank_values(score: Float, positive: Bool, weight: Float) -> tuple[float | None, float | None]:
    """Give AUC and average precision of one ranking of n outcomes, all shapes (n,); None where undefined.

    Equal scores are one threshold. AUC is the probability that a positive outranks a negative, ties counting half
    (Hanley & McNeil 1982; equal to scikit-learn's trapezoids). Average precision is the sum over thresholds of
    precision times gained recall. Either sum grows only at thresholds that are a positive's score, so only these are
    sorted: n for all of K classes together, not K n. Sums run in the order of the outcomes.
    """
    thresholds = np.unique(score[positive])
    count = thresholds.size
    if not count:
        return None, None
    reached = np.searchsorted(thresholds, score, side="right")  # how many thresholds are at most the score
    negative = ~positive
    tied = negative & (reached > 0) & (score == thresholds[reached - 1])
    hits = weigh(reached[positive] - 1, weight[positive], count)
    ties = weigh(reached[tied] - 1, weight[tied], count)
    misses = weigh(reached[negative], weight[negative], count + 1)
    beaten = np.cumsum(misses[:-1])  # negatives below each threshold
    true_positives = np.cumsum(hits[::-1])[::-1]
    false_positives = np.cumsum(misses[:0:-1])[::-1]
    whole = float(np.sum(hits))
    return (
        ratio(float(np.sum(hits * (beaten + 0.5 * ties))), whole * float(np.sum(misses))),
        ratio(float(np.sum(hits * true_positives / (true_positives + false_positives))), whole),
    )


def binary_probability_values(positive: Bool, score: Float, weight: Float) -> dict[str, float | None]:
    """Give log loss and Brier score of the probability `score` of the positive class; all shapes (n,)."""
    truth = np.where(positive, score, 1.0 - score)
    return {
        "log_loss": weighted_mean(_surprise(truth), weight),
        "brier": weighted_mean((score - positive) ** 2, weight),
    }


def multiclass_probability_values(
    actual: Int, probabilities: Float, weight: Float, class_count: int
) -> dict[str, float | None]:
    """Give log loss and Brier score of class probabilities, shape (n, K), in the order of class codes.

    A class beyond column K has probability 0. The Brier score is the squared distance from the one-hot label, halved
    for fewer than three classes so that it is the binary one (scikit-learn's `scale_by_half="auto"`).
    """
    if not sums_to_one(probabilities):
        return {"log_loss": None, "brier": None}
    rows = np.flatnonzero(actual < probabilities.shape[1])
    truth = np.zeros(actual.size)
    truth[rows] = probabilities[rows, actual[rows]]
    residual = probabilities.copy()
    residual[rows, actual[rows]] -= 1.0
    distance = np.sum(residual * residual, axis=1)
    distance[actual >= probabilities.shape[1]] += 1.0
    scale = 0.5 if class_count < 3 else 1.0
    return {
        "log_loss": weighted_mean(_surprise(truth), weight),
        "brier": weighted_mean(scale * distance, weight),
    }


def sums_to_one(probabilities: Float) -> bool:
    """Say whether every row, shape (n, K), may be taken for probabilities."""
    return bool(np.all(np.abs(np.sum(probabilities, axis=1) - 1.0) <= SUM_TOLERANCE))


def mean_of_defined(values: Iterable[float | None]) -> float | None:
    """Give the plain mean of those that are not None; None where all are."""
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if defined else None


def _surprise(truth: Float) -> Float:
    """Negative natural logarithm of the probability given to the truth, kept finite as scikit-learn does."""
    return -np.log(np.clip(truth, _EPSILON, 1.0 - _EPSILON))
