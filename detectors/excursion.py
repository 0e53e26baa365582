"""Where a loss began to run above a level: the change-point estimate of the tests that have none of their own."""

import msgspec
import numpy as np

from detectors.columns import accumulated
from detectors.special import Floats


class Excursion(msgspec.Struct, forbid_unknown_fields=True):
    """The argmin of the cumulated sum of x - level (Page's CUSUM), and the mean since then."""

    count: int = 0
    total: float = 0.0
    excess: float = 0.0
    lowest: float = 0.0
    begin: int = 0
    """How many values came before the sum was last at its lowest."""
    begin_total: float = 0.0

    def advance(self, values: Floats, level: float) -> None:
        """Take values, at least one."""
        excess = accumulated(self.excess, values - level)
        totals = accumulated(self.total, values)
        # The last of equal minima: the change is at most as early as that.
        place = len(excess) - 1 - int(np.argmin(excess[::-1]))
        if excess[place] <= self.lowest:
            self.lowest, self.begin, self.begin_total = float(excess[place]), self.count + place, float(totals[place])
        self.count += len(values)
        self.total, self.excess = float(totals[-1]), float(excess[-1])

    @property
    def mean_since(self) -> float | None:
        """Mean of the values since the change; None where there are none."""
        since = self.count - self.begin
        return (self.total - self.begin_total) / since if since else None
