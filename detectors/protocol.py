"""What every detector is: an incremental test of one stream of numbers, in bounded memory."""

from enum import IntEnum
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
State = dict[str, Any]
"""Plain data with a `version`: numbers, strings, booleans, None, lists, dicts and bytes, never an object."""

Domain = Literal["bernoulli", "unit", "real"]
"""What values a detector takes: 0 or 1; the interval [0, 1]; any finite number."""


class Level(IntEnum):
    """How far the stream has moved from its reference."""

    STABLE = 0
    WARNING = 1
    DRIFT = 2


class Verdict(msgspec.Struct, frozen=True):
    """What a detector can say about its stream now.

    `statistic` is oriented so that larger means further from the reference: after the warm-up the level is
    DRIFT iff `statistic >= threshold`. `change_point` counts the samples since the last reset or rebase that came
    before the estimated change (so it is the index of the first sample after it); None while stable.
    """

    level: Level
    statistic: float
    threshold: float
    sample_count: int
    change_point: int | None = None
    p_value: float | None = None
    mean: float | None = None
    """The mean of what the detector holds to be current, where it keeps one."""


class Progress(NamedTuple):
    """How far `update_many` came. It stops behind the first value at which the level was DRIFT."""

    consumed: int
    level: Level


class Detector(Protocol):
    """An incremental test of one stream of numbers, in bounded memory.

    NaN and infinity are refused with ValueError, and then the state is what it was before the call.
    """

    name: ClassVar[str]
    domain: ClassVar[Domain]

    def update(self, value: float) -> Level:
        """Take one value and say the level after it."""
        ...

    def update_many(self, values: Values | list[float]) -> Progress:
        """Take values (shape (n,)) in order, stopping behind the first that drifts.

        Bit-identical to repeated `update`: the same levels, the same snapshot, wherever the values are cut. A list of
        floats is as good as an array, and faster where there are but a few of them.
        """
        ...

    def verdict(self) -> Verdict:
        """Say level, statistic and threshold without changing anything."""
        ...

    def reset(self) -> None:
        """Become as new. Only the owner calls it, never `update`."""
        ...

    def rebase(self) -> None:
        """Go on after a drift: forget what came before the change. ADWIN keeps its newer window; others reset."""
        ...

    def snapshot(self) -> State:
        """Give everything that is needed to go on elsewhere, parameters included."""
        ...

    def restore(self, state: State) -> None:
        """Take over a snapshot. Raises StateError when it is another detector's or a newer version's."""
        ...


@runtime_checkable
class Rearming(Protocol):
    """A detector that can forget the evidence of a change and keep what it has learnt as normal."""

    def rearm(self) -> None:
        """Go on after a drift, against the same reference."""
        ...


class StateError(ValueError):
    """A snapshot cannot be restored: it is another detector's, from a newer version, or damaged."""


def require_finite(values: Values) -> None:
    """Refuse NaN and infinity, naming the first position."""
    finite = np.isfinite(values)
    if not finite.all():
        index = int(np.argmin(finite))
        raise ValueError(f"$[{index}]: expected a finite number, got {values[index]}")
