"""The betting and the empirical-Bernstein test: formulas against a plain loop, guarantee, power."""

import math

import numpy as np
import pytest

from detectors.betting import Betting
from detectors.empirical_bernstein import EmpiricalBernstein
from detectors.loss_reference import bernoulli_bounds
from detectors.protocol import Level
from detectors.running_mean import RunningMean


def stream(seed, *parts):
    rng = np.random.default_rng(seed)
    return np.concatenate([(rng.random(n) < p) for n, p in parts]).astype(np.float64)


def test_the_confidence_sequence_is_the_papers_formula():
    values = np.random.default_rng(1).beta(2, 5, 500)
    follower = RunningMean(0.05)
    follower.advance(values)
    total = squares = stakes = staked = term = 0.0
    mean_before, log_doubt = 0.5, math.log(1 / 0.05)
    for t, x in enumerate(values, start=1):
        stake = min(math.sqrt(2 * log_doubt / ((0.25 + squares) / t * t * math.log(1 + t))), 0.5)
        term += (x - mean_before) ** 2 * (-math.log(1 - stake) - stake)
        stakes, staked, total = stakes + stake, staked + stake * x, total + x
        mean_before = (0.5 + total) / (t + 1)
        squares += (x - mean_before) ** 2
    margin = (log_doubt + term) / stakes
    assert follower.bounds() == pytest.approx((staked / stakes - margin, staked / stakes + margin), abs=1e-12)


def test_the_wealth_is_the_papers_recursion():
    values = stream(2, (100, 0.1), (150, 0.3))
    detector = Betting(reference_size=100, memory=1_000)
    taken = detector.update_many(values).consumed
    limit = bernoulli_bounds(int(values[:100].sum()), 100, 0.01).upper
    wealth, count, total, squares = 1.0, 0, 0.0, 0.0
    for x in values[100:taken]:
        mean, square = (limit + total) / (count + 1), (limit + squares) / (count + 1)
        variance = max(square - mean * mean, 1e-6)
        lead = mean - limit
        wealth *= 1 + min(max(lead / (variance + lead * lead), 0.0), 1 / (2 * limit)) * (x - limit)
        count, total, squares = count + 1, total + x, squares + x * x
    assert detector.verdict().statistic == pytest.approx(math.log(wealth), abs=1e-9)


@pytest.mark.parametrize("detector", [Betting, EmpiricalBernstein])
def test_it_never_alarms_on_most_stable_streams_however_long(detector):
    # 40 streams of 20,000 values at 5 % each: more than 6 alarms have probability .003.
    alarms = sum(
        detector(false_alarm_probability=0.05).update_many(stream(seed, (20_500, 0.1))).level is Level.DRIFT
        for seed in range(40)
    )
    assert alarms <= 6


def test_the_betting_test_sees_a_change_after_a_long_stable_time():
    delays, points = [], []
    for seed in range(15):
        detector = Betting()
        assert detector.update_many(stream(seed, (10_500, 0.1))).level is not Level.DRIFT
        delays.append(detector.update_many(stream(seed + 100, (5_000, 0.25))).consumed)
        points.append(detector.verdict().change_point - 10_500)
    assert np.median(delays) < 600
    assert abs(np.median(points)) < 60


def test_the_empirical_bernstein_test_sees_a_model_that_is_worse_from_the_start():
    for seed in range(10):
        detector = EmpiricalBernstein()
        detector.update_many(stream(seed, (500, 0.1)))
        progress = detector.update_many(stream(seed + 50, (5_000, 0.25)))
        assert progress.level is Level.DRIFT
        assert progress.consumed < 1_500
        assert abs(detector.verdict().change_point - 500) < 100
        assert detector.verdict().mean == pytest.approx(0.25, abs=0.12)


@pytest.mark.parametrize("detector", [Betting, EmpiricalBernstein])
def test_harm_within_the_tolerance_is_no_drift(detector):
    values = stream(7, (500, 0.1), (5_000, 0.2))
    assert detector(tolerance=0.15).update_many(values).level is Level.STABLE
    assert detector(tolerance=0.0, reference_size=500).update_many(values).level is Level.DRIFT


def in_clusters(seed, count):
    """A tenth of the losses are errors, in clusters of ten."""
    return np.repeat((np.random.default_rng(seed).random(count // 10) < 0.1).astype(np.float64), 10)


@pytest.mark.parametrize("detector", [Betting, EmpiricalBernstein])
def test_errors_in_clusters_are_not_taken_for_harm(detector):
    # Each stream may alarm with a probability of .02. Blind to dependence they alarm in 21 and in 6 of 30.
    alarms = sum(detector().update_many(in_clusters(seed, 10_000)).level is Level.DRIFT for seed in range(30))
    assert alarms <= 2


@pytest.mark.parametrize("detector", [Betting, EmpiricalBernstein])
def test_harm_in_clusters_is_seen_later_and_is_seen(detector):
    harm = np.repeat((np.random.default_rng(40).random(2_000) < 0.5).astype(np.float64), 10)
    clustered, spread = detector(), detector()
    clustered.update_many(in_clusters(41, 500))
    spread.update_many(np.random.default_rng(42).permutation(in_clusters(41, 500)))
    late, soon = clustered.update_many(harm), spread.update_many(harm)
    assert late.level is Level.DRIFT
    assert late.consumed > soon.consumed
