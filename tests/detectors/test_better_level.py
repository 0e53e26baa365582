"""References that follow to better levels, and references of losses that depend on each other."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.dependence import Dependence
from detectors.e_detector import ESR, ECusum
from detectors.loss_reference import LossReference
from detectors.protocol import Level
from tests.detectors.strategies import bernoulli, feed, packed


def clustered(seed, length, phi, rate=0.1):
    """Errors where an AR(1) process is above its quantile."""
    rng = np.random.default_rng(seed)
    level, values = rng.normal(), np.empty(length)
    for i, e in enumerate((rng.normal(size=length) * np.sqrt(1 - phi * phi)).tolist()):
        level = phi * level + e
        values[i] = level
    return (values > np.quantile(rng.normal(size=100_000), 1.0 - rate)).astype(np.float64)


def taken(values):
    sums = Dependence()
    sums.take(values)
    return sums


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(1, 300), cut=st.integers(0, 300), binary=st.booleans())
def test_the_sums_of_a_window_are_the_same_wherever_it_is_cut(seed, length, cut, binary):
    rng = np.random.default_rng(seed)
    values = (rng.random(length) < 0.3).astype(np.float64) if binary else rng.random(length)
    pieces = Dependence()
    for part in (values[:cut], values[cut:]):
        pieces.take(part)
    singly = Dependence()
    for value in values:
        singly.take(np.array([value]))
    assert pieces == singly == taken(values)


def test_the_sums_are_those_of_their_definitions():
    values = np.random.default_rng(2).random(180)
    sums = taken(values)
    assert sums.products == pytest.approx(float((values[1:] * values[:-1]).sum()))
    assert sums.batch_squares == pytest.approx(float((values[:175].reshape(7, 25).sum(axis=1) ** 2).sum()))


def test_independent_losses_are_seldom_taken_for_dependent_ones():
    inflations = [taken(bernoulli(seed, (0.1, 500))).inflation for seed in range(300)]
    assert sum(inflation > 1.0 for inflation in inflations) <= 9


@pytest.mark.parametrize(("phi", "least", "most"), [(0.5, 1.3, 3.0), (0.9, 4.0, 16.0)])
def test_dependence_widens_the_bound_by_about_the_variance_of_the_mean(phi, least, most):
    streams = [clustered(seed, 2_000, phi) for seed in range(60)]
    # V by definition: n times the variance of means of n values over the variance of a value.
    true = 500.0 * np.var([part.mean() for stream in streams for part in np.split(stream, 4)]) / 0.09
    estimate = float(np.median([taken(stream[:500]).inflation for stream in streams]))
    assert least < estimate < most
    assert true / 2.0 < estimate < true * 2.0
    wide, narrow = LossReference(2_000, 0.05), LossReference(2_000, 0.05)
    wide.learn(streams[0])
    narrow.learn(np.random.default_rng(0).permutation(streams[0]))
    assert wide.bounds().upper > narrow.bounds().upper


def test_a_constant_and_a_short_window_are_not_inflated():
    assert taken(np.zeros(500)).inflation == 1.0
    assert taken(np.ones(500)).inflation == 1.0
    assert taken(np.array([1.0] * 40)).inflation == 1.0


@pytest.mark.parametrize("detector", [ESR, ECusum])
def test_clustered_errors_alarm_no_more_often_than_was_asked_for(detector):
    # 20 streams of 10,000 at a nominal 10,000 each: 20 alarms expected at the very most, 40 if the guarantee were lost.
    alarms = sum(
        len(feed(detector(expected_events_between_false_alarms=10_000.0), clustered(seed, 10_000, 0.8)))
        for seed in range(20)
    )
    assert alarms <= 20


def test_a_model_that_became_better_is_held_to_its_better_level():
    # 25 % errors while it was young, then 10 %, then back to 20 %: no worse than the reference, and yet a loss.
    values = bernoulli(5, (0.25, 500), (0.1, 7_500), (0.2, 3_000))
    detector = ESR(reference_size=500)
    progress = detector.update_many(values)
    assert progress.level is Level.DRIFT
    assert 8_000 < progress.consumed < 9_000
    assert detector.null_mean is not None
    assert detector.null_mean < 0.14
    assert abs(detector.verdict().change_point - 8_000) < 300


def test_a_stable_stream_narrows_the_bound_of_its_reference():
    # At 10 % errors the 97 % bound of 500 values is some .1 + 1.9 * .3 / sqrt(500) = .125; 8,000 leave .1 + .01.
    detector = ESR(reference_size=500)
    values = bernoulli(16, (0.1, 8_000))
    detector.update_many(values[:500])
    wide = detector.null_mean
    assert detector.update_many(values[500:]).level is Level.STABLE
    assert 0.1 < detector.null_mean < wide - 0.01
    assert detector.null_mean == pytest.approx(values.mean() + 3.1 * 0.3 / 8_000**0.5, abs=0.004)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rate=st.floats(0.01, 0.5))
def test_the_windows_that_are_looked_at_end_at_doublings_of_the_reference(seed, rate):
    values = (np.random.default_rng(seed).random(1_600) < rate).astype(np.float64)
    detector = ESR(reference_size=100, expected_events_between_false_alarms=1e12)
    numbers = []
    for start, stop in ((0, 199), (199, 200), (200, 399), (399, 400), (400, 799), (799, 800), (800, 1_600)):
        detector.update_many(values[start:stop])
        numbers.append(detector.snapshot()["body"]["following"]["number"])
    assert numbers == [1, 2, 2, 3, 3, 4, 5]
    assert detector.snapshot()["body"]["following"]["pooled"] == msgspec.to_builtins(taken(values))


def test_a_model_that_became_worse_does_not_move_its_level():
    detector = ESR(tolerance=0.3, reference_size=500)
    detector.update_many(bernoulli(6, (0.1, 500)))
    first = detector.null_mean
    detector.update_many(bernoulli(7, (0.3, 3_000)))
    assert detector.null_mean == first


def test_a_given_reference_and_a_two_sided_test_follow_nothing():
    better = bernoulli(8, (0.1, 4_000))
    given_one = ESR(reference_count=500, reference_mean=0.3)
    before = given_one.null_mean
    given_one.update_many(better)
    assert given_one.null_mean == before
    two_sided = ESR(two_sided=True, tolerance=0.5)
    two_sided.update_many(np.concatenate([bernoulli(9, (0.25, 500)), better]))
    assert two_sided.snapshot()["body"]["following"] is None


def test_a_loss_between_0_and_1_ends_the_following():
    detector = ESR(reference_size=100)
    detector.update_many(bernoulli(10, (0.1, 150)))
    assert detector.snapshot()["body"]["following"] is not None
    detector.update_many(np.array([0.5]))
    assert detector.snapshot()["body"]["following"] is None


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(1, 900), max_size=6))
def test_a_following_detector_may_be_cut_and_restored_anywhere(seed, cuts):
    values = bernoulli(seed, (0.3, 120), (0.1, 1_500), (0.3, 300))
    whole, pieces = ESR(reference_size=100), ESR(reference_size=100)
    expected = feed(whole, values)
    found, start = [], 0
    for length in [*cuts, len(values)]:
        part = values[start : start + length]
        found += [start + place for place in feed(pieces, part)]
        start += len(part)
        restored = ESR(reference_size=100)
        restored.restore(msgspec.msgpack.decode(packed(pieces)))
        pieces = restored
    assert found == expected
    assert packed(pieces) == packed(whole)
