"""Class names to codes: one table per model, shared by its predictions and labels."""

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
    number = float(value)
    return str(int(number)) if number.is_integer() else repr(number)


class ClassTable(dict[Scalar, float]):
    """Raw value to class code. A value never seen reads as UNSEEN; `register` gives it a code.

    The caller registers in the order of the merged records, so that codes do not depend on where batches were cut.
    Bounded: at most `max_classes` names and two raw spellings of each (text and number).
    """

    def __init__(self, max_classes: int, names: Sequence[str] = ()) -> None:
        super().__init__()
        self.names = list(names)
        self.max_classes = max_classes
        self.overflowed = 0

    def __missing__(self, value: Scalar) -> float:
        return UNSEEN

    def register(self, value: Scalar) -> float:
        """Give the code of a value, making one where there is room, else that of OTHER (and count it)."""
        name = class_name(value)
        if name not in self.names:
            if len(self.names) >= self.max_classes:
                self.overflowed += 1
                name = OTHER
                if OTHER not in self.names:
                    self.names.append(OTHER)
                return float(self.names.index(OTHER))
            self.names.append(name)
        code = float(self.names.index(name))
        self[value] = code
        return code


class NumberTable(dict[Scalar, float]):
    """The table of a regression model: a number is its own code, everything else reads as UNSEEN text (NaN)."""

    names: tuple[str, ...] = ()

    def __missing__(self, value: Scalar) -> float:
        return float(value) if isinstance(value, float | int) else float("nan")

    def register(self, value: Scalar) -> float:
        """Read a number; there is nothing to register."""
        return self[value]
