"""What CUSUM, Page-Hinkley and the EWMA chart promise beyond the common laws."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from detectors.decay import BLOCK, Decay, decayed
from detectors.protocol import Level
from detectors.reference import Reference, sum_threshold
from detectors.registry import make
from tests.detectors.strategies import bernoulli, feed, streams


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(30, 400), st.floats(-1e3, 1e3))
def test_the_reference_has_the_moments_of_its_values(seed, count, offset):
    values = np.random.default_rng(seed).gamma(2.0, size=count) + offset
    reference = Reference()
    for value in values.tolist():
        reference.take(value)
    mean, deviation, skewness = reference.standard()
    assert math.isclose(mean, values.mean(), rel_tol=1e-9, abs_tol=1e-9)
    assert math.isclose(deviation, values.std(ddof=1), rel_tol=1e-6)
    biased = stats.skew(values) * (1 - 1 / count) ** 1.5
    assert math.isclose(skewness, biased, rel_tol=1e-5, abs_tol=1e-5)


@settings(max_examples=40, deadline=None)
@given(values=streams("real"), direction=st.sampled_from(["up", "down"]))
def test_cusum_is_the_floored_sum_of_its_definition(values, direction):
    size = 50
    detector = make("cusum", reference_size=size, allowance=0.3, run_length=1e12, direction=direction)
    detector.update_many(values)
    if len(values) <= size or detector.verdict().level is Level.DRIFT:
        return
    body = detector.snapshot()["body"]
    sign = 1.0 if direction == "up" else -1.0
    total = 0.0
    for value in values[size:]:
        away = sign * (value - body["center"]) / body["deviation"]
        total = max(0.0, total + away - 0.3 - 1.645 / math.sqrt(size))
    limit = sum_threshold(1e12, 0.3, sign * body["skewness"])
    assert math.isclose(detector.verdict().statistic, total / limit, rel_tol=1e-9, abs_tol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4 * BLOCK), st.floats(0.0005, 0.9))
def test_decayed_is_the_exponentially_weighted_mean(seed, count, weight):
    values = np.random.default_rng(seed).normal(size=count)
    state, plain = Decay(), 0.0
    for value in values.tolist():
        plain = (1.0 - weight) * plain + weight * value
        assert math.isclose(decayed(state, value, weight), plain, rel_tol=1e-9, abs_tol=1e-12)


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("name", ["cusum", "page_hinkley", "ewma"])
def test_the_scale_and_the_origin_of_a_stream_do_not_matter(name, scale):
    """river's Page-Hinkley never sees two deviations at a hundredth of the scale, and sees ghosts at a hundred."""
    rng = np.random.default_rng(2)
    values = np.concatenate((rng.normal(size=5_000), rng.normal(2.0, size=500)))
    plain = feed(make(name), values)
    # The 5,000 first values are quiet and the change is found within 40.
    assert plain
    assert 5_000 <= plain[0] <= 5_040
    assert feed(make(name), scale * values + 7.0 * scale) == plain


def test_page_hinkley_without_the_floor_must_climb_out_of_its_past_and_ours_not():
    """In MOA a rise from .2 to .4 takes 649 events, in a CUSUM 84."""
    delays = []
    for seed in range(15):
        found = [
            i - 4_000 for i in feed(make("page_hinkley"), bernoulli(seed, (0.2, 4_000), (0.4, 2_000))) if i >= 4_000
        ]
        delays.append(found[0])
    assert np.median(delays) <= 150


def test_a_reference_without_errors_does_not_make_one_error_a_drift_but_a_handful():
    for name in ("cusum", "page_hinkley", "ewma"):
        quiet = np.zeros(3_000)
        quiet[2_000] = 1.0
        assert feed(make(name), quiet) == []
        assert feed(make(name), np.concatenate((quiet, np.ones(30)))) != []


def test_a_constant_stream_that_begins_to_vary_is_a_drift_at_once():
    for name in ("cusum", "page_hinkley", "ewma"):
        values = np.concatenate((np.full(2_000, 7.5), [7.6]))
        assert feed(make(name), values) == [2_000]


def test_a_fall_is_found_in_its_direction_alone():
    values = -np.concatenate((np.zeros(1_500), np.full(500, 2.0))) + np.random.default_rng(0).normal(size=2_000)
    for name in ("cusum", "page_hinkley", "ewma"):
        assert feed(make(name, direction="up"), values) == []
        for direction in ("down", "both"):
            drifts = feed(make(name, direction=direction), values)
            assert drifts
            assert drifts[0] < 1_540


@pytest.mark.parametrize(("allowance", "exact"), [(0.25, 8.01), (0.5, 4.77), (1.0, 2.52)])
def test_the_threshold_for_normal_values_is_the_tabulated_one(allowance, exact):
    """Hawkins and Olwell 1998, as in Montgomery's table 9.3: a two-sided chart with these has a run length of 370."""
    threshold = sum_threshold(740.0, allowance, 0.0)
    assert abs(threshold - exact) < 0.04
    assert threshold < sum_threshold(740.0, allowance, 3.0)
    assert threshold == sum_threshold(740.0, allowance, -3.0)


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.4])
def test_the_mean_run_length_on_known_rates_is_at_least_the_nominal_one(rate):
    """The sum itself, with the true rate: 400 runs in parallel, a tenth of the error of their mean allowed."""
    rng, nominal, allowance = np.random.default_rng(7), 2_000.0, 0.2
    deviation = math.sqrt(rate * (1 - rate))
    limit = sum_threshold(nominal, allowance, (1 - 2 * rate) / deviation)
    sums, alive, total, steps = np.zeros(400), np.ones(400, dtype=bool), 0, 0
    while alive.any() and steps < 40_000:
        away = ((rng.random(400) < rate) - rate) / deviation
        sums = np.maximum(0.0, sums + away - allowance)
        total += int(alive.sum())
        alive &= sums < limit
        steps += 1
    assert total / 400 >= 0.9 * nominal


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cusum", "page_hinkley"])
@pytest.mark.parametrize("rate", [0.02, 0.1, 0.3])
def test_with_an_estimated_reference_the_run_length_is_at_least_the_nominal_one(name, rate):
    """A million stable events at a nominal 10,000: 100 alarms are expected; three Poisson deviations are allowed."""
    alarms = sum(len(feed(make(name, run_length=10_000.0), bernoulli(seed, (rate, 50_000)))) for seed in range(20))
    assert alarms <= 130
