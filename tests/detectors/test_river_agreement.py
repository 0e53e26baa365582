"""Where the rule is the same, drifts and warnings fall on river's indices."""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import drift

from detectors.protocol import Detector, Level, Values
from detectors.registry import make
from tests.detectors.strategies import bernoulli, feed, streams

whole = st.integers


def levels_of(detector: Detector, values: Values) -> list[int]:
    """Levels value by value, with a rebase after each drift, as river resets itself."""
    levels = []
    for value in values.tolist():
        levels.append(int(detector.update(value)))
        if levels[-1] == Level.DRIFT:
            detector.rebase()
    return levels


def river_levels(detector: Any, values: Values, convert: Callable = float) -> list[int]:
    levels = []
    for value in values.tolist():
        detector.update(convert(value))
        levels.append(2 if detector.drift_detected else 1 if getattr(detector, "warning_detected", False) else 0)
    return levels


@settings(max_examples=60, deadline=None)
@given(
    values=streams("real", most=1500),
    delta=st.sampled_from([0.5, 0.05, 0.002, 1e-5]),
    clock=whole(1, 40),
    max_buckets=whole(2, 7),
    min_window_length=whole(1, 9),
    grace_period=whole(1, 40),
)
def test_adwin_in_river_mode_drifts_where_river_does(values, **parameters):
    ours = make("adwin", compat="river", **parameters)
    assert levels_of(ours, values) == river_levels(drift.ADWIN(**parameters), values)


@settings(max_examples=60, deadline=None)
@given(values=streams("bernoulli", most=1500), warm_start=whole(1, 60), drift_level=st.floats(1.5, 4.0))
def test_ddm_in_river_mode_warns_and_drifts_where_river_does(values, warm_start, drift_level):
    ours = make("ddm", compat="river", warm_start=warm_start, drift_level=drift_level, warning_level=1.25)
    theirs = drift.binary.DDM(warm_start=warm_start, drift_threshold=drift_level, warning_threshold=1.25)
    assert levels_of(ours, values) == river_levels(theirs, values, int)


@settings(max_examples=60, deadline=None)
@given(values=streams("bernoulli", most=1500), warm_start=whole(2, 40), beta=st.floats(0.5, 0.93))
def test_eddm_in_river_mode_warns_and_drifts_where_river_does(values, warm_start, beta):
    ours = make("eddm", compat="river", warm_start=warm_start, beta=beta)
    assert levels_of(ours, values) == river_levels(drift.binary.EDDM(warm_start, 0.95, beta), values, int)


@settings(max_examples=60, deadline=None)
@given(values=streams("unit", most=1500), confidence=st.floats(1e-4, 0.05), two_sided=st.booleans())
def test_hddm_a_drifts_where_river_does(values, confidence, two_sided):
    ours = make("hddm_a", drift_confidence=confidence, warning_confidence=0.1, two_sided=two_sided)
    theirs = drift.binary.HDDMA(confidence, 0.1, two_sided)
    found, expected = levels_of(ours, values), river_levels(theirs, values)
    assert [level == 2 for level in found] == [level == 2 for level in expected]
    # river lets the warning of a rise stand beside a drift of a fall, so one-sided warnings alone compare.
    assert two_sided or found == expected


@settings(max_examples=60, deadline=None)
@given(
    values=streams("real", most=1500),
    threshold=st.floats(0.5, 60.0),
    delta=st.floats(0.0, 0.2),
    alpha=st.sampled_from([1.0, 0.9999, 0.99]),
    direction=st.sampled_from(["up", "down", "both"]),
)
def test_page_hinkley_in_river_mode_drifts_where_river_does(values, direction, **parameters):
    ours = make("page_hinkley", compat="river", direction=direction, **parameters)
    assert levels_of(ours, values) == river_levels(drift.PageHinkley(mode=direction, **parameters), values)


@settings(max_examples=12, deadline=None)
@given(values=streams("real", most=250), seed=whole(0, 2**31), alpha=st.sampled_from([0.2, 0.05, 0.005]))
def test_kswin_in_river_mode_draws_and_drifts_as_river_does(values, seed, alpha):
    ours = make("kswin", compat="river", seed=seed, alpha=alpha, window_size=40, stat_size=12)
    theirs = drift.KSWIN(alpha=alpha, window_size=40, stat_size=12, seed=seed)
    assert levels_of(ours, values) == river_levels(theirs, values)


@settings(max_examples=40, deadline=None)
@given(values=streams("bernoulli", most=1500), size=whole(20, 120), exponent=whole(1, 4))
def test_fhddm_drifts_where_rivers_does_when_that_is_fed_with_right_for_wrong(values, size, exponent):
    confidence = 10.0**-exponent
    ours = make("fhddm", window_size=size, confidence=confidence)
    theirs = drift.binary.FHDDM(sliding_window_size=size, confidence_level=confidence)
    assert levels_of(ours, values) == river_levels(theirs, 1.0 - values, int)


@settings(max_examples=40, deadline=None)
@given(values=streams("bernoulli", most=1200), weight=st.floats(0.01, 0.3), confidence=st.floats(1e-3, 0.1))
def test_hddm_w_is_rivers_rule_with_the_bound_at_its_own_step(values, weight, confidence):
    """A plain transcription of the paper is river's when its weights run one step ahead, and ours when they do not."""
    theirs = drift.binary.HDDMW(confidence, 0.2, weight)
    ahead = plain_hddm_w(values, weight, confidence, first_squares=weight**2 + (1 - weight) ** 2)
    assert [i for i, level in enumerate(river_levels(theirs, values, int)) if level == 2] == ahead
    ours = make("hddm_w", drift_confidence=confidence, warning_confidence=0.2, weight=weight)
    assert feed(ours, values) == plain_hddm_w(values, weight, confidence, first_squares=1.0)


class Sample:
    """A weighted mean and the sum of its squared weights."""

    def __init__(self, weight: float, first_squares: float) -> None:
        self.weight, self.squares, self.first_squares, self.mean = weight, 0.0, first_squares, 0.0

    def take(self, value: float) -> None:
        keep = 1.0 - self.weight
        started = self.squares > 0.0
        self.mean = self.weight * value + keep * self.mean if started else value
        self.squares = self.weight**2 + keep**2 * self.squares if started else self.first_squares


def plain_hddm_w(values: Values, weight: float, confidence: float, first_squares: float) -> list[int]:
    factor, drifts = math.log(1.0 / confidence) / 2.0, []
    total, first, second, edge = Sample(weight, first_squares), None, None, math.inf
    for index, value in enumerate(values.tolist()):
        total.take(value)
        bound = total.mean + math.sqrt(total.squares * factor)
        if bound < edge:
            edge, first, second = bound, copy.copy(total), Sample(weight, first_squares)
            continue
        second.take(value)
        if second.mean - first.mean > math.sqrt((first.squares + second.squares) * factor):
            drifts.append(index)
            total, first, second, edge = Sample(weight, first_squares), None, None, math.inf
    return drifts


@pytest.mark.parametrize("seed", range(3))
def test_long_streams_agree_as_well(seed):
    values = bernoulli(seed, (0.1, 9_000), (0.13, 9_000), (0.3, 6_000))
    pairs = [
        (make("adwin", compat="river"), drift.ADWIN()),
        (make("ddm", compat="river"), drift.binary.DDM()),
        (make("eddm", compat="river"), drift.binary.EDDM()),
        (make("hddm_a", drift_confidence=0.001), drift.binary.HDDMA()),
        (make("page_hinkley", compat="river"), drift.PageHinkley()),
    ]
    for ours, theirs in pairs:
        expected = [i for i, level in enumerate(river_levels(theirs, values, int)) if level == 2]
        assert feed(ours, values) == expected
        assert np.isfinite(ours.verdict().statistic)
