"""Laws of the quantile histogram."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.protocol import StateError
from service.core.metrics import QuantileHistogram
from service.core.metrics.quantiles import LARGEST, MAX_BUCKETS, RELATIVE_ERROR, SMALLEST

durations = st.floats(0.0, 1e13) | st.floats(0.5, 500.0) | st.integers(0, 10**6).map(float)
value_lists = st.lists(durations, max_size=200)


def histogram(values) -> QuantileHistogram:
    made = QuantileHistogram()
    made.add(np.array(values, dtype=np.float64))
    return made


@settings(deadline=None)
@given(st.lists(durations, min_size=1, max_size=200), st.floats(0.0, 1.0))
def test_a_quantile_is_within_one_per_cent_of_the_value_of_its_rank(values, q):
    exact = sorted(values)[math.floor(q * (len(values) - 1))]
    got = histogram(values).quantile(q)
    assert got is not None
    assert abs(got - exact) <= RELATIVE_ERROR * exact or (got == 0.0 and exact < SMALLEST)


@settings(deadline=None)
@given(value_lists, st.integers(0, 200))
def test_counts_are_the_same_wherever_values_are_cut_and_whether_they_are_merged(values, place):
    whole = histogram(values)
    cut = histogram(values[:place])
    cut.add(np.array(values[place:], dtype=np.float64))
    merged = histogram(values[place:])
    merged.merge(histogram(values[:place]))
    assert cut.snapshot() == whole.snapshot() == merged.snapshot()
    assert cut.count == whole.count == merged.count == len(values)


@settings(deadline=None)
@given(value_lists, value_lists)
def test_a_restored_histogram_goes_on_as_if_nothing_had_happened(before, after):
    restored = QuantileHistogram()
    restored.restore(histogram(before).snapshot())
    restored.add(np.array(after, dtype=np.float64))
    assert restored.snapshot() == histogram(before + after).snapshot()
    assert restored.percentiles() == histogram(before + after).percentiles()


def test_an_empty_histogram_has_no_quantiles_and_a_reset_one_is_as_new():
    used = histogram([1.0, 2.0, 1e20])
    used.reset()
    assert used.percentiles() == {"p50": None, "p95": None, "p99": None}
    assert used.snapshot() == QuantileHistogram().snapshot()


def test_missing_values_are_no_values_and_negative_ones_are_zero():
    mixed = histogram([np.nan, -5.0, np.nan, 8.0])
    assert mixed.count == 2
    assert mixed.quantile(0.0) == 0.0
    assert mixed.quantile(1.0) == pytest.approx(8.0, rel=RELATIVE_ERROR)


def test_values_beyond_the_largest_share_the_last_bucket_and_are_counted():
    huge = histogram([LARGEST, np.inf, 1e300, 1.0])
    assert huge.clamped_total == 3
    assert huge.quantile(1.0) == pytest.approx(LARGEST, rel=1 / 64)


def test_the_whole_range_takes_no_more_than_the_stated_buckets():
    assert histogram([SMALLEST, LARGEST]).counts.size == MAX_BUCKETS == 57 * 64


def test_a_quantile_outside_the_unit_interval_is_refused():
    with pytest.raises(ValueError, match="from 0 to 1"):
        histogram([1.0]).quantile(1.5)


@pytest.mark.parametrize(
    "damage",
    [
        {"version": 2},
        {"counts": b"123"},
        {"first": 1},
        {"zeros": -1},
        {"clamped_total": None},
        {"counts": np.array([-1]).tobytes()},
    ],
)
def test_a_damaged_or_newer_snapshot_is_refused_and_changes_nothing(damage):
    used = histogram([1.0, 2.0])
    before = used.snapshot()
    with pytest.raises(StateError):
        used.restore(before | damage)
    assert used.snapshot() == before
