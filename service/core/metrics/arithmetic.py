"""Means and ratios that are a finite float or None, never NaN.

Sums are numpy's own (pairwise, one thread), never BLAS: a dot product may be split over as many threads as the machine
has, and then its last bits depend on the machine.
"""

import math

import numpy as np

from service.core.columns import Float, Int


def finite(value: float) -> float | None:
    """Give the value, or None where it is NaN or has overflowed."""
    return float(value) if math.isfinite(value) else None


def ratio(part: float, whole: float) -> float | None:
    """Give part / whole, or None where that is undefined."""
    return finite(part / whole) if whole != 0 else None


def weighted_mean(values: Float, weight: Float) -> float | None:
    """Give the mean of values (shape (n,)) by weight (shape (n,)); None where nothing weighs anything."""
    return ratio(float(np.sum(values * weight)), float(np.sum(weight)))


def weigh(codes: Int, weight: Float, size: int) -> Float:
    """Sum weights by code, in order; shape (size,). numpy's bincount gives integers where there are no codes."""
    return np.asarray(np.bincount(codes, weights=weight, minlength=size), dtype=np.float64)
