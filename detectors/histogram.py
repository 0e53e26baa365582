"""Reference-quantile histograms of many features at once: one count vector per feature and block.

All distances and tests of a feature are functions of two such vectors, so raw values need not be kept. Edges are
fixed by the reference window; counts over the same edges add up.

Columns of a count matrix, shape (F, width): the bins 0 .. bins[f] - 1 of feature f, zeros up to `width` - 2, then
`UNSEEN` (column -2: a category that the reference had not, or a number beyond its range by half its span) and
`MISSING` (column -1: NaN).
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, TypedDict

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.protocol import StateError
from detectors.special import Floats

Counts = NDArray[np.int64]

VERSION: Final = 1
UNSEEN: Final = -2
MISSING: Final = -1
EXTRA_COLUMNS: Final = 2
MAX_BINS: Final = 100
MAX_CATEGORIES: Final = 10_000
RANGE_MARGIN: Final = 0.5
"""A number is unseen beyond the reference's range by this share of its span: never for a normal sample of 1,000
(beyond 6.5 sigma), always for a constant or for a unit that changed."""
_LARGEST: Final = 1e300  # positions and ranges stay finite, so that a profile is valid JSON and distances are numbers


class FeatureBinsState(TypedDict):
    """Where the values of one feature go."""

    edges: list[float]
    bin_of: list[int]
    bins: int
    low: float
    high: float


class HistogramState(TypedDict):
    """The snapshot of a ReferenceHistogram."""

    version: int
    name: str
    categorical: list[bool]
    counts: list[list[int]]
    positions: list[list[float]]
    spread: list[float]
    features: list[FeatureBinsState]


class _FeatureBins(NamedTuple):
    """Where the values of one feature go."""

    edges: Floats
    """Numeric, ascending: bin i holds (edges[i - 1], edges[i]]. Categorical: the codes with a bin, ascending."""
    bin_of: NDArray[np.int64]
    """Categorical: the bin of each code. Numeric: empty."""
    bins: int
    low: float
    high: float
    """Numeric: values outside [low, high] are unseen."""


class ReferenceHistogram(msgspec.Struct, frozen=True, eq=False):
    """Edges, bins and counts of a reference window of F features. Immutable; build it with `from_sample`.

    `categorical[f]` says whether feature f holds category codes. `counts` has shape (F, width), `positions`
    (F, width - 2) is where the mass of each bin lies (the mean of the reference values in it), `spread[f]` is the
    reference's standard deviation (1 where it is 0).
    """

    categorical: NDArray[np.bool_]
    bins: NDArray[np.int64]
    counts: Counts
    positions: Floats
    spread: Floats
    features: tuple[_FeatureBins, ...]

    @classmethod
    def from_sample(
        cls,
        values: Floats,
        *,
        categorical: Sequence[bool] | NDArray[np.bool_] | None = None,
        n_bins: int = 20,
        max_categories: int = MAX_BINS,
    ) -> "ReferenceHistogram":
        """Build the histogram of a reference window.

        `values` has shape (n, F), NaN = missing, category codes as whole numbers. A numeric feature gets at most
        `n_bins` bins between its quantiles; a value so frequent that two quantiles fall on it gets a bin of its own, as
        does every value of a feature with few of them, so that a constant shows any other value. A categorical
        feature gets a bin for each of its `max_categories` - 1 most frequent codes and one for its other codes.
        Raises ValueError on infinite values and on limits out of range.
        """
        _check_limits(values, n_bins, max_categories)
        n, width_f = values.shape
        kinds = np.zeros(width_f, dtype=np.bool_) if categorical is None else np.asarray(categorical, np.bool_)
        if kinds.shape != (width_f,):
            raise ValueError(f"$.categorical: expected {width_f} values, got {kinds.size}")
        columns = [values[:, f][~np.isnan(values[:, f])] for f in range(width_f)]
        features = tuple(
            _category_bins(column, max_categories) if kind else _number_bins(column, n_bins)
            for column, kind in zip(columns, kinds, strict=True)
        )
        bins = np.array([feature.bins for feature in features], dtype=np.int64)
        width = int(bins.max(initial=1)) + EXTRA_COLUMNS
        counts = _count(values, features, kinds, width) if n else np.zeros((width_f, width), dtype=np.int64)
        spread = np.array([_spread(column) for column in columns], dtype=np.float64)
        positions = _positions(columns, features, kinds, spread, width - EXTRA_COLUMNS)
        return cls(kinds, bins, counts, positions, spread, features)

    @property
    def width(self) -> int:
        """Columns of a count matrix, unseen and missing included."""
        return int(self.counts.shape[1])

    @property
    def sample_count(self) -> int:
        """Events in the reference window."""
        return int(self.counts[0].sum()) if len(self.counts) else 0

    def count(self, values: Floats) -> Counts:
        """Count a block of values, shape (n, F), NaN = missing, into shape (F, width).

        Counts of blocks add up to the count of the blocks together. Raises ValueError on another number of features.
        """
        if values.ndim != 2 or values.shape[1] != len(self.features):
            raise ValueError(f"$: expected shape (n, {len(self.features)}), got {values.shape}")
        return _count(values, self.features, self.categorical, self.width)

    def bins_of(self, values: Floats) -> NDArray[np.int64]:
        """Say in which column of a count matrix each value is counted, shape (n, F), as `count` has it."""
        return _columns_of(values, self.features, self.categorical, self.width).T

    def count_bins(self, bins: NDArray[np.int64]) -> Counts:
        """Count what `bins_of` gives of a block, shape (n, F), into shape (F, width)."""
        return _count_columns(bins.T, self.width)

    def with_counts(self, counts: Counts) -> "ReferenceHistogram":
        """Give the same edges with other reference counts, as after merging two reference windows."""
        if counts.shape != self.counts.shape:
            raise ValueError(f"$: expected shape {self.counts.shape}, got {counts.shape}")
        return msgspec.structs.replace(self, counts=counts.astype(np.int64))

    def snapshot(self) -> HistogramState:
        """Give plain data, version included. Lists of numbers, so that a stored profile can be read by people."""
        return {
            "version": VERSION,
            "name": "reference_histogram",
            "categorical": self.categorical.tolist(),
            "counts": self.counts.tolist(),
            "positions": self.positions.tolist(),
            "spread": self.spread.tolist(),
            "features": [
                {"edges": f.edges.tolist(), "bin_of": f.bin_of.tolist(), "bins": f.bins, "low": f.low, "high": f.high}
                for f in self.features
            ],
        }

    @classmethod
    def restore(cls, state: HistogramState) -> "ReferenceHistogram":
        """Build it from a snapshot. Raises StateError where it is not one or from a newer version."""
        if state.get("name") != "reference_histogram":
            raise StateError(f"$.name: expected reference_histogram, got {state.get('name')!r}")
        if state["version"] > VERSION:
            raise StateError(f"$.version: {state['version']} is newer than {VERSION}, which this program reads")
        count = len(state["features"])
        for field in ("categorical", "counts", "positions", "spread"):
            if len(state[field]) != count:
                raise StateError(f"$.{field}: expected {count} rows, one for each feature")
        features = tuple(
            _FeatureBins(
                np.array(f["edges"], np.float64), np.array(f["bin_of"], np.int64), f["bins"], f["low"], f["high"]
            )
            for f in state["features"]
        )
        return cls(
            np.array(state["categorical"], dtype=np.bool_),
            np.array([feature.bins for feature in features], dtype=np.int64),
            np.array(state["counts"], dtype=np.int64),
            np.array(state["positions"], dtype=np.float64),
            np.array(state["spread"], dtype=np.float64),
            features,
        )


def _check_limits(values: Floats, n_bins: int, max_categories: int) -> None:
    if values.ndim != 2:
        raise ValueError(f"$.values: expected shape (n, F), got {values.shape}")
    if np.isinf(values).any():
        raise ValueError("$.values: expected finite numbers or NaN for missing, got infinity")
    if not 2 <= n_bins <= MAX_BINS:
        raise ValueError(f"$.n_bins: expected 2 to {MAX_BINS}, got {n_bins}")
    if not 2 <= max_categories <= MAX_CATEGORIES:
        raise ValueError(f"$.max_categories: expected 2 to {MAX_CATEGORIES}, got {max_categories}")


def _number_bins(column: Floats, n_bins: int) -> _FeatureBins:
    """Quantile edges, with a bin of its own for each value that carries an atom."""
    if column.size == 0:
        # Nothing but missing values: any number is unseen, for the range from 1 to 0 is empty.
        return _FeatureBins(np.empty(0), np.empty(0, np.int64), 1, 1.0, 0.0)
    edges = quantile_edges(np.sort(column), n_bins)
    low, high = float(column.min()), float(column.max())
    margin = RANGE_MARGIN * (high - low)  # may overflow to infinity, which means: no limit
    low, high = max(low - margin, -_LARGEST), min(high + margin, _LARGEST)
    return _FeatureBins(edges, np.empty(0, np.int64), len(edges) + 1, low, high)


def quantile_edges(ordered: Floats, n_bins: int) -> Floats:
    """Give at most n_bins - 1 edges (2 for a constant) for a sorted sample; bin i will hold (edge i-1, edge i]."""
    distinct = np.unique(ordered)
    if 2 * len(distinct) + 1 <= max(n_bins, 3):
        return _around(distinct)
    # The k-th edge is the reference value below or at which k/n_bins of the sample lies.
    ranks = (np.arange(1, n_bins) * len(ordered)) // n_bins - 1
    hit, hits = np.unique(ordered[np.maximum(ranks, 0)], return_counts=True)
    # A value hit by two or more quantiles lost at least one edge to the tie and gets one back, just below it: the
    # number of bins stays within n_bins.
    below = np.nextafter(hit[hits >= 2], -np.inf)
    edges = np.unique(np.concatenate((hit, below)))
    if hit[-1] == ordered[-1] and hits[-1] < 2:
        return edges[:-1]  # a short sample: above its greatest value there would be an empty bin
    return edges


def _around(values: Floats) -> Floats:
    """Edges that give each value a bin of its own and show everything between and beyond."""
    return np.unique(np.concatenate((np.nextafter(values, -np.inf), values)))


def _category_bins(column: Floats, max_categories: int) -> _FeatureBins:
    codes, frequency = np.unique(column, return_counts=True)
    order = np.argsort(-frequency, kind="stable")
    bin_of = np.empty(len(codes), dtype=np.int64)
    # Beyond the limit the rarer categories share the last bin.
    bin_of[order] = np.minimum(np.arange(len(codes)), max_categories - 1)
    return _FeatureBins(codes, bin_of, max(1, min(len(codes), max_categories)), 0.0, 0.0)


def _count(values: Floats, features: tuple[_FeatureBins, ...], kinds: NDArray[np.bool_], width: int) -> Counts:
    return _count_columns(_columns_of(values, features, kinds, width), width)


def _count_columns(columns: NDArray[np.int64], width: int) -> Counts:
    index = columns + np.arange(len(columns), dtype=np.int64)[:, None] * width
    return np.bincount(index.ravel(), minlength=len(columns) * width).reshape(len(columns), width)


def _columns_of(
    values: Floats, features: tuple[_FeatureBins, ...], kinds: NDArray[np.bool_], width: int
) -> NDArray[np.int64]:
    """Give the column of each value, shape (F, n)."""
    columns = np.ascontiguousarray(values.T, dtype=np.float64)
    index = np.empty(columns.shape, dtype=np.int64)
    for f, feature in enumerate(features):
        index[f] = _category_index(columns[f], feature, width) if kinds[f] else feature.edges.searchsorted(columns[f])
    low = np.where(kinds, -np.inf, [feature.low for feature in features])[:, None]
    high = np.where(kinds, np.inf, [feature.high for feature in features])[:, None]
    index[(columns < low) | (columns > high)] = width + UNSEEN
    index[np.isnan(columns)] = width + MISSING
    return index


def _category_index(column: Floats, feature: _FeatureBins, width: int) -> NDArray[np.int64]:
    if feature.edges.size == 0:
        return np.full(column.shape, width + UNSEEN, dtype=np.int64)
    place = np.minimum(feature.edges.searchsorted(column), feature.edges.size - 1)
    return np.where(feature.edges[place] == column, feature.bin_of[place], width + UNSEEN)


def _spread(column: Floats) -> float:
    """Give the standard deviation, 1 where it is nothing: a constant has no scale of its own."""
    if column.size == 0:
        return 1.0
    scale = float(np.abs(column).max()) or 1.0
    deviation = float(np.std(column / scale)) * scale  # scaled: squares of 1e200 would overflow
    return deviation if deviation > 0.0 else 1.0


def _positions(
    columns: list[Floats], features: tuple[_FeatureBins, ...], kinds: NDArray[np.bool_], spread: Floats, width: int
) -> Floats:
    """Where the mass of each bin lies; an empty bin between edges lies in the middle, an outer one a spread beyond."""
    positions = np.zeros((len(features), width), dtype=np.float64)
    for f, (column, feature) in enumerate(zip(columns, features, strict=True)):
        if kinds[f]:
            positions[f, : feature.bins] = np.arange(feature.bins)
        elif column.size:
            positions[f, : feature.bins] = _number_positions(column, feature, float(spread[f]))
    return positions


def _number_positions(column: Floats, feature: _FeatureBins, spread: float) -> Floats:
    index = feature.edges.searchsorted(column)
    count = np.bincount(index, minlength=feature.bins)
    total = np.bincount(index, weights=column / np.maximum(count[index], 1), minlength=feature.bins)
    edges = feature.edges
    with np.errstate(over="ignore"):  # near the ends of what a float holds: infinity, which is clipped below
        lower = np.concatenate((edges[:1] - spread, edges)) if edges.size else np.zeros(1)
        upper = np.concatenate((edges, edges[-1:] + spread)) if edges.size else np.zeros(1)
    middle = lower / 2.0 + upper / 2.0
    middle[0], middle[-1] = lower[0], upper[-1]
    return np.clip(np.where(count > 0, total, middle), -_LARGEST, _LARGEST).astype(np.float64)
