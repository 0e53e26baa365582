"""Laws of the sequential tests, over parameters that the registry's suite does not vary."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.betting import Betting
from detectors.conformal import Conformal
from detectors.e_detector import ESR, ECusum
from detectors.empirical_bernstein import EmpiricalBernstein
from detectors.protocol import Level, StateError

MAKERS = {
    "e_sr": lambda: ESR(reference_size=60, expected_events_between_false_alarms=300.0),
    "e_sr given": lambda: ESR(reference_count=400, reference_mean=0.1),
    "e_sr two-sided": lambda: ESR(reference_size=40, two_sided=True, tolerance=0.01),
    "e_sr bounded": lambda: ESR(reference_count=300, reference_mean=0.2, reference_variance=0.01),
    "e_cusum": lambda: ECusum(reference_size=60, expected_events_between_false_alarms=300.0),
    "e_cusum two-sided": lambda: ECusum(reference_size=40, two_sided=True),
    "betting": lambda: Betting(reference_size=60, memory=37),
    "empirical_bernstein": lambda: EmpiricalBernstein(reference_size=60, false_alarm_probability=0.2),
    "conformal": lambda: Conformal(reference_size=40, n_bins=7, expected_events_between_false_alarms=300.0),
}
everywhere = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


@st.composite
def streams(draw):
    """Losses in [0, 1] whose level changes once: 0/1 losses, or values between, or both mixed."""
    seed = draw(st.integers(0, 2**32 - 1))
    kind = draw(st.sampled_from(["bernoulli", "beta", "mixed"]))
    length, change = draw(st.integers(1, 900)), draw(st.integers(0, 900))
    before, after = draw(st.floats(0.02, 0.5)), draw(st.floats(0.02, 0.95))
    rng = np.random.default_rng(seed)
    mean = np.where(np.arange(length) < change, before, after)
    ones = (rng.random(length) < mean).astype(np.float64)
    if kind == "bernoulli":
        return ones
    between = rng.beta(5.0 * mean, 5.0 * (1.0 - mean))
    return between if kind == "beta" else np.where(rng.random(length) < 0.5, ones, between)


def feed(detector, values):
    """Give all values through update_many, going on behind each drift; give the indices of the drifts."""
    drifts, taken = [], 0
    while taken < len(values):
        progress = detector.update_many(values[taken:])
        taken += progress.consumed
        if progress.level is Level.DRIFT:
            drifts.append(taken - 1)
    return drifts


def packed(detector):
    return msgspec.msgpack.encode(detector.snapshot())


@everywhere
@settings(max_examples=12, deadline=None)
@given(values=streams(), cuts=st.lists(st.integers(1, 300), max_size=8))
def test_cutting_a_stream_anywhere_changes_no_bit(make, values, cuts):
    whole, pieces = make(), make()
    expected = feed(whole, values)
    drifts, start = [], 0
    for cut in [*cuts, len(values)]:
        drifts += [start + index for index in feed(pieces, values[start : start + cut])]
        start = min(start + cut, len(values))
    assert drifts == expected
    assert packed(pieces) == packed(whole)


@everywhere
@settings(max_examples=4, deadline=None)
@given(values=streams())
def test_values_given_one_by_one_leave_the_state_that_the_column_leaves(make, values):
    column, single = make(), make()
    expected = feed(column, values)
    drifts = [i for i, value in enumerate(values.tolist()) if single.update(value) is Level.DRIFT]
    assert drifts == expected
    assert packed(single) == packed(column)


@everywhere
@settings(max_examples=8, deadline=None)
@given(values=streams(), cut=st.integers(0, 900))
def test_a_detector_restored_at_any_cut_goes_on_as_if_nothing_had_happened(make, values, cut):
    first, resumed = make(), make()
    feed(first, values[:cut])
    resumed.update_many(np.array([1.0, 0.0, 1.0]))
    resumed.restore(msgspec.msgpack.decode(packed(first)))
    assert feed(resumed, values[cut:]) == feed(first, values[cut:])
    assert packed(resumed) == packed(first)
    assert resumed.verdict() == first.verdict()


@everywhere
@settings(max_examples=8, deadline=None)
@given(values=streams())
def test_the_level_is_drift_exactly_where_the_statistic_reaches_the_threshold(make, values):
    detector = make()
    for value in values[:100]:
        level = detector.update(float(value))
        verdict = detector.verdict()
        assert level is verdict.level
        assert (verdict.statistic >= verdict.threshold) == (level is Level.DRIFT)
        if verdict.change_point is not None:
            assert 0 <= verdict.change_point <= verdict.sample_count


@everywhere
def test_reset_equals_new(make):
    detector = make()
    feed(detector, np.array([0.0, 1.0] * 200))
    detector.reset()
    assert packed(detector) == packed(make())


@everywhere
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused_and_changes_nothing(make, bad):
    detector = make()
    feed(detector, np.array([0.0, 1.0] * 100))
    before = packed(detector)
    with pytest.raises(ValueError, match=r"\$\[2\]"):
        detector.update_many(np.array([0.0, 1.0, bad, 0.0]))
    assert packed(detector) == before


@pytest.mark.parametrize("make", [MAKERS["e_sr"], MAKERS["betting"], MAKERS["empirical_bernstein"]])
@pytest.mark.parametrize("bad", [-0.1, 1.1])
def test_a_loss_outside_the_unit_interval_is_refused(make, bad):
    with pytest.raises(ValueError, match=r"\$\[1\]"):
        make().update_many(np.array([0.0, bad]))


@everywhere
def test_a_snapshot_of_another_detector_or_a_newer_version_or_damaged_is_refused(make):
    detector = make()
    feed(detector, np.array([0.0, 1.0] * 100))
    state = detector.snapshot()
    for wrong in ({**state, "detector": "another"}, {**state, "version": 99}, {**state, "body": {"count": "many"}}):
        with pytest.raises(StateError):
            make().restore(wrong)


@everywhere
def test_the_state_does_not_grow_with_the_stream(make):
    detector = make()
    rng = np.random.default_rng(5)
    feed(detector, (rng.random(1_000) < 0.1).astype(np.float64))
    size = len(packed(detector))
    feed(detector, (rng.random(6_000) < 0.1).astype(np.float64))
    assert len(packed(detector)) <= size + 200


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda: ESR(expected_events_between_false_alarms=1.0), "expected_events_between_false_alarms"),
        (lambda: ESR(tolerance=-0.1), "tolerance"),
        (lambda: ESR(reference_confidence=1.0), "reference_confidence"),
        (lambda: ESR(reference_mean=0.5), "reference_mean"),
        (lambda: Betting(false_alarm_probability=0.0), "false_alarm_probability"),
        (lambda: EmpiricalBernstein(reference_size=0), "reference_size"),
        (lambda: Conformal(jump=float("nan")), "jump"),
    ],
)
def test_a_parameter_out_of_range_is_refused_by_its_path(make, path):
    with pytest.raises(ValueError, match=rf"\$\.{path}: expected"):
        make()
