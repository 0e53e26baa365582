"""Upper confidence bounds: agreement with scipy, and coverage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from detectors.bounds import (
    betting_upper,
    bounded_mean_upper,
    clopper_pearson_upper,
    empirical_bernstein_upper,
    kl_upper,
)
from detectors.running_mean import RunningMean


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 2_000), share=st.floats(0, 1), delta=st.floats(1e-4, 0.5))
def test_clopper_pearson_is_scipys(n, share, delta):
    k = round(share * n)
    expected = binomtest(k, n, alternative="less").proportion_ci(1 - delta, method="exact").high
    assert float(clopper_pearson_upper(k, n, delta)) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(mean=st.floats(0, 1), n=st.integers(2, 10_000), delta=st.floats(1e-6, 0.5))
def test_the_kl_bound_solves_its_equation(mean, n, delta):
    bound = kl_upper(mean, n, delta)
    assert mean <= bound <= 1.0
    if mean > 0 and bound < 1 - 1e-9:
        divergence = mean * np.log(mean / bound)
        divergence += (1 - mean) * np.log((1 - mean) / (1 - bound)) if mean < 1 else 0
        assert n * divergence == pytest.approx(np.log(1 / delta), rel=1e-3, abs=1e-3)


def test_the_bounds_fail_no_more_often_than_they_say():
    rng = np.random.default_rng(1)
    true, delta, runs, n = 0.2, 0.1, 400, 300
    samples = rng.beta(2.0, 8.0, (runs, n))
    fixed = [bounded_mean_upper(x.mean(), x.var(ddof=1), n, delta) for x in samples]
    bernstein = [empirical_bernstein_upper(x.mean(), x.var(ddof=1), n, delta) for x in samples]
    running = []
    for x in samples:
        follower = RunningMean(delta, horizon=n)
        follower.advance(x)
        running.append(follower.bounds()[1])
    bins = np.floor(samples * 50).astype(int)
    counts = np.stack([np.bincount(row, minlength=50) for row in bins]).astype(np.float64)
    scores = np.broadcast_to((np.arange(50) + 0.5) / 50, counts.shape)
    betting = betting_upper(counts, scores, delta)
    for bounds, target in ((fixed, true), (bernstein, true), (running, true), (betting, true - 0.005)):
        # 400 runs at 10 %: 3 standard errors are 4.5 points.
        assert np.mean(np.array(bounds) < target) <= delta + 0.045
        assert np.mean(bounds) < true + 0.08


def test_the_anytime_sequence_holds_at_all_times_at_once():
    rng = np.random.default_rng(2)
    failures = 0
    for _ in range(200):
        follower = RunningMean(0.05)
        x = (rng.random(2_000) < 0.3).astype(np.float64)
        _, reached = follower.advance_until(x, 0.3 + 1e-9)
        failures += reached
    assert failures <= 200 * 0.05 + 3 * (200 * 0.05 * 0.95) ** 0.5
