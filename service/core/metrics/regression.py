"""Metrics of numbers against numbers."""

import numpy as np

from service.core.columns import Float
from service.core.metrics.arithmetic import finite, ratio, weighted_mean

_EPSILON = float(np.finfo(np.float64).eps)


def regression_values(actual: Float, predicted: Float, weight: Float) -> dict[str, float | None]:
    """Give mae, mse, rmse, mape, r2 and bias of n outcomes; all shapes (n,), finite.

    Definitions and special cases are scikit-learn's; a value that overflows is None.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        error = predicted - actual
        mse = weighted_mean(error * error, weight)
        return {
            "mae": weighted_mean(np.abs(error), weight),
            "mse": mse,
            "rmse": None if mse is None else finite(mse**0.5),
            "mape": weighted_mean(np.abs(error) / np.maximum(np.abs(actual), _EPSILON), weight),
            "r2": _r2(actual, error, weight),
            "bias": weighted_mean(error, weight),
        }


def _r2(actual: Float, error: Float, weight: Float) -> float | None:
    """Share of the labels' variance that the predictions explain.

    Labels that are all the same have none to explain: 1 for a perfect model and 0 for any other, as scikit-learn's
    `force_finite`. Equality is asked for directly, for the mean of equal numbers need not equal them in floats.
    """
    if actual.size < 2:
        return None
    unexplained = float(np.sum(error * error * weight))
    if bool(np.all(actual == actual[0])):
        return 1.0 if unexplained == 0 else 0.0
    mean = weighted_mean(actual, weight)
    if mean is None:
        return None
    share = ratio(unexplained, float(np.sum((actual - mean) ** 2 * weight)))
    return None if share is None else finite(1.0 - share)
