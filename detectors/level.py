"""The level of a loss in [0, 1] over a stretch of outcomes: its mean, its spread, and how well the mean is known."""

from math import sqrt
from typing import Final

import msgspec

from detectors.special import Floats

_NINETY: Final = 1.645
"""The 95 % quantile of the normal distribution: 5 % on either side."""


class LevelSums(msgspec.Struct, forbid_unknown_fields=True):
    """Sums over a stretch of losses."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def take(self, values: Floats) -> None:
        """Add losses, shape (n,). Numpy adds pairwise: give always the same pieces, or the last bits differ."""
        self.count += len(values)
        self.total += float(values.sum())
        self.squares += float((values * values).sum())

    def add(self, other: "LevelSums") -> None:
        """Add another stretch."""
        self.count += other.count
        self.total += other.total
        self.squares += other.squares

    @property
    def mean(self) -> float:
        """The mean, drawn towards one half by half a loss: never 0 or 1, which no bet and no logarithm can take."""
        return (self.total + 0.5) / (self.count + 1.0)

    @property
    def plain_mean(self) -> float:
        """The mean as people take it; 0 where there is no loss."""
        return self.total / max(self.count, 1)

    @property
    def spread(self) -> float:
        """The variance as a share of the largest that this mean allows, m (1 - m): 1 where losses are 0 or 1."""
        mean = self.mean
        variance = (self.squares + 0.5) / (self.count + 1.0) - mean * mean
        return min(max(variance / (mean * (1.0 - mean)), 1e-3), 1.0)

    def error(self, inflation: float) -> float:
        """Give the standard error of the mean of losses whose dependence raises its variance by `inflation`."""
        mean = self.mean
        return sqrt(self.spread * mean * (1.0 - mean) * inflation / max(self.count, 1))

    def interval(self, inflation: float) -> tuple[float, float]:
        """Give the 90 % interval of the mean (Wilson's score interval, 1927), which stays within [0, 1]."""
        z2 = _NINETY**2 * self.spread * inflation
        count, mean = max(self.count, 1), self.plain_mean
        centre = (mean + z2 / (2.0 * count)) / (1.0 + z2 / count)
        half = sqrt(z2 * (mean * (1.0 - mean) / count + z2 / (4.0 * count * count))) / (1.0 + z2 / count)
        return max(centre - half, 0.0), min(centre + half, 1.0)
