"""The bets on how the distribution of a feature can move, as log factors for an event in each bin.

See `detectors.feature_drift` for what they are for.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors.bounds import betting_upper, clopper_pearson_upper
from detectors.histogram import EXTRA_COLUMNS, MISSING, UNSEEN, Counts, ReferenceHistogram
from detectors.special import Floats

SCORE_SHIFTS: Final = (0.03, 0.1, 0.25)
"""Alternatives for a mean rank: a normal feature moved by .1, .35 and 1 standard deviations."""
SHARE_SHIFTS: Final = (0.03, 0.12, 0.4)
"""Alternatives for the growth of one bin's share."""
SHARE_LOSS: Final = 0.5
"""The alternative for the loss of a bin's share: half of it."""

# What share of the bets goes where: (location, spread, missing, unseen, bins). Categories have no order.
_NUMBER_WEIGHTS: Final = (0.3, 0.15, 0.1, 0.15, 0.3)
_CATEGORY_WEIGHTS: Final = (0.0, 0.0, 0.1, 0.15, 0.75)

_QUANTUM: Final = 2.0**-20
# Log factors are rounded down to a multiple of 2^-20 (an e-value stays one): counts times them are then integers below
# 2^53 times the quantum, so their sum is exact in any order, on any machine.
_LARGEST_NULL: Final = 1.0 - 1e-3
_SMALLEST_NULL: Final = 1e-6
_SMALLEST_LOSABLE: Final = 1e-3


class Bank(NamedTuple):
    """The log factors of all ways of all features. Derived from the reference, never stored."""

    scores: Floats
    """ln(1 + lam (g / m - 1)) of each bin for the ways that look at ranks, shape (F, width, ranks)."""
    hit: Floats
    """The same for an event in the bin, ways that look at one bin, shape (F, width, shares)."""
    miss: Floats
    """And for an event elsewhere."""
    weights: Floats
    """Shape (F, ranks + width * shares); each row sums to 1, ways of padding have 0."""

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of a count matrix: features and columns."""
        return self.scores.shape[0], self.scores.shape[1]

    def log_increments(self, counts: Counts) -> Floats:
        """Give ln L of the block, shape (F, ways)."""
        inside = counts.astype(np.float64)[:, :, None]
        outside = inside.sum(axis=1, keepdims=True) - inside
        ranks = np.matmul(inside.transpose(0, 2, 1), self.scores)[:, 0, :]
        shares = inside * self.hit + outside * self.miss
        return np.concatenate((ranks, shares.reshape(len(counts), -1)), axis=1)


RANK_WAYS: Final = 4 * len(SCORE_SHIFTS)
"""Ways of a feature that look at ranks."""


def count_ways(reference: ReferenceHistogram) -> int:
    """Count the ways of a feature, padding included: four rank scores, and growth and loss of each bin."""
    return RANK_WAYS + reference.width * (len(SHARE_SHIFTS) + 1)


def bank_of(reference: ReferenceHistogram, tolerance: float, delta: float) -> Bank:
    """Make the bets against a reference whose bounds may fail, all together, with probability `delta`."""
    features, width = reference.counts.shape
    per_feature = delta / features
    # Half of the doubt goes to the four rank scores, half to the two directions of each bin.
    scores = _rank_factors(reference, tolerance, per_feature / 2.0 / 4.0)
    hit, miss = _share_factors(reference, tolerance, per_feature / 2.0 / (2.0 * width))
    return Bank(_round_down(scores), _round_down(hit), _round_down(miss), _weights(reference, scores, hit))


def _rank_factors(reference: ReferenceHistogram, tolerance: float, delta: float) -> Floats:
    """Log factors of location up and down, spread up and down, each for all alternatives. Shape (F, width, 12)."""
    counts = reference.counts.astype(np.float64)
    ranks = _middle_ranks(counts)
    distance = np.abs(2.0 * ranks - 1.0)
    factors = []
    scores = np.stack((ranks, 1.0 - ranks, distance, 1.0 - distance))
    # All four at once: for a few features a bisection costs its calls, whatever their size, and a service that
    # recovers a thousand models makes this many times.
    bounds = betting_upper(np.tile(counts, (4, 1)), scores.reshape(-1, counts.shape[1]), delta).reshape(4, -1, 1)
    for score, upper in zip(scores, bounds, strict=True):
        bound = upper + tolerance
        null = np.clip(bound, _SMALLEST_NULL, _LARGEST_NULL)
        mean = ((counts * score).sum(axis=1) / counts.sum(axis=1))[:, None]
        variance = (counts * (score - mean) ** 2).sum(axis=1)[:, None] / counts.sum(axis=1)[:, None]
        for shift in SCORE_SHIFTS:
            # The stake that grows fastest where the mean is null + shift: near shift m / (var + shift^2).
            stake = np.minimum(shift * null / (variance + shift**2), 0.95)
            factors.append(_or_nothing(np.log1p(stake * (score / null - 1.0)), bound <= _LARGEST_NULL))
    return np.stack(factors, axis=2)


def _middle_ranks(counts: Floats) -> Floats:
    """Give the middle rank in [0, 1] of each bin among the values with an order; 1/2 for unseen and missing."""
    ordered = counts[:, :-EXTRA_COLUMNS]
    below = np.cumsum(ordered, axis=1) - ordered
    ranks = np.full(counts.shape, 0.5)
    ranks[:, :-EXTRA_COLUMNS] = (below + ordered / 2.0) / np.maximum(ordered.sum(axis=1, keepdims=True), 1.0)
    return ranks


def _share_factors(reference: ReferenceHistogram, tolerance: float, delta: float) -> tuple[Floats, Floats]:
    """Log factors of an event in the bin and of one elsewhere: growth by each alternative, then loss."""
    counts = reference.counts
    n = counts.sum(axis=1, keepdims=True)
    # Edges come from the reference itself: what lies beyond its two extremes is Beta(2, n - 1), one success more than
    # were counted. Quantile bins are Beta(k, n - k + 1), which Clopper and Pearson's Beta(k + 1, n - k) covers.
    seen = counts.copy()
    seen[:, UNSEEN] += (~reference.categorical).astype(np.int64)
    bound = clopper_pearson_upper(seen, n, delta) + tolerance
    upper = np.clip(bound, _SMALLEST_NULL, _LARGEST_NULL)
    lower = np.clip(1.0 - clopper_pearson_upper(n - counts, n, delta) - tolerance, 0.0, _LARGEST_NULL)
    hits, misses = [], []
    for shift in SHARE_SHIFTS:
        alternative = np.minimum(upper + shift, (upper + 1.0) / 2.0)
        hits.append(_or_nothing(np.log(alternative / upper), bound <= _LARGEST_NULL))
        misses.append(_or_nothing(np.log((1.0 - alternative) / (1.0 - upper)), bound <= _LARGEST_NULL))
    hits.append(np.full(upper.shape, np.log(SHARE_LOSS)))
    misses.append(_or_nothing(np.log((1.0 - SHARE_LOSS * lower) / (1.0 - lower)), lower > _SMALLEST_LOSABLE))
    return np.stack(hits, axis=2), np.stack(misses, axis=2)


def _or_nothing(factors: Floats, possible: NDArray[np.bool_]) -> Floats:
    """Where nothing can be won (a share of 1 cannot grow, one of 0 cannot shrink), let the evidence decay instead.

    A factor below 1 is a valid bet; a factor of 1 would let it grow by one a block and reach any threshold in time.
    """
    return np.where(possible, factors, np.log(0.5))


def _weights(reference: ReferenceHistogram, scores: Floats, hit: Floats) -> Floats:
    _, width, shares = hit.shape
    rank_ways = scores.shape[2] // 4
    split = np.where(reference.categorical[:, None], _CATEGORY_WEIGHTS, _NUMBER_WEIGHTS)
    location, spread, missing, unseen, bins = (split[:, i : i + 1] for i in range(5))
    ranks = np.repeat(np.concatenate((location, spread), axis=1) / (2 * rank_ways), 2 * rank_ways, axis=1)
    real = np.arange(width)[None, :] < reference.bins[:, None]
    columns = np.where(real, bins / reference.bins[:, None], 0.0)
    columns[:, MISSING] = missing[:, 0]
    columns[:, UNSEEN] = unseen[:, 0]
    return np.concatenate((ranks, np.repeat(columns / shares, shares, axis=1)), axis=1)


def _round_down(factors: Floats) -> Floats:
    return np.asarray(np.floor(factors / _QUANTUM) * _QUANTUM, dtype=np.float64)
