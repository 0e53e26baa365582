"""A reference of 0/1 losses that goes on learning while the stream is stable or becomes better, never when it is worse.

A bound from the first n values is wide: at 10 % errors and n = 500 it stands at 12.8 %, and half of a rise to 15 % is
hidden behind it. And a model that is young when its reference is taken errs more then than later, which hides what is
lost afterwards. So whenever the values since the reset reach 2n, 4n, 8n, ..., two further windows are looked at: all
values since the reset, and the later half of them. Where the upper bound of one is below the bound that holds, it
takes its place. A window that saw a change for the worse has a higher bound and changes nothing.

The bounds hold together: the reference's may fail with probability .6 delta, those of the j-th doubling with
.2 delta / (j (j + 1)) each, which sum to delta. The times of the looks are fixed beforehand, and a bet uses only
bounds of what came before it.

Losses other than 0 and 1 are not followed.
"""

from typing import Final

import msgspec

from detectors.dependence import Dependence
from detectors.loss_reference import LossBounds, bernoulli_bounds
from detectors.protocol import Values

REFERENCE_SHARE: Final = 0.6
"""Of the doubt, for the reference itself: at delta .05 its bound is .24 standard errors above one with all."""


class Following(msgspec.Struct, forbid_unknown_fields=True):
    """The window that is being filled, and all values since the reset."""

    size: int
    pooled: Dependence
    number: int = 1
    window: Dependence = msgspec.field(default_factory=Dependence)

    @property
    def room(self) -> int:
        """How many values the window still takes."""
        return self.size - self.window.count

    def take(self, values: Values | list[float], doubt: float) -> LossBounds | None:
        """Take at most `room` values; where they fill the window, give the better of both bounds and begin the next.

        Its inflation is the greater of both: dependence may show in the longer window alone.
        """
        self.window.take(values)
        self.pooled.take(values)
        if self.room:
            return None
        share = (1.0 - REFERENCE_SHARE) / 2.0 / (self.number * (self.number + 1))
        inflation = max(self.window.inflation, self.pooled.inflation)
        both = [
            bernoulli_bounds(sums.total, sums.count, share * doubt, inflation) for sums in (self.window, self.pooled)
        ]
        self.size, self.number, self.window = 2 * self.size, self.number + 1, Dependence()
        return min(both, key=lambda bounds: bounds.upper)
