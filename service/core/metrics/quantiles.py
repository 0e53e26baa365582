"""Quantiles of durations from a histogram of exact integers: mergeable, and the same however values are cut."""

import math
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from detectors.protocol import StateError
from service.core.columns import Float, Int

RELATIVE_ERROR = 0.01
"""A quantile differs from the value of its rank by at most this share of it. In fact by 1 / 129 = 0.78 %, see below."""

SMALLEST = 2.0**-10
"""Values below it, and negative ones, count as 0. In milliseconds about 1 microsecond."""

LARGEST = 2.0**47
"""Values from it on share the last bucket, and are counted in `clamped_total`. In milliseconds about 4,460 years."""

_VERSION = 1
# A float64 is 1 sign bit, 11 bits of exponent, 52 of fraction. The exponent and the first 6 bits of the fraction, read
# as an integer, number buckets of 64 to the octave, in order of value: no logarithm, so no rounding that differs from
# machine to machine. DDSketch (Masson, Rim, Lee, PVLDB 12, 2019) calls this mapping linearly interpolated. A bucket
# [a, b) has b <= a (1 + 1/64); its value 2ab/(a+b) is off by at most (b-a)/(b+a) <= 1/129.
_SHIFT = 52 - 6
_LOWEST = int(np.float64(SMALLEST).view(np.int64)) >> _SHIFT
_HIGHEST = (int(np.float64(LARGEST).view(np.int64)) >> _SHIFT) - 1
MAX_BUCKETS = _HIGHEST - _LOWEST + 1
"""57 octaves of 64: 3,648 buckets, 29 kB, if values cover the whole range. Only those between the least and the
greatest value seen are held: latencies of 1 ms to 1 s take 5 kB."""


class QuantileState(TypedDict):
    """The snapshot of a QuantileHistogram; `counts`: int64, little-endian."""

    version: int
    first: int
    counts: bytes
    zeros: int
    clamped_total: int


class QuantileHistogram:
    """Counts of non-negative numbers in buckets of 1 % relative width."""

    __slots__ = ("clamped_total", "count", "counts", "first", "zeros")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Become as new."""
        self.counts: Int = np.zeros(0, dtype=np.int64)
        self.first = 0
        """Bucket number of `counts[0]`."""
        self.zeros = 0
        """Values below SMALLEST."""
        self.count = 0
        """All values taken."""
        self.clamped_total = 0
        """Values from LARGEST on."""

    def add(self, values: Float) -> None:
        """Count values, shape (n,). NaN means that there was nothing to measure and is not counted."""
        values = values[~np.isnan(values)]
        self.count += values.size
        positive = np.ascontiguousarray(values[values >= SMALLEST], dtype=np.float64)
        self.zeros += values.size - positive.size
        if not positive.size:
            return
        self.clamped_total += int(np.count_nonzero(positive >= LARGEST))
        buckets = np.minimum(positive.view(np.int64) >> _SHIFT, _HIGHEST)
        first = int(buckets.min())
        self._add_counts(first, np.bincount(buckets - first))

    def merge(self, other: "QuantileHistogram") -> None:
        """Count everything that the other has counted."""
        self.count += other.count
        self.zeros += other.zeros
        self.clamped_total += other.clamped_total
        self._add_counts(other.first, other.counts)

    def quantile(self, q: float) -> float | None:
        """Give the value of rank floor(q (count - 1)), from 0, within RELATIVE_ERROR; None while empty.

        0 for a value below SMALLEST. Raises ValueError for a q outside [0, 1].
        """
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"expected a quantile from 0 to 1, got {q}")
        if not self.count:
            return None
        rank = math.floor(q * (self.count - 1)) - self.zeros
        if rank < 0:
            return 0.0
        bucket = self.first + int(np.searchsorted(np.cumsum(self.counts), rank, side="right"))
        low, high = np.array([bucket << _SHIFT, (bucket + 1) << _SHIFT], dtype=np.int64).view(np.float64).tolist()
        return float(2.0 * low / (low + high) * high)

    def percentiles(self) -> dict[str, float | None]:
        """Give p50, p95 and p99, as metric snapshots name them."""
        return {"p50": self.quantile(0.5), "p95": self.quantile(0.95), "p99": self.quantile(0.99)}

    def snapshot(self) -> QuantileState:
        """Give the counts. Equal counts give equal snapshots."""
        return {
            "version": _VERSION,
            "first": self.first,
            "counts": self.counts.astype("<i8").tobytes(),
            "zeros": self.zeros,
            "clamped_total": self.clamped_total,
        }

    def restore(self, state: QuantileState) -> None:
        """Take over a snapshot. Raises StateError, and stays as it is, for a newer version or a damaged one."""
        if state.get("version") != _VERSION:
            raise StateError(f"expected a quantile histogram of version {_VERSION}, got {state.get('version')}")
        self.counts, self.first, self.zeros, self.clamped_total = _checked(state)
        self.count = self.zeros + int(self.counts.sum())

    def _add_counts(self, first: int, counts: NDArray[np.integer[Any]]) -> None:
        """Add counts of buckets from `first` on, widening to exactly what is needed."""
        if not counts.size:
            return
        if not self.counts.size:
            self.first = first
        start = min(self.first, first)
        stop = max(self.first + self.counts.size, first + counts.size)
        if stop - start != self.counts.size:
            wider = np.zeros(stop - start, dtype=np.int64)
            wider[self.first - start :][: self.counts.size] = self.counts
            self.counts, self.first = wider, start
        self.counts[first - start :][: counts.size] += counts


def _checked(state: QuantileState) -> tuple[Int, int, int, int]:
    """Read counts, first bucket, zeros and clamped; refuse what no histogram could have written."""
    try:
        counts = np.frombuffer(state["counts"], dtype="<i8").astype(np.int64)
        first, zeros, clamped = int(state["first"]), int(state["zeros"]), int(state["clamped_total"])
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"damaged quantile histogram: {error}") from error
    inside = first >= _LOWEST and first + counts.size - 1 <= _HIGHEST
    if (counts.size and not inside) or min(zeros, clamped) < 0 or bool((counts < 0).any()):
        raise StateError("damaged quantile histogram: counts out of range")
    return counts, first, zeros, clamped
