"""The conformal martingale: exactly uniform ranks, the guarantee, the delay."""

import numpy as np
import pytest
from scipy.stats import kstest

from detectors.conformal import Conformal, uniforms
from detectors.protocol import Level
from tests.detectors.strategies import feed


def test_the_uniforms_are_uniform_and_the_same_wherever_they_are_cut():
    whole = uniforms(7, 0, 20_000)
    assert np.array_equal(whole, np.concatenate((uniforms(7, 0, 123), uniforms(7, 123, 19_877))))
    assert kstest(whole, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(whole[1:], whole[:-1])[0, 1]) < 0.03
    assert not np.array_equal(whole, uniforms(8, 0, 20_000))


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, n: rng.normal(size=n),
        lambda rng, n: rng.poisson(1.0, n).astype(float),
        lambda rng, n: rng.standard_cauchy(n),
    ],
    ids=["normal", "heavy ties", "cauchy"],
)
def test_ranks_of_exchangeable_values_are_uniform(draw):
    rng = np.random.default_rng(1)
    detector = Conformal(reference_size=50)
    detector.update_many(np.clip(draw(rng, 50), -1e6, 1e6))
    ranks = []
    for _ in range(20):
        values = np.clip(draw(rng, 250), -1e6, 1e6)
        index = detector._edges.searchsorted(values)
        ranks.append(detector._p_values(index))
        detector.update_many(values)
    ranks = np.concatenate(ranks)
    assert kstest(ranks, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(ranks[1:], ranks[:-1])[0, 1]) < 0.05


def test_the_run_length_is_at_least_nominal_without_a_reference_to_trust():
    rng = np.random.default_rng(2)
    lengths = []
    for seed in range(40):
        detector = Conformal(expected_events_between_false_alarms=500.0, reference_size=50, seed=seed)
        lengths.append(detector.update_many(rng.normal(size=3_050)).consumed - 50)
    assert np.mean(lengths) >= 500.0


@pytest.mark.parametrize("shift", [1.0, -1.0])
def test_a_shift_by_one_deviation_is_seen_within_a_hundred_values(shift):
    rng = np.random.default_rng(3)
    delays, points = [], []
    for seed in range(12):
        detector = Conformal(seed=seed)
        if detector.update_many(rng.normal(size=2_500)).level is Level.DRIFT:
            continue
        delays.append(detector.update_many(rng.normal(size=2_000) + shift).consumed)
        points.append(detector.verdict().change_point - 2_500)
    assert len(delays) >= 10
    assert np.median(delays) < 100
    assert abs(np.median(points)) < 40


def test_scale_and_any_rising_map_change_nothing():
    rng = np.random.default_rng(4)
    values = np.concatenate((rng.normal(size=800), rng.normal(size=100) + 0.5))
    plain, mapped = Conformal(reference_size=100), Conformal(reference_size=100)
    assert plain.update_many(values) == mapped.update_many(np.exp(values) * 1e-6)
    assert plain.verdict() == mapped.verdict()


def autoregressive(seed, length, phi):
    rng = np.random.default_rng(seed)
    level, values = rng.normal(), np.empty(length)
    for i, e in enumerate((rng.normal(size=length) * np.sqrt(1 - phi * phi)).tolist()):
        level = phi * level + e
        values[i] = level
    return values


@pytest.mark.parametrize("rate", [None, 0.1])
def test_dependent_values_alarm_no_more_often_than_was_asked_for(rate):
    # 8 streams of 10,000 at a nominal 5,000 each: at most 16 alarms are due. Bets of full size raise 128 and 61.
    alarms = 0
    for seed in range(8):
        values = autoregressive(seed, 10_000, 0.8)
        if rate is not None:
            values = (values > np.quantile(values, 1.0 - rate)).astype(np.float64)
        alarms += len(feed(Conformal(expected_events_between_false_alarms=5_000.0), values))
    assert alarms <= 16


def test_only_dependence_makes_the_bets_smaller():
    values = autoregressive(9, 500, 0.8)
    dependent, shuffled = Conformal(reference_size=500), Conformal(reference_size=500)
    dependent.update_many(values)
    shuffled.update_many(np.random.default_rng(1).permutation(values))
    assert dependent.snapshot()["body"]["inflation"] > 3.0
    assert shuffled.snapshot()["body"]["inflation"] == 1.0
    assert shuffled.snapshot()["body"]["edges"] == dependent.snapshot()["body"]["edges"]
