"""Which problem a model solves, where its profile does not say: classification or regression, by its first events.

Text, booleans and everything with a score or probabilities are classes; a number that is not whole is a regression's.
Whole numbers may be either, and 1, 1.0 and "1" come from the same model by way of different files. They are classes
once each distinct one has come `REPEATS` times on the average, and numbers once there are more than `MOST_CLASSES`.
Until then a model is undecided, for `REPEATS` * `MOST_CLASSES` answers at most: its whole numbers have codes like
classes, which are read as numbers again if it turns out to be a regression.
"""

from typing import Final, Literal, TypedDict

import numpy as np

from schemas.events import Scalar
from service.core.columns import Float, Int

REPEATS: Final = 4
ENOUGH: Final = 20
"""Whole answers from which they may be called classes."""
ENOUGH_OF_ONE: Final = 100
"""The same where all are one: a regression too may begin with many zeros."""
MOST_CLASSES: Final = 100
"""Distinct whole numbers that may still be classes. Who has more says so with `problem` and `max_classes`."""
EXACT: Final = 2.0**53
"""From here on every float is whole."""
NEVER: Final = 1 << 62
"""Number of a record that does not come."""

Found = Literal["classes", "regression"]


def told_by(value: Scalar, *, scored: bool) -> Found | None:
    """Say what one prediction or label tells by itself; None: it is a whole number without a score."""
    if scored or isinstance(value, str | bool):
        return "classes"
    if isinstance(value, float) and not (value.is_integer() and abs(value) < EXACT):
        return "regression"
    return None


def told_by_whole(answers: int, distinct: int) -> Found | None:
    """Say what whole numbers tell: `answers` so far, and distinct ones among answers and labels."""
    if distinct > MOST_CLASSES:
        return "regression"
    enough = max(REPEATS * distinct, ENOUGH if distinct > 1 else ENOUGH_OF_ONE)
    return "classes" if answers >= enough else None


class CodedState(TypedDict):
    """The snapshot of a Coded."""

    numbers: list[float]
    ends: tuple[int, int]


class Coded:
    """The codes that a model's whole numbers had before it was known to be a regression.

    What was stored then is known by its offset: each input keeps its order.
    """

    def __init__(self, numbers: list[float], ends: tuple[int, int]) -> None:
        self._numbers: Float = np.array(numbers, np.float64)
        self._ends = ends
        """Offsets, of predictions and of labels, from which on values are themselves."""

    def predictions(self, values: Float, offsets: Int) -> Float:
        """Read the answers of predictions, shape (n,), as numbers."""
        return self._read(values, offsets < self._ends[0])

    def labels(self, values: Float, offsets: Int) -> Float:
        """Read labels, shape (n,), as numbers."""
        return self._read(values, offsets < self._ends[1])

    def _read(self, values: Float, coded: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Float:
        rows = np.flatnonzero(coded & ~np.isnan(values))
        if not len(rows):
            return values
        read = values.copy()
        read[rows] = self._numbers[values[rows].astype(np.int64)]
        return read

    def snapshot(self) -> CodedState:
        """Give it as plain data."""
        return {"numbers": self._numbers.tolist(), "ends": self._ends}


class FinderState(TypedDict):
    """The snapshot of a Finder."""

    answers: int
    ends: tuple[int, int]


class Finder:
    """Finds out the problem of one model."""

    def __init__(self) -> None:
        self.answers = 0
        """Whole numbers among the predictions so far."""
        self.ends = (0, 0)
        """Offsets behind the last prediction and the last label that came while it was undecided."""

    def take(self, value: Scalar, distinct: int, offset: int, *, is_label: bool, scored: bool) -> Found | None:
        """Take a prediction or a label, with how many distinct whole numbers there are now; say what is found."""
        found = told_by(value, scored=scored)
        if found is None:
            self.answers += not is_label
            found = told_by_whole(self.answers, distinct)
        if found is None:
            predictions, labels = self.ends
            self.ends = (predictions, offset + 1) if is_label else (offset + 1, labels)
        return found

    def snapshot(self) -> FinderState:
        """Give it as plain data."""
        return {"answers": self.answers, "ends": self.ends}

    def restore(self, state: FinderState) -> None:
        """Take over a snapshot."""
        self.answers, self.ends = state["answers"], state["ends"]
