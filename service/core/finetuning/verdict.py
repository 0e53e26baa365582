"""Is the new version better? A one-sided test of two mean losses."""

import math

import msgspec
import numpy as np

from service.core.advice import figure
from service.core.columns import Float

ALPHA = 0.05
"""Chance to call a version better that is not, when both losses are steady."""
_Z = 1.6448536269514722  # the standard normal's quantile at 1 - ALPHA
MIN_COUNT = 5
"""Fewest outcomes on each side. With fewer the expansion of Student's quantile is off by more than 1 %, and so are
most conclusions."""


class LossSample(msgspec.Struct, frozen=True, kw_only=True):
    """What is needed of a set of losses: how many, their mean and their unbiased variance (0 for one loss)."""

    count: int
    mean: float
    variance: float

    def __post_init__(self) -> None:
        if self.count < 0 or not math.isfinite(self.mean) or not math.isfinite(self.variance) or self.variance < 0:
            raise ValueError(f"expected a count, a finite mean and a finite variance of at least 0, got {self}")


class Verdict(msgspec.Struct, frozen=True):
    """Whether the new version is better (None: undecided), and one sentence why."""

    better: bool | None
    reason: str


def student_quantile(degrees: float) -> float:
    """Give the quantile at 1 - ALPHA of Student's t.

    The Cornish-Fisher expansion of Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.5: within
    .2 % for 4 degrees of freedom and more. (scipy would be exact, and costs half a second to import.)
    """
    z = _Z
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / degrees**power for power, term in enumerate(terms, start=1))


def judge(during: LossSample | None, after: LossSample) -> Verdict:
    """Compare the loss of the new version with the loss during the drift.

    Better iff `during.mean - after.mean > t * sqrt(v * (1 / n_during + 1 / n_after))`, where v is the larger of the two
    variances and t is Student's quantile for the smaller count less one. Both choices err on the side of "not better":
    Welch's own estimate of the error is too small when the new version has made no mistake yet (its variance is then
    0), and the degrees of freedom of the smaller sample bound Welch's from below (Hsu, 1938). Hoeffding's inequality
    would hold for every bounded loss, but could not see an error rate fall from .2 to .1 on 200 outcomes: it asks for
    sqrt(ln(1 / .05) / 2 * (1 / 200 + 1 / 200)) = .12.
    """
    if during is None or min(during.count, after.count) < MIN_COUNT:
        return Verdict(None, f"fewer than {MIN_COUNT} losses on one side, so that nothing can be said")
    variance = max(during.variance, after.variance)
    error = math.sqrt(variance * (1 / during.count + 1 / after.count))
    margin = student_quantile(min(during.count, after.count) - 1) * error
    better = during.mean - after.mean > margin
    return Verdict(
        better,
        f"mean loss {figure(after.mean)} on {after.count:,} outcomes against {figure(during.mean)} on {during.count:,} "
        f"during the drift: {'better' if better else 'not better'} by more than {figure(margin)}",
    )


def sample_of(losses: Float) -> LossSample:
    """Describe losses, shape (n,)."""
    if not len(losses):
        return LossSample(count=0, mean=0.0, variance=0.0)
    variance = float(np.var(losses, ddof=1)) if len(losses) > 1 else 0.0
    return LossSample(count=len(losses), mean=float(np.mean(losses)), variance=variance)
