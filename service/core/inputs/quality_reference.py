"""What counts as a problem of quality, and what the reference window says about each."""

from collections.abc import Sequence
from typing import Final, NamedTuple, TypedDict

import numpy as np

from service.core.columns import Float, Int
from service.core.settings import DataQualitySettings

PROBLEMS: Final = ("missing", "wrong_type", "out_of_range", "unseen", "new_feature")


class QualityReferenceState(TypedDict):
    """A ReferenceQuality as plain data; None: no limit."""

    total: int
    counts: list[int]
    low: list[float | None]
    high: list[float | None]
    categories: list[float | None]


class ReferenceQuality(NamedTuple):
    """What the reference window says about quality. Shapes: counts (5, F), the others (F,)."""

    counts: Int
    """Events with each problem; the last row (new features) is the sum of none, 0."""
    total: int
    low: Float
    """Lowest number that is in range; -infinity for categories."""
    high: Float
    categories: Float
    """Category codes from this on are unseen; infinity for numbers."""


def count_problems(rows: Float, low: Float, high: Float, categories: Float) -> Int:
    """Count, per feature, the events with each problem: shape (5, F) for rows of shape (n, F)."""
    absent = np.isnan(rows)
    wrong = np.isinf(rows)
    usable = ~(absent | wrong)
    outside = usable & ((rows < low) | (rows > high))
    unseen = usable & (rows >= categories)
    counts = [flags.sum(axis=0, dtype=np.int64) for flags in (absent, wrong, outside, unseen)]
    return np.stack([*counts, np.zeros(rows.shape[1], np.int64)])


def learn_ranges(
    rows: Float, categorical: Sequence[bool], names: Sequence[str], settings: DataQualitySettings
) -> tuple[Float, Float]:
    """Say per feature between which numbers a value is in range: (low, high), shape (F,) each.

    A feature that does not vary in the reference teaches no range: any value is in range, and the drift monitor is
    the one that sees it begin to vary.
    """
    finite = np.isfinite(rows)
    low = np.where(finite, rows, np.inf).min(axis=0, initial=np.inf)
    high = np.where(finite, rows, -np.inf).max(axis=0, initial=-np.inf)
    varies = (low < high) & ~np.asarray(categorical, dtype=bool)
    # Halves first: the span of two huge numbers of opposite sign must not overflow into infinity minus infinity.
    with np.errstate(over="ignore", invalid="ignore"):
        margin = 2 * settings.range_margin * (high / 2 - low / 2)
        low, high = np.where(varies, low - margin, -np.inf), np.where(varies, high + margin, np.inf)
    for index, name in enumerate(names):
        if name in settings.ranges and not categorical[index]:
            low[index], high[index] = settings.ranges[name]
    return low, high


def reference_to_state(reference: ReferenceQuality) -> QualityReferenceState:
    """Give a reference as plain data that JSON can hold: no limit is null."""
    return {
        "total": reference.total,
        "counts": reference.counts.ravel().tolist(),
        "low": _limits_to_list(reference.low),
        "high": _limits_to_list(reference.high),
        "categories": _limits_to_list(reference.categories),
    }


def reference_from_state(state: QualityReferenceState) -> ReferenceQuality:
    """Take a reference from plain data."""
    return ReferenceQuality(
        np.array(state["counts"], np.int64).reshape(len(PROBLEMS), -1),
        state["total"],
        _limits_from_list(state["low"], -np.inf),
        _limits_from_list(state["high"], np.inf),
        _limits_from_list(state["categories"], np.inf),
    )


def _limits_to_list(limits: Float) -> list[float | None]:
    return [limit if np.isfinite(limit) else None for limit in limits.tolist()]


def _limits_from_list(limits: list[float | None], none: float) -> Float:
    return np.array([none if limit is None else limit for limit in limits], np.float64)
