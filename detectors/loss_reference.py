"""What a reference window says about a loss in [0, 1]: bounds of its mean, and its variance.

0/1 losses get the exact bounds of Clopper and Pearson, other losses the empirical-Bernstein bound for a window of
known length (`detectors.running_mean`). Which of them is decided by the window itself: it held nothing but 0 and 1.
Losses that depend on those before them count for fewer (`detectors.dependence`).
"""

from typing import NamedTuple

import msgspec

from detectors.bounds import bounded_mean_upper, clopper_pearson_upper
from detectors.dependence import Dependence
from detectors.protocol import Values
from detectors.running_mean import RunningMean, RunningSums


class LossBounds(NamedTuple):
    """What the mean loss of the reference may have been. Each bound fails with probability at most the doubt."""

    lower: float
    upper: float
    variance: float
    binary: bool
    inflation: float = 1.0
    """By how much dependence between the losses raises the variance of their mean."""


class ReferenceSums(msgspec.Struct, forbid_unknown_fields=True):
    """What is kept of a reference window."""

    sums: RunningSums = msgspec.field(default_factory=RunningSums)
    dependence: Dependence = msgspec.field(default_factory=Dependence)
    ones: int = 0
    binary: bool = True


class LossReference:
    """A reference window that is being learnt from the first `size` losses."""

    def __init__(self, size: int, doubt: float, state: ReferenceSums | None = None) -> None:
        self.state = state or ReferenceSums()
        self._size = size
        self._doubt = doubt
        self._mean = RunningMean(doubt, horizon=size, sums=self.state.sums)

    @property
    def count(self) -> int:
        """Losses so far."""
        return self.state.sums.count

    @property
    def whole(self) -> bool:
        """Whether the window is full."""
        return self.count >= self._size

    def learn(self, values: Values) -> int:
        """Take losses until the window is full and say how many."""
        taken = values[: self._size - self.count]
        if not len(taken):
            return 0
        self._mean.advance(taken)
        self.state.dependence.take(taken)
        ones = int((taken == 1.0).sum())
        self.state.ones += ones
        self.state.binary = self.state.binary and ones + int((taken == 0.0).sum()) == len(taken)
        return len(taken)

    @property
    def inflation(self) -> float:
        """By how much the dependence of the losses raises the variance of their mean."""
        return self.state.dependence.inflation

    def dependence(self) -> Dependence:
        """Give the sums over the window, to go on with."""
        return msgspec.structs.replace(self.state.dependence)

    def bounds(self) -> LossBounds:
        """Give the bounds of the full window."""
        inflation = self.inflation
        if self.state.binary:
            return bernoulli_bounds(self.state.ones, self.count, self._doubt, inflation)
        lower, upper = self._mean.bounds()
        if inflation > 1.0:
            mean, wider = self._mean.mean, inflation**0.5
            lower, upper = max(mean - (mean - lower) * wider, 0.0), min(mean + (upper - mean) * wider, 1.0)
        return LossBounds(lower, upper, self._mean.variance, binary=False, inflation=inflation)


def bernoulli_bounds(ones: float, count: float, doubt: float, inflation: float = 1.0) -> LossBounds:
    """Bound the mean of 0/1 losses, of which `inflation` say as much as one independent one."""
    k, n = ones / inflation, count / inflation
    upper = float(clopper_pearson_upper(k, n, doubt))
    lower = 1.0 - float(clopper_pearson_upper(n - k, n, doubt))
    return LossBounds(lower, upper, upper * (1.0 - upper), binary=True, inflation=inflation)


def given_bounds(count: int, mean: float, variance: float | None, doubt: float, inflation: float = 1.0) -> LossBounds:
    """Bound the mean from a stored reference: 0/1 losses where no variance is given."""
    if variance is None:
        return bernoulli_bounds(round(mean * count), count, doubt, inflation)
    effective = max(int(count / inflation), 1)
    upper = bounded_mean_upper(mean, variance, effective, doubt)
    lower = 1.0 - bounded_mean_upper(1.0 - mean, variance, effective, doubt)
    return LossBounds(lower, upper, variance, binary=False, inflation=inflation)
