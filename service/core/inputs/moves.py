"""Says in words how a column moved: which category, or what became of its numbers.

A mean or a most frequent category hides what happened: "basic (57.5%) to basic (55.5%)" where a category is new, a mean
where a unit changed. What is known of the reference are its bins with their counts; of now, one block of values.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Final, NamedTuple

import numpy as np

from detectors.histogram import MISSING, ReferenceHistogram
from service.core.advice import figure
from service.core.classes import OTHER
from service.core.columns import Float
from service.core.inputs.levels import Schema, level, mean_of, usable

LEAST_VALUES: Final = 50
"""Fewer values of a block tell a change of unit no better than a mean does."""
LEAST_LEVELS: Final = 5
"""Quantiles that are needed: a feature of few distinct values looks like many others."""
AGREEING: Final = 0.8
"""Share of the quantiles that must agree: those at the ends of a block of 200 are noisy."""
TOLERANCE: Final = 0.25
"""How far a quantile's ratio may be from the factor, as a share of it."""
SHARE: Final = 0.12
"""How far the empirical distribution of a block may be from another (Kolmogorov-Smirnov) to be told for it: 200 values
are further from their own once in 150 blocks."""
LEAST_FACTOR: Final = 4.0
"""A lesser one may be an ordinary drift of a positive feature."""


class Move(NamedTuple):
    """What became of one column."""

    before: float | str | None
    after: float | str | None
    words: str = ""
    """What before and after do not say."""

    def clause(self, name: str) -> str:
        """Say it of the column of that name."""
        if isinstance(self.after, str):
            return f"{name}: {self.words}"
        if self.after is None:
            return f"{name} has no value any more"
        if self.words:
            return f"{name} {self.words}, from {level(self.before)} to {level(self.after)}"
        return f"{name} went from {level(self.before)} to {level(self.after)}"


class Quantiles(NamedTuple):
    """Where shares of a column's values lie, in the reference and now. Shape (k,) each, k >= LEAST_LEVELS."""

    levels: Float
    before: Float
    after: Float

    @property
    def width(self) -> float:
        """Interquartile range of the reference."""
        low, high = np.interp([0.25, 0.75], self.levels, self.before)
        return float(high - low)


def move_of(
    histogram: ReferenceHistogram, schema: Schema, rows: Float, column: int, before: float | str | None
) -> Move:
    """Describe a column against its reference. `before`: what was noted of the reference, for numbers their mean."""
    values = usable(rows[:, column : column + 1], 1)[:, 0]
    values = values[~np.isnan(values)]
    if not values.size:
        return Move(before, None)
    if histogram.categorical[column]:
        return _category_move(histogram, schema, values, column)
    return Move(before, mean_of(values), _number_words(histogram, values, column))


def swapped(histogram: ReferenceHistogram, rows: Float, columns: Sequence[int]) -> list[tuple[int, int]]:
    """Find the pairs of columns of which each now looks as the other did; a column is in one pair at most."""
    known = {column: found for column in columns if (found := _quantiles(histogram, rows[:, column], column))}
    pairs: list[tuple[int, int]] = []
    taken: set[int] = set()
    for one, other in combinations(sorted(known), 2):
        if (
            taken.isdisjoint((one, other))
            and _looks_like(known[one], known[other])
            and _looks_like(known[other], known[one])
        ):
            pairs.append((one, other))
            taken |= {one, other}
    return pairs


# Categories -----------------------------------------------------------------------------------------------------------


def _category_move(histogram: ReferenceHistogram, schema: Schema, values: Float, column: int) -> Move:
    """Name the category whose share changed most."""
    bins, counts = histogram.features[column], histogram.counts[column]
    total = max(int(counts[:MISSING].sum()), 1)
    codes, now = np.unique(values, return_counts=True)
    # Where rare codes of the reference share a bin, they are one: the others.
    shared = bins.bins < len(bins.edges)
    place = dict(zip(bins.edges.tolist(), bins.bin_of.tolist(), strict=True))
    shares: dict[tuple[str, int], list[float]] = {}
    for code, count in zip(codes.tolist(), now.tolist(), strict=True):
        bin_ = place.get(code)
        key = ("new", int(code)) if bin_ is None else ("bin", bin_)
        shares.setdefault(key, [0.0, 0.0])[1] += count / values.size
    for bin_ in range(bins.bins):
        shares.setdefault(("bin", bin_), [0.0, 0.0])[0] = int(counts[bin_]) / total
    key, (was, is_) = min(shares.items(), key=lambda item: (-round(abs(item[1][1] - item[1][0]), 12), item[0]))
    kind, number = key
    if kind == "bin":
        code = float(bins.edges[int(np.flatnonzero(bins.bin_of == number)[0])])
        name = OTHER if shared and number == bins.bins - 1 else _name(schema, column, int(code))
    else:
        name = _name(schema, column, number)
    told = f"{figure(name)} went from {was:.1%} to {is_:.1%}"
    if was == 0:
        told = f"{figure(name)} is new, {was:.0%} to {is_:.1%}"
    elif is_ == 0:
        told = f"{figure(name)} is gone, {was:.1%} to {is_:.0%}"
    return Move(f"{name} ({was:.1%})", f"{name} ({is_:.1%})", told)


def _name(schema: Schema, column: int, code: int) -> str:
    names = schema.categories(column)
    return names[code] if 0 <= code < len(names) else OTHER


# Numbers --------------------------------------------------------------------------------------------------------------


def _number_words(histogram: ReferenceHistogram, values: Float, column: int) -> str:
    """Name what a mean does not show; empty where it is none of these."""
    if values.size < LEAST_VALUES:
        return ""
    if values.min() == values.max():
        varied = np.count_nonzero(histogram.counts[column, :MISSING]) > 1
        return f"became constant in {values.size:,} events" if varied else ""
    found = _quantiles(histogram, values, column)
    if found is None:
        return ""
    factor = _factor(found)
    if factor is not None:
        return f"is about {_times(factor)} what it was"
    return "has the opposite sign" if _is_negated(found) else ""


def _quantiles(histogram: ReferenceHistogram, values: Float, column: int) -> Quantiles | None:
    values = values[np.isfinite(values)]
    edges, counts = histogram.features[column].edges, histogram.counts[column]
    if histogram.categorical[column] or values.size < LEAST_VALUES or edges.size < LEAST_LEVELS:
        return None
    total = int(counts[:MISSING].sum())
    levels = np.cumsum(counts[: edges.size]) / max(total, 1)
    chosen = (levels >= 0.05) & (levels <= 0.95)
    if np.count_nonzero(chosen) < LEAST_LEVELS or len(np.unique(edges[chosen])) < LEAST_LEVELS:
        return None
    levels, before = levels[chosen], edges[chosen]
    return Quantiles(levels, before, np.quantile(values, levels, method="inverted_cdf"))


def _factor(found: Quantiles) -> float | None:
    """Give the factor by which all of a column's numbers changed; None where there is none, or one near 1."""
    known = np.abs(found.before) > 1e-9 * float(np.abs(found.before).max())
    if np.count_nonzero(known) < LEAST_LEVELS:
        return None
    # Numbers near the ends of what a float holds overflow here, to an infinity that agrees with nothing.
    with np.errstate(over="ignore", invalid="ignore"):
        ratios = found.after[known] / found.before[known]
        factor = float(np.median(ratios))
        low, high = np.interp([0.25, 0.75], found.levels, found.after)
        widened = (high - low) / found.width if found.width else np.inf
    if not (np.isfinite(factor) and factor > 0 and (factor >= LEAST_FACTOR or factor <= 1 / LEAST_FACTOR)):
        return None
    agree = np.mean(np.abs(ratios / factor - 1) <= TOLERANCE)
    # A shift far away from a narrow range multiplies too, but does not widen it.
    return factor if agree >= AGREEING and 1 / 1.5 <= widened / factor <= 1.5 else None


_UNITS: Final = (*(10.0**power for power in range(1, 19)), 60.0, 3600.0, 86400.0, 24.0)
"""Factors that units differ by: one of these nearby is meant."""


def _times(factor: float) -> str:
    if factor >= 1:
        return f"{_round(factor)} times"
    return f"1/{_round(1 / factor)} of"


def _round(number: float) -> str:
    nearest = min(_UNITS, key=lambda unit: abs(number / unit - 1))
    if abs(number / nearest - 1) <= TOLERANCE:
        return f"{nearest:,.0f}"
    rounded = float(f"{number:.2g}")
    return f"{rounded:,.0f}" if 10 <= rounded < 1e15 else f"{rounded:.2g}"


def _is_negated(found: Quantiles) -> bool:
    middle = float(np.interp(0.5, found.levels, found.before))
    # Around zero the opposite sign changes little: that is an ordinary drift.
    mirrored = Quantiles(1 - found.levels[::-1], -found.before[::-1], found.after)
    return abs(middle) > TOLERANCE * found.width and _fits(found, mirrored)


def _looks_like(one: Quantiles, other: Quantiles) -> bool:
    """Say whether a column now looks as another did, and not as itself."""
    return _fits(one, other) and not _fits(one, one)


def _fits(found: Quantiles, reference: Quantiles) -> bool:
    """Say whether a column's values now lie where those of a reference did, in shares of the reference."""
    shares = np.interp(found.after, reference.before, reference.levels)
    return bool(np.abs(shares - found.levels).max() <= SHARE)
