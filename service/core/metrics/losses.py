"""The loss of one outcome: what detectors watch and what fine-tuning is judged by."""

import numpy as np

from service.core.columns import Float
from service.core.metrics.catalogue import ResolvedProblem

_LARGEST = np.finfo(np.float64).max


def loss(problem: ResolvedProblem, predicted: Float, actual: Float) -> Float:
    """Give the loss of each outcome; all shapes (n,), element by element.

    Classification: 1 where the classes differ, else 0. Regression: the absolute error in the label's unit (scaling to
    [0, 1] is the monitor's business), capped at the largest float because detectors refuse infinity. NaN where
    there is no prediction (the serving call failed) or no label: then there is nothing to judge.
    """
    if problem == "regression":
        with np.errstate(over="ignore"):
            error: Float = np.minimum(np.abs(predicted - actual), _LARGEST)
        return error
    differs: Float = (predicted != actual).astype(np.float64)
    absent = np.isnan(predicted) | np.isnan(actual)
    if np.count_nonzero(absent):
        differs[absent] = np.nan
    return differs
