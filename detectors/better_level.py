"""A reference of 0/1 losses that follows the stream to better levels, and never to worse ones.

A model that is young when its reference is taken errs more then than later, and a bound from its first 500 outcomes
hides what is lost afterwards: on SEA, a Hoeffding tree watched from its first row on, no drift was found. So behind the
reference come windows of n, n, 2n, 4n, ... values (they end at 2n, 4n, 8n, ... values since the reset), and where the
upper bound of one is below the bound that holds, it takes its place. The bounds hold together: the reference's may
fail with probability .8 delta, that of the j-th window with .2 delta / (j (j + 1)), which sum to delta. A window that
saw a change for the worse has a higher bound and changes nothing.

Losses other than 0 and 1 are not followed.
"""

from typing import Final

import msgspec

from detectors.dependence import Dependence
from detectors.loss_reference import LossBounds, bernoulli_bounds
from detectors.protocol import Values

REFERENCE_SHARE: Final = 0.8
"""Of the doubt, for the reference itself: its bound is then 6 % of a standard error above one that has all of it."""


class Following(msgspec.Struct, forbid_unknown_fields=True):
    """The window that is being filled."""

    size: int
    number: int = 1
    window: Dependence = msgspec.field(default_factory=Dependence)

    @property
    def room(self) -> int:
        """How many values the window still takes."""
        return self.size - self.window.count

    def take(self, values: Values | list[float], doubt: float) -> LossBounds | None:
        """Take at most `room` values; give the bounds of the window where they fill it, and begin the next."""
        self.window.take(values)
        if self.room:
            return None
        window, share = self.window, (1.0 - REFERENCE_SHARE) / (self.number * (self.number + 1))
        if self.number > 1:
            self.size *= 2
        self.number, self.window = self.number + 1, Dependence()
        return bernoulli_bounds(window.total, window.count, share * doubt, window.inflation)
