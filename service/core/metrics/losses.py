"""The loss of one outcome: what detectors watch and what fine-tuning is judged by."""

import numpy as np

from service.core.columns import Float
from service.core.metrics.catalogue import ResolvedProblem

LARGEST_LOSS = 1e150
"""Losses beyond it are it. The squares of a hundred million such losses can still be added up in 64 bits: means and
variances stay finite, and a loss so large tells no more than that the label or the prediction is absurd."""


def loss(problem: ResolvedProblem, predicted: Float, actual: Float) -> Float:
    """Give the loss of each outcome; all shapes (n,), element by element.

    Classification: 1 where the classes differ, else 0. Regression: the absolute error in the label's unit (scaling to
    [0, 1] is the monitor's business), at most LARGEST_LOSS. NaN where there is no prediction (the serving call failed)
    or no label: then there is nothing to judge.
    """
    if problem == "regression":
        with np.errstate(over="ignore"):
            error: Float = np.minimum(np.abs(predicted - actual), LARGEST_LOSS)
        return error
    differs: Float = (predicted != actual).astype(np.float64)
    absent = np.isnan(predicted) | np.isnan(actual)
    if np.count_nonzero(absent):
        differs[absent] = np.nan
    return differs
