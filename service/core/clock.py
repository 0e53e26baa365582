"""A clock that follows the times which records tell, and which no single record can move.

It is the running maximum of the running lower median of the last nine times: at the beginning, of those told so far.
So four wrong records of any nine neither move it ahead nor hold it back. The price is that it follows in-order times
four records behind. It is a function of the records' order alone: no wall clock, the same wherever batches are cut.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from schemas.events import MAX_EPOCH_MS
from service.core.columns import Bool, Int

REMEMBERED: Final = 8
"""Times before the newest of which the median is taken."""

_FAR: Final = 1 << 60
FRESH: Final = (_FAR, -_FAR) * (REMEMBERED // 2)
"""What is remembered of nothing, oldest first. Placeholders above and below every time leave the window one by one, so
that the median of nine is the lower median of the times that were told: no case of its own for the first eight."""

# The median of nine by exchanges (N. Devillard, "Fast median search", 1998): after them it stands in the fifth place.
_EXCHANGES: Final = (
    *((1, 2), (4, 5), (7, 8), (0, 1), (3, 4), (6, 7), (1, 2), (4, 5), (7, 8)),
    *((0, 3), (5, 8), (4, 7), (3, 6), (1, 4), (2, 5), (4, 7), (4, 2), (6, 4), (4, 2)),
)


def medians(times_ms: Int) -> Int:
    """Give the median of each nine consecutive times: shape (n - 8,) for n of them."""
    if (times_ms[1:] >= times_ms[:-1]).all():
        return times_ms[4:-4]
    count = len(times_ms) - REMEMBERED
    columns = [times_ms[start : start + count] for start in range(REMEMBERED + 1)]
    for low, high in _EXCHANGES:
        columns[low], columns[high] = (
            np.minimum(columns[low], columns[high]),
            np.maximum(columns[low], columns[high]),
        )
    return columns[4]


def _are_times(timestamps_ms: Int) -> Bool:
    """Say which timestamps are times at all: a producer may write anything there, as microseconds."""
    are_times: Bool = (timestamps_ms > 0) & (timestamps_ms <= MAX_EPOCH_MS)
    return are_times


def told_times(times_ms: Int, timestamps_ms: Int) -> Int:
    """Give what records tell a clock of event time: no event is later than the record that tells of it.

    `times_ms`: event times, negative where a record has none. `timestamps_ms`: of the records in the log; one that is
    not positive, or later than MAX_EPOCH_MS, counts as absent and bounds nothing.
    """
    return np.where(_are_times(timestamps_ms), np.minimum(times_ms, timestamps_ms), times_ms)


def log_times(times_ms: Int, timestamps_ms: Int) -> Int:
    """Give what records tell the clock of the log: their timestamps, and event times where a broker gives none."""
    return np.where(_are_times(timestamps_ms), timestamps_ms, times_ms)


class RobustClock:
    """The clock of one sequence of records."""

    def __init__(self, now_ms: int = 0, remembered: Sequence[int] = FRESH) -> None:
        self.now_ms = now_ms
        """Its time; it never falls."""
        self._remembered: Int = np.array(remembered, dtype=np.int64)

    def advance(self, times_ms: Int) -> Int:
        """Take records in order, by the times that they tell (negative: none); give the clock at each."""
        at: Int = np.full(len(times_ms), self.now_ms, dtype=np.int64)
        tells = times_ms >= 0
        told = times_ms if tells.all() else times_ms[tells]
        if len(told):
            window = np.concatenate([self._remembered, told])
            self._remembered = window[-REMEMBERED:].copy()
            at[tells] = np.maximum(medians(window), self.now_ms)
            at = np.maximum.accumulate(at)
            self.now_ms = int(at[-1])
        return at

    def snapshot(self) -> list[int]:
        """Give it as plain data."""
        return [self.now_ms, *self._remembered.tolist()]

    @classmethod
    def restore(cls, state: Sequence[int]) -> "RobustClock":
        """Make the clock that gave a snapshot."""
        return cls(state[0], state[1:])


class InputClock:
    """The clock of one input, by which inputs are merged: it follows in-order records at once, however few they are.

    A record moves it past the median of event times only as far as it came as long after its event as the records
    before it did, by the median again: one that claims a later time than its neighbours, at the same moment, does not.
    An input of few records could not be merged with another by medians alone, for four records may be days.
    """

    def __init__(self, now_ms: int = 0, told: Sequence[int] = FRESH, ahead: Sequence[int] = FRESH) -> None:
        self.now_ms = now_ms
        """Its time; it never falls."""
        self._told: Int = np.array(told, dtype=np.int64)
        self._ahead: Int = np.array(ahead, dtype=np.int64)
        """Of the last records, how far the event was ahead of the timestamp: 0 or less."""

    def advance(self, times_ms: Int, timestamps_ms: Int) -> Int:
        """Take records in order, as `told_times` does; give the clock at each."""
        at: Int = np.full(len(times_ms), self.now_ms, dtype=np.int64)
        tells = times_ms >= 0
        told = told_times(times_ms, timestamps_ms)[tells]
        if len(told):
            stamps = np.maximum(log_times(told, timestamps_ms[tells]), told)
            times, ahead = np.concatenate([self._told, told]), np.concatenate([self._ahead, told - stamps])
            self._told, self._ahead = times[-REMEMBERED:].copy(), ahead[-REMEMBERED:].copy()
            reached = np.maximum(medians(times), np.minimum(told, stamps + medians(ahead)))
            at[tells] = np.maximum(reached, self.now_ms)
            at = np.maximum.accumulate(at)
            self.now_ms = int(at[-1])
        return at

    def snapshot(self) -> list[int]:
        """Give it as plain data."""
        return [self.now_ms, *self._told.tolist(), *self._ahead.tolist()]

    @classmethod
    def restore(cls, state: Sequence[int]) -> "InputClock":
        """Make the clock that gave a snapshot."""
        return cls(state[0], state[1 : REMEMBERED + 1], state[REMEMBERED + 1 :])
