"""Thresholds that fit the sample sizes: how large a distance is by chance alone.

A fixed limit on a distance is a limit on the sample size: without any drift PSI averages (B - 1)(1/n + 1/m), which is
.114 for 20 bins, n = 1,000 and m = 200, above the customary .1. Here a threshold is the quantile that the distance
exceeds with probability `alpha` when both windows come from one distribution, for n reference and m current events.

* chi_square: chi-square with B - 1 degrees of freedom. psi, js, hellinger: to second order each is that statistic
  times (1/n + 1/m) times 1, 1/(8 ln 2) and 1/8 (the last two under a root). Where bins hold few events js and hellinger
  are larger than that (uncorrected, 50 bins of 4 events put hellinger above its 5 % threshold in 35 % of the windows):
  mean and variance are raised by a polynomial in the mean of 1/(expected count), fitted to simulations with n = 1,000,
  m = 100 to 1,000 and 20 and 50 bins, and matched by a scaled chi-square (Satterthwaite 1946).
* ks: the Kolmogorov distribution. Bins and ties make it conservative.
* wasserstein: the mean of the integral of |Brownian bridge| plus Borell's and Tsirelson's tail,
  P(W > E W + t) <= exp(-t^2 / 2) in units of sqrt(1/n + 1/m) spreads (a 1-Lipschitz function has no more variance than
  its argument). Conservative.
* l_infinity: a normal quantile for each bin, Bonferroni over the bins. Conservative.

Measured: `tests/detectors/test_calibration.py` counts exceedances at 5 %, for n 500 to 3,000, m 200 to 1,000 and 5 to
50 bins.
"""

from typing import Final

import numpy as np

from detectors.distances import StatisticName, used_bins
from detectors.histogram import EXTRA_COLUMNS, Counts, ReferenceHistogram
from detectors.special import (
    Floats,
    chi_square_quantile,
    chi_square_tail,
    kolmogorov_quantile,
    kolmogorov_tail,
    normal_quantile,
    normal_tail,
)

FIXED: Final[dict[str, tuple[float, float]]] = {
    "psi": (0.1, 0.25),  # the customary limits of credit scoring: some change, much change
    "js": (0.1, 0.2),  # Evidently and NannyML alert at .1
    "hellinger": (0.1, 0.2),  # NannyML alerts at .1
    "l_infinity": (0.1, 0.2),  # NannyML alerts at .1
    "wasserstein": (0.1, 0.2),  # Evidently alerts at .1 spreads
    "ks": (0.1, 0.2),
}
"""Customary fixed limits (warning, drift), for those who want them. They do not know the sample size."""

# Mean and variance of the statistic over the chi-square's, as coefficients of s, s^2, where s is the mean over the bins
# of 1/(expected count). Simulated at s = .1, .2, .25, .5: hellinger mean 1.06, 1.15, 1.25, 1.64, variance 1.3, 1.9,
# 2.4, 2.9; js mean 1.05, 1.09, 1.13, 1.30, variance 1.2, 1.3, 1.4, 1.5.
_SPARSE: Final[dict[str, tuple[tuple[float, float], float]]] = {
    "js": ((0.4, 0.4), 1.7),
    "hellinger": ((0.6, 1.8), 5.0),
}
# A distance of the chi-square kind is (scale * chi-square * (1/n + 1/m)) ** power.
_CHI_SQUARE_KIND: Final[dict[str, tuple[float, float]]] = {
    "psi": (1.0, 1.0),
    "js": (1.0 / (8.0 * np.log(2.0)), 0.5),
    "hellinger": (1.0 / 8.0, 0.5),
}


def thresholds(
    name: StatisticName, reference: Counts, current: Counts, histogram: ReferenceHistogram, alpha: float
) -> Floats:
    """Give what the distance called `name` exceeds with probability at most `alpha` without drift. Shape (F,).

    Raises ValueError where alpha is not in (0, 1). A feature without data on one side has an infinite threshold.
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"$.alpha: expected a number in (0, 1), got {alpha}")
    noise, known = _noise(reference, current)
    if name == "ks":
        limit = kolmogorov_quantile(alpha) * np.sqrt(noise)
    elif name == "wasserstein":
        limit = (_mean_wasserstein(reference, histogram) + np.sqrt(2.0 * np.log(1.0 / alpha))) * np.sqrt(noise)
    elif name == "l_infinity":
        bins = np.maximum(used_bins(reference, current), 1.0)
        limit = normal_quantile(alpha / (2.0 * bins)) * _widest_deviation(reference, current) * np.sqrt(noise)
    else:
        factor, degrees = _matched(name, reference, current)
        quantile = factor * chi_square_quantile(degrees, alpha)
        limit = quantile if name == "chi_square" else _scaled(name, quantile, noise)
    return np.where(known, limit, np.inf)


def p_values(
    name: StatisticName,
    values: Floats,
    reference: Counts,
    current: Counts,
    histogram: ReferenceHistogram,
) -> Floats:
    """Give the probability of distances at least as large as `values` without drift. Shape (F,), at most 1."""
    noise, known = _noise(reference, current)
    if name == "ks":
        p = kolmogorov_tail(values / np.sqrt(noise))
    elif name == "wasserstein":
        excess = np.maximum(values / np.sqrt(noise) - _mean_wasserstein(reference, histogram), 0.0)
        p = np.exp(-(excess**2) / 2.0)
    elif name == "l_infinity":
        deviation = np.maximum(_widest_deviation(reference, current), 1e-12)
        p = 2.0 * used_bins(reference, current) * normal_tail(values / (deviation * np.sqrt(noise)))
    else:
        statistic = values if name == "chi_square" else _unscaled(name, values, noise)
        factor, degrees = _matched(name, reference, current)
        p = chi_square_tail(degrees, statistic / factor)
    return np.where(known, np.minimum(p, 1.0), 1.0)


def _noise(reference: Counts, current: Counts) -> tuple[Floats, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    """Give 1/n + 1/m and where both windows hold something."""
    n, m = reference.sum(axis=1), current.sum(axis=1)
    known = (n > 0) & (m > 0)
    return 1.0 / np.maximum(n, 1) + 1.0 / np.maximum(m, 1), known


def _matched(name: StatisticName, reference: Counts, current: Counts) -> tuple[Floats, Floats]:
    """Give factor and degrees of freedom of the scaled chi-square that the statistic is like. Shape (F,) each."""
    degrees = np.maximum(used_bins(reference, current) - 1.0, 1.0)
    if name not in _SPARSE:
        return np.ones_like(degrees), degrees
    (linear, square), spread = _SPARSE[name]
    sparseness = _sparseness(reference, current)
    mean = 1.0 + linear * sparseness + square * sparseness**2
    variance = 1.0 + spread * sparseness
    return variance / mean, degrees * mean**2 / variance


def _sparseness(reference: Counts, current: Counts) -> Floats:
    """Give the mean over the used bins of 1/(expected count), that of the smaller window above all. Shape (F,).

    At most 1 for a bin: one that is expected to be empty adds less than a degree of freedom.
    """
    n, m = (np.maximum(counts.sum(axis=1), 1)[:, None].astype(np.float64) for counts in (reference, current))
    pooled = reference + current
    share = np.maximum(pooled, 0.5) / (n + m)
    inverse = (1.0 / n**2 + 1.0 / m**2) / (1.0 / n + 1.0 / m) / share
    total: Floats = np.where(pooled > 0, np.minimum(inverse, 1.0), 0.0).sum(axis=1)
    return total / np.maximum(used_bins(reference, current), 1.0)


def _scaled(name: StatisticName, quantile: Floats, noise: Floats) -> Floats:
    scale, power = _CHI_SQUARE_KIND[name]
    return np.asarray((scale * quantile * noise) ** power, dtype=np.float64)


def _unscaled(name: StatisticName, values: Floats, noise: Floats) -> Floats:
    scale, power = _CHI_SQUARE_KIND[name]
    return np.asarray(values ** (1.0 / power) / (scale * noise), dtype=np.float64)


def _mean_wasserstein(reference: Counts, histogram: ReferenceHistogram) -> Floats:
    """Integral of E|Brownian bridge| = sqrt(2 F (1 - F) / pi) over the bins' positions, in spreads. Shape (F,)."""
    share = reference[:, :-EXTRA_COLUMNS] / np.maximum(reference.sum(axis=1, keepdims=True), 1)
    below = np.clip(np.cumsum(share, axis=1), 0.0, 1.0)[:, :-1]
    steps = np.diff(histogram.positions, axis=1) / histogram.spread[:, None]
    real = np.arange(1, histogram.width - EXTRA_COLUMNS)[None, :] < histogram.bins[:, None]
    area: Floats = (np.sqrt(below * (1.0 - below)) * np.where(real, steps, 0.0)).sum(axis=1)
    return np.asarray(np.sqrt(2.0 / np.pi) * area)


def _widest_deviation(reference: Counts, current: Counts) -> Floats:
    """Give the greatest sqrt(p (1 - p)) of a bin, pooled over both windows. Shape (F,)."""
    pooled = reference + current
    share = pooled / np.maximum(pooled.sum(axis=1, keepdims=True), 1)
    widest: Floats = np.sqrt(share * (1.0 - share)).max(axis=1, initial=0.0)
    return widest
