"""Class names to codes: one table per model, shared by its predictions and labels."""

from bisect import bisect_left
from collections.abc import Sequence

from schemas.events import Scalar

OTHER = "(other)"
"""The class that stands for all names beyond the table's bound."""

UNSEEN = float("-inf")
"""What a table gives for a value that it has no code for yet. No JSON number reads as infinity."""


def class_name(value: Scalar) -> str:
    """Name the class of a value. true, 1 and 1.0 are one class, for producers mix them up: it is called 1.

    >>> class_name(True), class_name(1.0), class_name("1"), class_name(0.5), class_name("UP")
    ('1', '1', '1', '0.5', 'UP')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(int(value))
    return str(int(value)) if value.is_integer() else repr(value)


class ClassTable(dict[Scalar, float]):
    """Raw value to class code. A value never seen reads as UNSEEN; `register` gives it a code.

    The caller registers in the order of the merged records, so that codes do not depend on where batches were cut. It
    registers a whole step before anything else is done with it, so whoever speaks in the middle of a step asks for what
    was known before a record. Bounded: at most `max_classes` names and two raw spellings of each (text and number).
    """

    def __init__(self, max_classes: int, names: Sequence[str] = (), overflowed: int = 0) -> None:
        super().__init__()
        self.names = list(names)
        self.max_classes = max_classes
        self._overflowed = overflowed
        # By rising number of the record that caused it; of a restored table's names only that they are long known.
        self._named_at = [-1] * len(self.names)
        self._overflowed_at: list[int] = []

    def __missing__(self, value: Scalar) -> float:
        return UNSEEN

    @property
    def overflowed(self) -> int:
        """Values so far for which there was no room."""
        return self._overflowed + len(self._overflowed_at)

    def names_before(self, sequence: int) -> list[str]:
        """Give the names that were known before the record with this number."""
        return self.names[: bisect_left(self._named_at, sequence)]

    def overflowed_before(self, sequence: int) -> int:
        """Count the values before the record with this number, of this step or an earlier one, that found no room."""
        return self._overflowed + bisect_left(self._overflowed_at, sequence)

    def begin_step(self) -> None:
        """Let go of the numbers of earlier steps' records, which nobody asks for any more."""
        self._overflowed += len(self._overflowed_at)
        self._overflowed_at.clear()

    def register(self, value: Scalar, sequence: int) -> float:
        """Give the code of a value, making one where there is room, else that of OTHER (and count it).

        `sequence`: number of the record that holds it; must not fall.
        """
        name = class_name(value)
        if name not in self.names:
            if len(self.names) >= self.max_classes:
                self._overflowed_at.append(sequence)
                if OTHER not in self.names:
                    self._add(OTHER, sequence)
                return float(self.names.index(OTHER))
            self._add(name, sequence)
        code = float(self.names.index(name))
        self[value] = code
        return code

    def learn(self, name: str, sequence: int) -> None:
        """Make a code for a class that is only named so far, as in probabilities; without room it is passed over."""
        if name not in self and (name in self.names or len(self.names) < self.max_classes):
            self.register(name, sequence)

    def _add(self, name: str, sequence: int) -> None:
        self.names.append(name)
        self._named_at.append(sequence)


class NumberTable(dict[Scalar, float]):
    """The table of a regression model: a number is its own code, everything else reads as UNSEEN text (NaN)."""

    names: tuple[str, ...] = ()
    overflowed = 0

    def __missing__(self, value: Scalar) -> float:
        return float(value) if isinstance(value, float | int) else float("nan")

    def names_before(self, sequence: int) -> list[str]:  # noqa: ARG002  (as ClassTable has it)
        """Give no names."""
        return []

    def overflowed_before(self, sequence: int) -> int:  # noqa: ARG002  (as ClassTable has it)
        """Count nothing."""
        return 0

    def begin_step(self) -> None:
        """Do nothing."""

    def learn(self, name: str, sequence: int) -> None:
        """Do nothing: a number has no classes."""

    def register(self, value: Scalar, sequence: int) -> float:  # noqa: ARG002  (as ClassTable has it)
        """Read a number; there is nothing to register."""
        return self[value]
