"""Quantiles and tails of the chi-square, beta and Kolmogorov distributions, vectorised.

Importing `scipy.special` takes half a second (measured: 0.55 s beside numpy's 0.26 s), as long as `--help` may take
in all, and only the end of a reference window and the calibration of thresholds need it: hence the late imports.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def beta_quantile(a: ArrayLike, b: ArrayLike, probability: ArrayLike) -> Floats:
    """Give the quantile of Beta(a, b): the inverse of the regularised incomplete beta function."""
    from scipy.special import betaincinv  # noqa: PLC0415, RUF100 - half a second, see the top of this file

    return np.asarray(betaincinv(a, b, probability), dtype=np.float64)


def chi_square_quantile(degrees: ArrayLike, tail: ArrayLike) -> Floats:
    """Give the value that a chi-square variable exceeds with probability `tail`."""
    from scipy.special import chdtri  # noqa: PLC0415, RUF100 - half a second, see the top of this file

    return np.asarray(chdtri(degrees, tail), dtype=np.float64)


def chi_square_tail(degrees: ArrayLike, value: ArrayLike) -> Floats:
    """Give the probability that a chi-square variable exceeds `value`."""
    from scipy.special import chdtrc  # noqa: PLC0415, RUF100 - half a second, see the top of this file

    return np.asarray(chdtrc(degrees, value), dtype=np.float64)


def normal_quantile(tail: ArrayLike) -> Floats:
    """Give the value that a standard normal variable exceeds with probability `tail`."""
    from scipy.special import ndtri  # noqa: PLC0415, RUF100 - half a second, see the top of this file

    return -np.asarray(ndtri(tail), dtype=np.float64)


def normal_tail(value: ArrayLike) -> Floats:
    """Give the probability that a standard normal variable exceeds `value`."""
    from scipy.special import ndtr  # noqa: PLC0415, RUF100 - half a second, see the top of this file

    return np.asarray(ndtr(-np.asarray(value)), dtype=np.float64)


def kolmogorov_quantile(tail: ArrayLike) -> Floats:
    """Give the value that the Kolmogorov distribution (sup of a Brownian bridge) exceeds with probability `tail`."""
    from scipy.special import kolmogi  # noqa: PLC0415, RUF100 - half a second, see the top of this file

    return np.asarray(kolmogi(tail), dtype=np.float64)


def kolmogorov_tail(value: ArrayLike) -> Floats:
    """Give the probability that the sup of a Brownian bridge exceeds `value`."""
    from scipy.special import kolmogorov  # noqa: PLC0415, RUF100 - half a second, see the top of this file

    return np.asarray(kolmogorov(value), dtype=np.float64)
