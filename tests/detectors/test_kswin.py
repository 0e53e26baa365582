"""What KSWIN promises beyond the common laws."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from detectors.kswin import _distances, _hashed, least_distance, p_value
from detectors.protocol import Level
from detectors.registry import make
from tests.detectors.strategies import feed


@pytest.mark.parametrize("size", [5, 12, 30])
def test_the_p_value_is_scipys_exact_one(size):
    assert p_value(size, 1) == 1.0
    # At distance 1 scipy's sum rounds to more than 1, and it gives up.
    for distance in range(2, size + 1):
        expected = stats.ks_2samp(np.arange(size), np.arange(size) + distance - 0.5, method="exact")
        assert round(expected.statistic * size) == distance
        assert math.isclose(p_value(size, distance), expected.pvalue, rel_tol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 60), st.booleans())
def test_the_distance_is_scipys_with_and_without_ties(seed, size, tied):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(3, size)), rng.normal(0.5, size=(3, size))
    if tied:
        first, second = np.round(first), np.round(second)
    pairs = zip(first, second, strict=True)
    expected = [round(stats.ks_2samp(a, b, method="asymp").statistic * size) for a, b in pairs]
    assert _distances(first, second).tolist() == expected


def test_the_least_distance_is_the_first_that_is_rare_enough_and_above_a_tenth():
    assert p_value(30, least_distance(30, 0.005)) <= 0.005 < p_value(30, least_distance(30, 0.005) - 1)
    assert least_distance(1_000, 0.999) / 1_000 > 0.1
    assert least_distance(5, 1e-6) == 6


def test_a_size_that_no_distance_can_make_rare_enough_is_refused():
    with pytest.raises(ValueError, match=r"\$\.stat_size"):
        make("kswin", stat_size=5, window_size=20, alpha=1e-6)
    with pytest.raises(ValueError, match=r"\$\.window_size"):
        make("kswin", stat_size=100, window_size=150)


def test_the_draw_is_uniform_and_depends_on_the_seed():
    keys = _hashed(1, 0, (4_000, 40))
    drawn = np.argpartition(keys, 9, axis=1)[:, :10]
    counts = np.bincount(drawn.ravel(), minlength=40)
    # Each place is drawn in a quarter of the rows: 1,000 times, deviation 27.
    assert np.abs(counts - 1_000).max() < 130
    assert not np.array_equal(keys, _hashed(2, 0, (4_000, 40)))
    assert np.array_equal(keys[7:], _hashed(1, 7, (3_993, 40)))


def test_a_shift_of_the_spread_alone_is_found():
    rng = np.random.default_rng(0)
    values = np.concatenate((rng.normal(size=3_000), rng.normal(scale=6.0, size=1_000)))
    drifts = feed(make("kswin"), values)
    assert drifts
    assert 3_000 <= drifts[0] <= 3_200


def test_the_newest_values_begin_the_next_window():
    rng = np.random.default_rng(0)
    detector = make("kswin")
    assert (
        detector.update_many(np.concatenate((rng.normal(size=1_000), rng.normal(3.0, size=500)))).level is Level.DRIFT
    )
    newest = detector.snapshot()["body"]["window"][-100:]
    detector.rebase()
    assert detector.snapshot()["body"]["window"] == newest
