"""What ADWIN promises beyond the common laws."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.exponential_histogram import insert, insert_few, pooled
from detectors.protocol import Level
from detectors.registry import make
from tests.detectors.strategies import bernoulli, feed


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 300), st.integers(1, 30), st.integers(1, 12), st.integers(2, 6))
def test_the_columns_hold_the_buckets_that_inserting_one_by_one_leaves(seed, before, every, checks, most):
    rng = np.random.default_rng(seed)
    totals, spreads = [], []
    insert_few(totals, spreads, rng.normal(size=before).tolist(), most)
    values = rng.normal(size=every * checks)
    spans = insert(totals, spreads, values, every, most)
    for check in range(checks):
        for value in values[check * every : (check + 1) * every].tolist():
            insert_few(totals, spreads, [value], most)
        assert spans.held(check) == (totals, spreads)
        sizes = [1 << row for row in reversed(range(len(totals))) for _ in totals[row]]
        assert [int(size) for size in spans.sizes[check] if size] == sizes


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 500), st.floats(-1e6, 1e6))
def test_the_pooled_buckets_have_the_moments_of_their_values(seed, count, offset):
    values = np.random.default_rng(seed).normal(size=count) + offset
    totals, spreads = [], []
    insert_few(totals, spreads, values.tolist(), 5)
    width, total, spread = pooled(totals, spreads)
    assert width == count
    assert np.isclose(total, values.sum())
    assert np.isclose(spread, ((values - values.mean()) ** 2).sum(), rtol=1e-6, atol=1e-6)


def test_the_newer_window_is_kept_after_a_drift_where_river_keeps_nothing():
    values = bernoulli(3, (0.1, 2_000), (0.5, 2_000))
    ours, theirs = make("adwin"), make("adwin", compat="river")
    for detector in (ours, theirs):
        assert detector.update_many(values).level is Level.DRIFT
        detector.rebase()
    kept = ours.snapshot()["body"]
    assert 16 <= kept["width"] <= 200
    assert 0.4 <= kept["total"] / kept["width"] <= 0.65
    assert theirs.snapshot()["body"]["width"] == 0


def test_one_change_is_one_drift():
    for seed in range(10):
        drifts = feed(make("adwin"), bernoulli(seed, (0.1, 2_000), (0.4, 3_000)))
        assert len(drifts) == 1
        assert 2_000 <= drifts[0] <= 2_200


def test_a_second_change_after_a_rebase_is_told_in_samples_since_the_rebase():
    values = bernoulli(1, (0.1, 2_000), (0.4, 3_000), (0.8, 1_000))
    detector = make("adwin")
    first = detector.update_many(values).consumed
    detector.rebase()
    detector.update_many(values[first:])
    verdict = detector.verdict()
    assert verdict.level is Level.DRIFT
    assert abs(first + verdict.change_point - 5_000) < 64
    assert abs(verdict.mean - 0.8) < 0.15


def test_a_drift_stands_until_the_next_check_unless_the_owner_rebases():
    values = bernoulli(3, (0.1, 2_000), (0.5, 2_000))
    detector = make("adwin")
    start = detector.update_many(values).consumed
    assert [detector.update(value) for value in values[start : start + 32].tolist()] == [Level.DRIFT] * 32
