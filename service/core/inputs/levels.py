"""What a column holds: its usable values, its mean or its most frequent category, and how to say so."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from schemas.outputs import Evidence
from service.core.advice import figure
from service.core.classes import OTHER
from service.core.columns import Bool, Float


class Schema(Protocol):
    """What the columns of a matrix mean."""

    @property
    def names(self) -> list[str]:
        """Name of each column."""
        ...

    @property
    def wanted(self) -> Bool:
        """Whether a column is to be reported on, shape (width,)."""
        ...

    def is_categorical(self, column: int) -> bool:
        """Say whether it holds category codes."""
        ...

    def categories(self, column: int) -> list[str]:
        """Names of its categories in code order."""
        ...


def describe_columns(rows: Float, schema: Schema, columns: Iterable[int]) -> list[float | str | None]:
    """Give the mean of each numeric column of `rows` (n, width), the top category and its share of others.

    None for a column without values. With its share, as "DE (58.0%)", because drift often leaves the top where it was.
    """
    return [_describe(rows[:, column], schema, column) for column in columns]


def _describe(values: Float, schema: Schema, column: int) -> float | str | None:
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    if schema.is_categorical(column):
        codes, counts = np.unique(values, return_counts=True)
        names = schema.categories(column)
        code = int(codes[np.argmax(counts)])
        name = names[code] if 0 <= code < len(names) else OTHER
        return f"{name} ({int(counts.max()) / values.size:.1%})"
    return mean_of(values)


def mean_of(values: Float) -> float:
    """Give the mean of finite numbers, shape (n,), n > 0."""
    # Scaled by a power of two, which is exact: the sum of numbers near 1e308 must not overflow.
    scale = 2.0 ** np.ceil(np.log2(values.size))
    return float((values / scale).sum() / values.size * scale)


def usable(rows: Float, width: int) -> Float:
    """Give the first `width` columns with NaN for everything that is no value."""
    values = rows[:, :width]
    wrong = np.isinf(values)
    return np.where(wrong, np.nan, values) if wrong.any() else values


class Moved(NamedTuple):
    """Columns of one finding, for its summary."""

    named: Sequence[tuple[str, str]]
    """(name, a clause on how it moved) of the furthest: of those beyond their threshold, or of all where none is."""
    beyond: int
    """New ones whose current window is beyond its threshold."""
    slight: int
    """New ones of which only the evidence of many blocks together is beyond."""
    total: int
    """All that are beyond now, the new ones included."""
    swapped: Sequence[tuple[str, str]] = ()


def summarise_drift(moved: Moved, evidence: Evidence) -> str:
    """Tell a person which columns drifted and how. Only what is beyond its threshold is counted as moved."""
    names = ", ".join(name for name, _ in moved.named)
    left = (moved.beyond or moved.slight) - len(moved.named)
    more = f" and {left} more" if left > 0 else ""
    if moved.beyond:
        what = "moved away from the reference"
        what += f" ({moved.total} in all)" if moved.total > moved.beyond else ""
        what += f", {moved.slight} more by the evidence of all blocks alone" if moved.slight else ""
    else:
        what = "moved away from the reference by the evidence of all blocks, the current window alone is not beyond yet"
    how = [clause for _, clause in moved.named] + [f"{one} and {other} look swapped" for one, other in moved.swapped]
    return f"{names}{more} {what}: {'; '.join(how)}{_costs(evidence)}"


def _costs(evidence: Evidence) -> str:
    """Name the feature whose move would change the loss most, where labels tell: silent where chance may be all."""
    told = [feature for feature in evidence.features if feature.tells_of_loss]
    if not told:
        return ""
    most = max(told, key=lambda feature: abs(feature.loss_association or 0.0))
    change, low, high = most.loss_association, most.loss_association_low, most.loss_association_high
    return f"; the move of {most.feature} alone would change the mean loss by {change:+.2g} ({low:+.2g} to {high:+.2g})"


def level(value: float | str | None) -> str:
    """Write a level short."""
    return "no value" if value is None else figure(value)
