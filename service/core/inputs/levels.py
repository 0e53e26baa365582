"""What a column holds: its usable values, its mean or its most frequent category, and how to say so."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from schemas.outputs import Evidence
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
    # Scaled by a power of two, which is exact: the sum of numbers near 1e308 must not overflow.
    scale = 2.0 ** np.ceil(np.log2(values.size))
    return float((values / scale).sum() / values.size * scale)


def usable(rows: Float, width: int) -> Float:
    """Give the first `width` columns with NaN for everything that is no value."""
    values = rows[:, :width]
    wrong = np.isinf(values)
    return np.where(wrong, np.nan, values) if wrong.any() else values


def summarise_drift(evidence: Evidence, new: int, drifted: int) -> str:
    """Tell a person which columns drifted: `new` of them just now, `drifted` in all."""
    names = ", ".join(feature.feature for feature in evidence.features[:3])
    more = f" and {new - 3} more" if new > 3 else ""
    total = f" ({drifted} in all)" if drifted > new else ""
    top = evidence.features[0]
    moved = f": {top.feature} went from {_figure(top.before)} to {_figure(top.after)}"
    return f"{names}{more} moved away from the reference{total}{moved}{_costs(evidence)}"


def _costs(evidence: Evidence) -> str:
    """Name the feature whose move would change the loss most, where labels tell."""
    known = [(feature, feature.loss_association) for feature in evidence.features]
    told = [(feature.feature, change) for feature, change in known if change is not None]
    if not told:
        return ""
    name, change = max(told, key=lambda one: abs(one[1]))
    return f"; the move of {name} alone would change the mean loss by {change:+.2g}"


def _figure(value: float | str | None) -> str:
    if value is None:
        return "no value"
    return value if isinstance(value, str) else f"{value:.4g}"
