"""The empirical-Bernstein confidence sequence of a mean of [0, 1] values, in six numbers.

Waudby-Smith and Ramdas, arXiv 2010.09686, theorem 2: with mu_t = (1/2 + sum x)/(t + 1), s2_t = (1/4 + sum (x_i -
mu_i)^2)/(t + 1), stakes lam_t that only look back, and psi(lam) = -ln(1 - lam) - lam, the mean lies within

    sum lam x / sum lam  +-  (ln(1/delta) + sum (x_i - mu_{i-1})^2 psi(lam_i)) / sum lam

with probability 1 - delta on each side: at all times at once with lam_t = sqrt(2 ln(1/delta) / (s2_{t-1} t ln(1+t))),
and at one time n, more tightly, with lam_t = sqrt(2 ln(1/delta) / (s2_{t-1} n)).
"""

from typing import Final, NamedTuple

import msgspec
import numpy as np

from detectors.columns import accumulated
from detectors.special import Floats

_LARGEST_STAKE: Final = 0.5  # theorem 2's truncation constant; psi grows without bound towards 1


class RunningSums(msgspec.Struct, forbid_unknown_fields=True):
    """The six numbers."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    stakes: float = 0.0
    staked: float = 0.0
    variance_term: float = 0.0


_FIELDS: Final = ("total", "squares", "stakes", "staked", "variance_term")


class Bounds(NamedTuple):
    """Lower and upper bounds of the mean after each value, shape (n,)."""

    lower: Floats
    upper: Floats


class RunningMean:
    """Bounds that follow a stream. All sums run value by value, so cuts of the stream change no bit.

    `horizon` is the number of values after which the bounds will be read once; None: they may be read at any time.
    `widening` stretches the margins: of values that depend on each other by the root of how much that raises the
    variance of their mean.
    """

    def __init__(
        self, delta: float, *, horizon: int | None = None, widening: float = 1.0, sums: RunningSums | None = None
    ) -> None:
        self._log_doubt = float(np.log(1.0 / delta))
        self._horizon = horizon
        self._widening = widening
        self.sums = sums or RunningSums()

    def advance(self, values: Floats) -> None:
        """Take values in [0, 1], at least one."""
        self._take(self._trail(values), len(values))

    def advance_until(self, values: Floats, limit: float) -> tuple[int, bool]:
        """Take values up to and with the first after which the lower bound is at least `limit`.

        Gives how many were taken and whether the last of them reached it.
        """
        trail = self._trail(values)
        reached = np.flatnonzero(self._bounds(trail[2], trail[3], trail[4]).lower >= limit)
        taken = int(reached[0]) + 1 if reached.size else len(values)
        self._take(trail, taken)
        return taken, bool(reached.size)

    def bounds(self) -> tuple[float, float]:
        """Give the lower and upper bound now; (0, 1) before the first value."""
        sums = self.sums
        if sums.count == 0:
            return 0.0, 1.0
        now = self._bounds(*(np.array([value]) for value in (sums.stakes, sums.staked, sums.variance_term)))
        return float(now.lower[0]), float(now.upper[0])

    @property
    def mean(self) -> float:
        """Mean of the values so far, 1/2 before the first."""
        return self.sums.total / self.sums.count if self.sums.count else 0.5

    @property
    def variance(self) -> float:
        """The regularised variance s2_t: 1/4 before the first value."""
        return (0.25 + self.sums.squares) / (self.sums.count + 1)

    def _trail(self, x: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Give all five sums after each value."""
        sums = self.sums
        t = np.arange(sums.count + 1, sums.count + len(x) + 1, dtype=np.float64)
        total = accumulated(sums.total, x)
        mean = (0.5 + total) / np.concatenate((t[:1], t + 1.0))  # mean[i]: after i of the values
        squares = accumulated(sums.squares, (x - mean[1:]) ** 2)
        variance_before = (0.25 + squares[:-1]) / t
        pace = t * np.log1p(t) if self._horizon is None else float(self._horizon)
        stake = np.minimum(np.sqrt(2.0 * self._log_doubt / (variance_before * pace)), _LARGEST_STAKE)
        variance_term = (x - mean[:-1]) ** 2 * (-np.log1p(-stake) - stake)
        return (
            total[1:],
            squares[1:],
            accumulated(sums.stakes, stake)[1:],
            accumulated(sums.staked, stake * x)[1:],
            accumulated(sums.variance_term, variance_term)[1:],
        )

    def _take(self, trail: tuple[Floats, ...], taken: int) -> None:
        self.sums.count += taken
        for field, values in zip(_FIELDS, trail, strict=True):
            setattr(self.sums, field, float(values[taken - 1]))

    def _bounds(self, stakes: Floats, staked: Floats, variance_term: Floats) -> Bounds:
        centre = staked / stakes
        margin = self._widening * (self._log_doubt + variance_term) / stakes
        return Bounds(np.maximum(centre - margin, 0.0), np.minimum(centre + margin, 1.0))
