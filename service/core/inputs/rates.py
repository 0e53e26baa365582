"""How many of a block's events may show a problem before chance cannot explain it.

All bounds are Chernoff's in the form of Hoeffding (1963, theorem 1): for X ~ Bin(n, p) and k >= n p,
P(X >= k) <= exp(-n KL(k/n || p)). They hold for every n, need no special functions, and are never too narrow.
"""

import numpy as np
from numpy.typing import NDArray

from service.core.columns import Int

Rates = NDArray[np.float64]

REFERENCE_ERROR = 1e-3
"""Chance, once per reference window, that any of its upper bounds lies below the true rate."""


def divergence(rate: Rates, p: Rates) -> Rates:
    """Kullback-Leibler divergence of Bernoulli(rate) from Bernoulli(p), in nats; infinite where p excludes the rate.

    >>> float(divergence(np.array([0.5]), np.array([0.25]))[0]).__round__(6)
    0.143841
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ones = np.where(rate > 0, rate * np.log(rate / p), 0.0)
        zeros = np.where(rate < 1, (1 - rate) * np.log((1 - rate) / (1 - p)), 0.0)
    return np.asarray(ones + zeros, dtype=np.float64)


def upper_rates(counts: Int, total: int, error: float) -> Rates:
    """Bound the true rates from above, given counts out of total (> 0), each wrong with a chance of at most `error`.

    The bound is the p above the rate with total x KL(rate || p) = ln(1/error), found by bisection (2^-40 accurate).
    """
    rate = counts / total
    low, high = rate.copy(), np.ones_like(rate)
    for _ in range(40):
        middle = (low + high) / 2
        inside = total * divergence(rate, middle) <= -np.log(error)
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return np.asarray(high, dtype=np.float64)


def alert_counts(counts: Int, total: int, block: int, *, increase: float, error: float) -> Int:
    """Smallest count in a block of `block` events that is an alert; block + 1 where no count is.

    A count k is one when k / block exceeds the reference's rate by more than `increase`, and the chance of k or more
    under the upper bound of the reference's rate is at most `error`. `counts` out of `total` are the reference's; the
    reference's own error is shared by all of them (Bonferroni).
    """
    bound = upper_rates(counts, total, REFERENCE_ERROR / max(counts.size, 1))
    # The least k with k / block > rate + increase; the margin forgives rounding in rate + increase.
    least = np.floor(block * (counts / total + increase) + 1e-9).astype(np.int64) + 1
    low = np.maximum(least, np.floor(block * bound).astype(np.int64) + 1)
    low, high = np.minimum(low, block + 1), np.full_like(low, block + 1)
    while (low < high).any():  # at most 1 + log2(block) rounds
        middle = (low + high) // 2
        rate = np.minimum(middle / block, 1.0)
        enough = (middle > block) | (block * divergence(rate, bound) >= -np.log(error))
        low, high = np.where(enough, low, np.minimum(middle + 1, high)), np.where(enough, middle, high)
    return np.asarray(high, dtype=np.int64)
