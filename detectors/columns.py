"""What the incremental detectors do with a column of values before and after their own arithmetic."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from detectors.protocol import Domain, Level, Progress, Values, require_finite

LARGEST = 1e75
"""Magnitudes above this are refused: the sum of 10^9 cubed deviations then stays below 10^235, far from overflow."""

SHORT = 48
"""Columns of fewer values are scanned in plain Python: some thirty numpy calls cost as much as 50 such steps."""

LONGEST = 4096
"""Values judged in one go. It bounds scratch memory, and what is computed in vain behind a drift."""

_BINARY = frozenset((0.0, 1.0))

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]


def column(values: Values | list[float], domain: Domain) -> Values:
    """Give values as a contiguous column, or refuse them all with a ValueError that names the first bad position."""
    array = np.ascontiguousarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"expected a column of shape (n,), got shape {array.shape}")
    # NaN and infinity fail every one of these comparisons, so one look at the column is enough where all is well.
    if domain == "bernoulli":
        _require(array, (array == 0.0) | (array == 1.0), "0 or 1")
    elif domain == "unit":
        _require(array, (array >= 0.0) & (array <= 1.0), "a number in [0, 1]")
    else:
        _require(array, np.abs(array) <= LARGEST, f"a number of at most {LARGEST:g} in magnitude")
    return array


def few(values: list[float], domain: Domain) -> list[float]:
    """Give a short list of plain floats as it is, or refuse it as `column` does: in a tenth of its time, for four."""
    if domain == "bernoulli":
        good = is_binary(values)
    else:
        low, high = (0.0, 1.0) if domain == "unit" else (-LARGEST, LARGEST)
        good = all(low <= value <= high for value in values)
    if not good:
        column(np.array(values, dtype=np.float64), domain)
    return values


def is_binary(values: Values | list[float]) -> bool:
    """Say whether there is nothing but 0 and 1."""
    if isinstance(values, list):
        return _BINARY.issuperset(values)
    return bool(((values == 0.0) | (values == 1.0)).all())


def _require(array: Values, good: Mask, expected: str) -> None:
    if not good.all():
        require_finite(array)
        index = int(np.argmin(good))
        raise ValueError(f"$[{index}]: expected {expected}, got {array[index]}")


def accumulated(start: float, increments: Values) -> Values:
    """Give the running sums from `start` on, start included: shape (n + 1,).

    `np.add.accumulate` adds strictly in order, so that a column may be cut anywhere without changing a bit.
    """
    return np.add.accumulate(np.concatenate(([start], increments)))


def last_marked(marks: Mask) -> Indices:
    """Give at each position the last marked position up to and including it, or -1."""
    return np.maximum.accumulate(np.where(marks, np.arange(len(marks)), -1))


def first_marked(marks: Mask) -> int:
    """Give the first marked position, or -1."""
    index = int(np.argmax(marks)) if len(marks) else 0
    return index if len(marks) and marks[index] else -1


def number(value: float, domain: Domain) -> float:
    """Give one value as a float, or refuse it as `column` does."""
    value = float(value)
    if domain == "bernoulli":
        good, expected = value in (0.0, 1.0), "0 or 1"
    elif domain == "unit":
        good, expected = 0.0 <= value <= 1.0, "a number in [0, 1]"
    else:
        good, expected = abs(value) <= LARGEST, f"a finite number of at most {LARGEST:g} in magnitude"
    if not good:
        raise ValueError(f"$: expected {expected}, got {value}")
    return value


def advance(
    values: Values,
    scan: Callable[[list[float]], Progress],
    block: Callable[[Values], Progress],
) -> Progress:
    """Feed a column that is not empty to `scan` if it is short and to `block` if it is long, up to the first drift.

    Both must stop behind the first value that drifts, and agree bit for bit.
    """
    consumed, level = 0, Level.STABLE
    while consumed < len(values) and level is not Level.DRIFT:
        part = values[consumed : consumed + LONGEST]
        taken, level = scan(part.tolist()) if len(part) < SHORT else block(part)
        consumed += taken
    return Progress(consumed, level)
