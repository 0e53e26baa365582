"""How much a stream's values depend on those before them, and by how much that widens what a mean of them may be.

Where values follow each other, n of them say as much about their mean as n / V independent ones, with V = 1 + 2 (the
sum of all autocorrelations). V is the greater of two estimates: that of an AR(1) process, (1 + r) / (1 - r) from the
autocorrelation r of neighbours, and that of batch means, the variance of sums of 25 values over 25 variances of one.
Both are noise where values are independent, so V is 1 unless r is 2.5 standard errors (1 / sqrt n) above 0: 1 in 160
independent windows is taken for a dependent one.
"""

from math import sqrt
from typing import Final

import msgspec
import numpy as np

from detectors.columns import accumulated
from detectors.protocol import Values

_BATCH: Final = 25  # 20 batches in a window of 500; an autocorrelation of .9 has fallen to .07 over one
_SIGNIFICANT: Final = 2.5
LARGEST: Final = 100.0  # beyond it a window of 500 holds five independent values, and says nothing anyway
_FEW: Final = 24  # below this many values plain floats beat numpy's cost per call


class Dependence(msgspec.Struct, forbid_unknown_fields=True):
    """Sums over a window of values. They run value by value; of zeros and ones they are exact."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    products: float = 0.0
    """The sum of each value times the one before it."""
    last: float = 0.0
    mark: float = 0.0
    """The total where the present batch began."""
    batch_squares: float = 0.0
    """The sum of the squared sums of the batches."""

    def take(self, values: Values | list[float]) -> None:
        """Take values."""
        if isinstance(values, list) or len(values) < _FEW:
            self._take_few(values if isinstance(values, list) else values.tolist())
            return
        before = np.concatenate(([self.last], values[:-1]))
        totals = accumulated(self.total, values)
        ends = np.arange(_BATCH - self.count % _BATCH, len(values) + 1, _BATCH)
        sums = np.diff(totals[ends], prepend=self.mark)
        self.squares = float(accumulated(self.squares, values * values)[-1])
        self.products = float(accumulated(self.products, before * values)[-1])
        self.batch_squares = float(accumulated(self.batch_squares, sums * sums)[-1])
        self.mark = float(totals[ends[-1]]) if len(ends) else self.mark
        self.count += len(values)
        self.total, self.last = float(totals[-1]), float(values[-1])

    def _take_few(self, values: list[float]) -> None:
        count, total, squares, products, last = self.count, self.total, self.squares, self.products, self.last
        for value in values:
            count += 1
            total += value
            squares += value * value
            products += last * value
            last = value
            if count % _BATCH == 0:
                batch = total - self.mark
                self.batch_squares += batch * batch
                self.mark = total
        self.count, self.total, self.squares, self.products, self.last = count, total, squares, products, last

    @property
    def inflation(self) -> float:
        """V: by how much the variance of the mean exceeds that of as many independent values. At least 1."""
        batches = self.count // _BATCH
        if batches < 4:  # a variance of three batches is no estimate
            return 1.0
        mean = self.total / self.count
        variance = self.squares / self.count - mean * mean
        if variance <= 1e-12:
            return 1.0
        neighbours = (self.products / (self.count - 1) - mean * mean) / variance
        if neighbours <= _SIGNIFICANT / sqrt(self.count):
            return 1.0
        first_order = (1.0 + neighbours) / max(1.0 - neighbours, 1e-6)
        batch_mean = self.mark / batches
        batch_variance = (self.batch_squares / batches - batch_mean * batch_mean) * batches / (batches - 1)
        return min(max(first_order, batch_variance / (_BATCH * variance), 1.0), LARGEST)
