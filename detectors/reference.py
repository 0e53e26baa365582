"""What the charts compare with: mean, deviation and skewness of a reference, and thresholds calibrated by them."""

import math
from functools import lru_cache

import msgspec

SMALLEST = 1e-9
"""The least deviation, relative to the mean or 1. Where a constant stream begins to vary, that is a change at once."""

OVERSHOOT = 1.166
"""Siegmund 1985: a normal random walk exceeds a barrier by 0.583 on average, at either end of its way."""


class Reference(msgspec.Struct, forbid_unknown_fields=True):
    """Running moments of the reference's values (Pebay 2008, after Welford): they are taken one by one."""

    count: int = 0
    mean: float = 0.0
    second: float = 0.0
    """The sum of squared deviations from the mean."""
    third: float = 0.0
    """The sum of cubed deviations."""
    is_binary: bool = True
    """All values were 0 or 1."""

    def take(self, value: float) -> None:
        """Count one more value."""
        before = float(self.count)
        self.count += 1
        away = value - self.mean
        step = away / self.count
        spread = away * step * before
        self.mean += step
        self.third += spread * step * (before - 1.0) - 3.0 * step * self.second
        self.second += spread
        self.is_binary = self.is_binary and value in (0.0, 1.0)

    def standard(self) -> tuple[float, float, float]:
        """Give mean, standard deviation and skewness.

        Of zeros and ones they follow from the rate, which is estimated as (k + 1) / (n + 2) (Laplace), since a
        reference without a single error does not show that there are none.
        """
        if self.is_binary:
            rate = (self.mean * self.count + 1.0) / (self.count + 2.0)
            deviation = math.sqrt(rate * (1.0 - rate))
            return rate, deviation, (1.0 - 2.0 * rate) / deviation
        variance = self.second / (self.count - 1.0)
        deviation = math.sqrt(variance)
        least = SMALLEST * max(1.0, abs(self.mean))
        if deviation <= least:
            return self.mean, least, 0.0
        return self.mean, deviation, self.third / self.count / (variance * deviation)


@lru_cache(maxsize=4096)
def sum_threshold(run_length: float, allowance: float, skewness: float) -> float:
    """Give the threshold at which a floored sum of (z - allowance) exceeds once in `run_length` values of mean 0.

    Siegmund's approximation: the run length is (exp(t b) - t b - 1) / (t k), with k the allowance, b the threshold +
    1.166 and t the root of E exp(t (z - k)) = 1, which is 2k for normal z. Rare errors are skewed: the root is then
    far smaller and the threshold higher (a third, at an error rate of .02), and a table for normal z alarms too often.
    So t is the smaller of the normal root and that of the two values that have mean 0, deviation 1 and this skewness;
    for zeros and ones that is exact.

    Rounded to four decimals, so that no other machine's exponential function gives another threshold.
    """
    root = _root(allowance, skewness)
    target = run_length * root * allowance
    low, high = 0.0, 700.0
    for _ in range(64):
        middle = 0.5 * (low + high)
        if math.exp(middle) - middle - 1.0 < target:
            low = middle
        else:
            high = middle
    return round(max(high / root - OVERSHOOT, 1.0), 4)


def _root(allowance: float, skewness: float) -> float:
    """Give the positive root of E exp(t (z - k)) = 1, at most the normal one."""
    share = 0.5 * (1.0 - skewness / math.sqrt(4.0 + skewness * skewness))
    share = min(max(share, 1e-6), 1.0 - 1e-6)
    above, below = math.sqrt((1.0 - share) / share), -math.sqrt(share / (1.0 - share))
    low, high = 0.0, 2.0 * allowance
    for _ in range(64):
        middle = 0.5 * (low + high)
        # In logarithms, with the larger exponent taken out: exp(t above) would overflow for very rare errors.
        excess = middle * (above - allowance)
        rest = share + (1.0 - share) * math.exp(middle * (below - above))
        if excess + math.log(rest) < 0.0:
            low = middle
        else:
            high = middle
    return high
