"""The laws that every registered detector obeys, ours and river's behind the adapter."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.protocol import Level, StateError
from detectors.registry import make, parameters, restore
from tests.detectors.strategies import (
    EVERY,
    OWN,
    SMALL,
    Variant,
    bernoulli,
    cuts,
    feed,
    feed_singly,
    packed,
    streams,
    variant,
)

every = pytest.mark.parametrize("detector", EVERY, ids=str)
own = pytest.mark.parametrize("detector", OWN, ids=str)


def examples(count: int) -> Callable:
    return settings(max_examples=count, deadline=None)


@every
@examples(14)
@given(data=st.data())
def test_a_column_may_be_cut_anywhere_without_changing_a_drift_or_a_bit_of_state(detector: Variant, data):
    values, lengths = data.draw(streams(detector.domain, most=detector.most)), data.draw(cuts())
    rebase = data.draw(st.booleans())
    whole, pieces = detector.new(), detector.new()
    expected = feed(whole, values, rebase=rebase)
    found, start = [], 0
    for length in [*lengths, len(values)]:
        found += [start + i for i in feed(pieces, values[start : start + length], rebase=rebase)]
        start = min(start + length, len(values))
    assert found == expected
    assert pieces.snapshot() == whole.snapshot()


@every
@examples(6)
@given(data=st.data())
def test_a_column_does_what_its_values_do_one_by_one(detector: Variant, data):
    values, rebase = data.draw(streams(detector.domain, most=detector.most)), data.draw(st.booleans())
    column, single = detector.new(), detector.new()
    assert feed_singly(single, values, rebase=rebase) == feed(column, values, rebase=rebase)
    assert single.snapshot() == column.snapshot()
    assert single.verdict() == column.verdict()


@every
@examples(6)
@given(data=st.data())
def test_a_few_plain_floats_do_what_an_array_of_them_does(detector: Variant, data):
    values, size = data.draw(streams(detector.domain, most=detector.most)), data.draw(st.integers(1, 60))
    rebase = data.draw(st.booleans())
    column, lists, found = detector.new(), detector.new(), []
    for start in range(0, len(values), size):
        found += [start + i for i in feed(lists, values[start : start + size].tolist(), rebase=rebase)]
    assert found == feed(column, values, rebase=rebase)
    assert lists.snapshot() == column.snapshot()
    assert lists.verdict() == column.verdict()
    assert lists.update_many([]) == (0, lists.verdict().level)


@every
@examples(6)
@given(data=st.data())
def test_what_is_restored_at_any_cut_goes_on_as_if_nothing_had_happened(detector: Variant, data):
    values, cut = data.draw(streams(detector.domain, most=detector.most)), data.draw(st.integers(0, 700))
    first = detector.new()
    feed(first, values[:cut])
    before = packed(first)
    resumed = restore(msgspec.msgpack.decode(before))
    assert packed(resumed) == before
    assert feed(resumed, values[cut:]) == feed(first, values[cut:])
    assert packed(resumed) == packed(first)
    assert resumed.verdict() == first.verdict()


@every
@examples(3)
@given(data=st.data())
def test_a_detector_drifts_exactly_where_its_statistic_reaches_its_threshold(detector: Variant, data):
    values = data.draw(streams(detector.domain, most=min(detector.most, 300)))
    subject, seen = detector.new(), set()
    for value in values.tolist():
        level = subject.update(value)
        verdict = subject.verdict()
        seen.add(level)
        assert verdict.level is level
        assert (verdict.statistic >= verdict.threshold) == (level is Level.DRIFT)
        assert np.isfinite(verdict.statistic)
        assert verdict.change_point is None or 0 <= verdict.change_point <= verdict.sample_count
        if level is Level.DRIFT:
            subject.rebase()
            after = subject.verdict()
            assert after.level is not Level.DRIFT
            assert after.sample_count == 0
    assert seen


@every
@examples(2)
@given(data=st.data())
def test_reset_equals_new(detector: Variant, data):
    subject = detector.new()
    feed(subject, data.draw(streams(detector.domain, most=detector.most)))
    subject.reset()
    assert packed(subject) == packed(detector.new())
    assert subject.verdict() == detector.new().verdict()


@every
def test_a_verdict_changes_nothing_and_no_values_change_nothing(detector: Variant):
    subject = detector.new()
    feed(subject, bernoulli(1, (0.2, 200)))
    before = packed(subject)
    level = subject.verdict().level
    assert subject.update_many(np.empty(0)) == (0, level)
    assert packed(subject) == before


@every
def test_what_is_no_finite_number_is_refused_and_changes_nothing(detector: Variant):
    subject = detector.new()
    feed(subject, bernoulli(2, (0.2, 150)))
    before = packed(subject)
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match=r"^\$\[2\]: expected"):
            subject.update_many(np.array([0.0, 1.0, bad, 1.0]))
        with pytest.raises(ValueError, match=r"^\$\[2\]: expected"):
            subject.update_many([0.0, 1.0, bad, 1.0])
        with pytest.raises(ValueError, match="expected"):
            subject.update(bad)
    assert packed(subject) == before


@every
def test_a_value_outside_the_domain_is_refused_and_changes_nothing(detector: Variant):
    subject = detector.new()
    before = packed(subject)
    outside = {"bernoulli": 0.5, "unit": 1.5, "real": 1e76}[subject.domain]
    with pytest.raises(ValueError, match=r"^\$\[1\]: expected"):
        subject.update_many(np.array([0.0, outside]))
    with pytest.raises(ValueError, match=r"^\$\[1\]: expected"):
        subject.update_many([0.0, outside])
    with pytest.raises(ValueError, match="expected"):
        subject.update(outside)
    with pytest.raises(ValueError, match="shape"):
        subject.update_many(np.zeros((2, 2)))
    assert packed(subject) == before


@pytest.mark.parametrize("detector", [v for v in OWN + SMALL if v.domain == "real"], ids=str)
def test_the_largest_values_overflow_nothing(detector: Variant):
    rng = np.random.default_rng(4)
    subject = detector.new()
    feed(subject, rng.choice([-1e75, 1e75, 1e-300, 0.0], size=2_000))
    assert np.isfinite(subject.verdict().statistic)


@every
def test_a_snapshot_of_another_detector_from_a_newer_version_or_damaged_is_refused(detector: Variant):
    subject = detector.new()
    feed(subject, bernoulli(3, (0.2, 150)))
    state = subject.snapshot()
    for wrong in (
        {**state, "detector": "another"},
        {**state, "version": 10_000},
        {**state, "version": "1"},
        {**state, "body": {"nothing": "known"}},
        {key: value for key, value in state.items() if key != "body"},
        {**state, "parameters": {"unheard_of": 1}},
    ):
        before = packed(subject)
        with pytest.raises(StateError):
            subject.restore(wrong)
        with pytest.raises(StateError):
            restore(wrong)
        assert packed(subject) == before


@every
def test_a_snapshot_restores_its_parameters_too(detector: Variant):
    subject = detector.new()
    feed(subject, bernoulli(5, (0.2, 150)))
    other = make(detector.name)
    other.restore(subject.snapshot())
    assert packed(other) == packed(subject)


LIMIT_BYTES = 4_096
"""What a snapshot may weigh. Windows of values are the exceptions."""

LARGER = {"kswin": 12_000, "river:KSWIN": 12_000, "conformal": 32_000}


@every
def test_the_state_stays_small_however_long_the_stream(detector: Variant):
    # river's detectors cost up to 400 us a value, and its rules in ours up to 80.
    as_river = detector.name.startswith("river:") or ("compat", "river") in detector.parameters
    length = detector.most * 4 if as_river else 50_000
    subject = detector.new()
    feed(subject, bernoulli(6, (0.1, length)))
    assert len(packed(subject)) <= LARGER.get(detector.name, LIMIT_BYTES)


@own
def test_a_stable_error_stream_is_left_in_peace(detector: Variant):
    """Twenty production streams of 5,000 events: nominal run lengths of 50,000 and more allow four drifts at most."""
    drifts = [feed(detector.new(), bernoulli(seed, (rate, 5_000))) for seed in range(10) for rate in (0.05, 0.2)]
    assert sum(map(len, drifts)) <= 4


SLOW = {"eddm": 600, "empirical_bernstein": 1_500}
"""Median delays allowed beyond 250 events: both compare with a mean over everything since the reset."""


@own
def test_a_tripled_error_rate_is_found_soon_and_its_beginning_is_told(detector: Variant):
    delays, misplaced = [], []
    for seed in range(9):
        subject = detector.new()
        values = bernoulli(100 + seed, (0.2, 2_000), (0.65, 2_000))
        start = 0
        while start < len(values):
            progress = subject.update_many(values[start:])
            if progress.level is Level.DRIFT and start + progress.consumed > 2_000:
                change = subject.verdict().change_point
                delays.append(start + progress.consumed - 2_000)
                misplaced.append(abs(start + change - 2_000) if change is not None else 4_000)
                break
            start += progress.consumed
            if progress.level is Level.DRIFT:
                subject.rebase()
    assert len(delays) == 9
    assert np.median(delays) <= SLOW.get(detector.name, 250)
    assert np.median(misplaced) <= max(150, np.median(delays))


@own
def test_every_parameter_is_described_and_bounded(detector: Variant):
    for name, parameter in parameters(detector.name).items():
        assert parameter.expected, name
        with pytest.raises(ValueError, match=rf"^\$\.{name}: expected .+, got"):
            make(detector.name, **{name: [object()]})
    with pytest.raises(ValueError, match=r"^\$\.unheard_of: unknown parameter, expected one of "):
        make(detector.name, unheard_of=1)


def test_the_order_of_two_detectors_of_one_name_does_not_matter():
    """MOA keeps HDDM_W's state in static fields: two detectors share it."""
    for detector in [*OWN, variant("river:HDDMW")]:
        alone, one, two = detector.new(), detector.new(), detector.new()
        values = bernoulli(8, (0.1, 400))
        feed(alone, values)
        for start in range(0, 400, 50):
            feed(one, values[start : start + 50])
            feed(two, 1.0 - values[start : start + 50])
        assert packed(one) == packed(alone)
