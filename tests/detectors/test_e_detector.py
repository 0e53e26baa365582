"""e-SR and e-CUSUM: the recursion, the guarantee and the delay."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.e_detector import ESR, SHIFTS, ECusum
from detectors.e_mixture import Bets, EMixture, MixtureState
from detectors.protocol import Level, StateError


def bets(null, shifts=SHIFTS):
    stakes = [min(shift / (1 - null), 0.9) for shift in shifts]
    return Bets(tuple(1 - stake for stake in stakes), tuple(stake / null for stake in stakes))


def textbook(values, chosen, *, shiryaev):
    """The recursions of arXiv 2203.03532 in plain logarithms, averaged over the bets."""
    logs = [-math.inf] * len(chosen.offsets)
    trail = []
    for x in values:
        for k, (a, b) in enumerate(zip(*chosen, strict=True)):
            start = np.logaddexp(0.0, logs[k]) if shiryaev else max(0.0, logs[k])
            logs[k] = start + math.log(a + b * x)
        trail.append(np.logaddexp.reduce(logs) - math.log(len(logs)))
    return trail


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), null=st.floats(0.01, 0.9), shiryaev=st.booleans(), mean=st.floats(0.0, 1.0))
def test_the_processes_are_those_of_the_paper(seed, null, shiryaev, mean):
    values = (np.random.default_rng(seed).random(600) < mean).astype(np.float64)
    chosen = bets(null)
    mixture = EMixture(MixtureState.new(chosen), math.log(1e12), shiryaev=shiryaev)
    taken, reached = mixture.advance(values)
    expected = textbook(values[:taken], chosen, shiryaev=shiryaev)
    assert mixture.statistic == pytest.approx(expected[-1], abs=1e-8)
    assert reached == (expected[-1] >= math.log(1e12))
    assert all(value < math.log(1e12) for value in expected[:-1])


def test_a_long_column_and_single_values_leave_the_same_bits():
    rng = np.random.default_rng(3)
    values = (rng.random(30_000) < 0.09).astype(np.float64)
    for detector in (ESR, ECusum):
        column, single = detector(), detector()
        assert column.update_many(values).consumed == len(values)
        for start in range(0, len(values), 7):
            single.update_many(values[start : start + 7])
        assert column.snapshot() == single.snapshot()


def test_the_change_point_is_where_the_best_bets_cumulated_increments_are_least():
    rng = np.random.default_rng(9)
    values = np.concatenate(((rng.random(3_000) < 0.1), (rng.random(300) < 0.4))).astype(np.float64)
    detector = ESR(reference_count=2_000, reference_mean=0.1)
    progress = detector.update_many(values)
    seen = values[: progress.consumed]
    chosen = bets(detector.null_mean)
    logs = np.log(np.array(chosen.offsets)[:, None] + np.array(chosen.slopes)[:, None] * seen)
    sums = np.concatenate((np.zeros((len(logs), 1)), np.cumsum(logs, axis=1)), axis=1)
    candidates = np.argmin(sums, axis=1)
    assert detector.verdict().change_point in candidates.tolist()
    assert abs(detector.verdict().change_point - 3_000) < 60
    assert detector.verdict().mean == pytest.approx(seen[detector.verdict().change_point :].mean())


def test_evidence_without_bound_is_capped_and_stays_a_number():
    detector = ESR(reference_count=1_000, reference_mean=0.01)
    ones = np.ones(5_000)
    taken = 0
    while taken < len(ones):
        taken += detector.update_many(ones[taken:]).consumed
    verdict = detector.verdict()
    assert verdict.level is Level.DRIFT
    assert math.isfinite(verdict.statistic)
    assert verdict.sample_count == 5_000
    detector.update_many(np.zeros(50_000))
    assert detector.verdict().level is Level.DRIFT or math.isfinite(detector.verdict().statistic)


def test_a_mixture_that_cannot_have_come_about_is_refused():
    state = ESR(reference_count=100, reference_mean=0.1).snapshot()
    for field, value in {"product": [1.0], "phase": 10_000, "offsets": [-1.0] * 5}.items():
        damaged = {**state, "body": {**state["body"], "mixture": {**state["body"]["mixture"], field: value}}}
        with pytest.raises(StateError):
            ESR().restore(damaged)


def test_a_fall_of_the_loss_is_drift_only_for_the_two_sided_test():
    rng = np.random.default_rng(11)
    values = (rng.random(3_000) < 0.1).astype(np.float64)
    one = ESR(reference_count=2_000, reference_mean=0.3)
    two = ESR(reference_count=2_000, reference_mean=0.3, two_sided=True)
    assert one.update_many(values).level is Level.STABLE
    assert two.update_many(values).consumed < 200
    assert two.verdict().level is Level.DRIFT


def test_a_rise_within_the_tolerance_is_no_drift():
    rng = np.random.default_rng(12)
    values = (rng.random(20_000) < 0.14).astype(np.float64)
    strict = ESR(reference_count=5_000, reference_mean=0.1)
    tolerant = ESR(reference_count=5_000, reference_mean=0.1, tolerance=0.05)
    assert strict.update_many(values).consumed < 3_000
    assert tolerant.update_many(values).consumed == len(values)


def test_after_rebase_a_given_reference_is_learnt_anew():
    rng = np.random.default_rng(13)
    detector = ESR(reference_count=5_000, reference_mean=0.1)
    worse = (rng.random(20_000) < 0.3).astype(np.float64)
    assert detector.update_many(worse).consumed < 200
    detector.rebase()
    assert detector.update_many(worse).consumed == len(worse)
    detector.reset()
    assert detector.update_many(worse).consumed < 200


def test_a_loss_that_wanders_little_shows_a_small_rise_sooner_than_bernoulli_stakes_would():
    rng = np.random.default_rng(14)
    values = np.clip(rng.normal(0.22, 0.05, 20_000), 0.0, 1.0)
    own = ESR(reference_count=2_000, reference_mean=0.2, reference_variance=0.0025)
    bernoulli = ESR(reference_count=2_000, reference_mean=0.2)
    assert own.update_many(values).consumed < bernoulli.update_many(values).consumed / 3


def stable_values_to_alarm(detector, p0, rng, horizon):
    """Values from the end of the reference to the first false alarm, at most `horizon`."""
    return detector.update_many((rng.random(horizon) < p0).astype(np.float64)).consumed


@pytest.mark.parametrize("detector", [ESR, ECusum])
@pytest.mark.parametrize("p0", [0.02, 0.1, 0.4])
def test_the_run_length_is_at_least_nominal_at_the_edge_of_the_null(detector, p0):
    # The worst case that the guarantee covers: the true mean is the bound itself. Truncation at 8,000 only shortens the
    # measured mean. 60 runs of nominal 1,000: the standard error of the mean is about 130.
    rng = np.random.default_rng(100)
    lengths = []
    for _ in range(60):
        fresh = detector(expected_events_between_false_alarms=1_000.0, reference_count=10**14, reference_mean=p0)
        lengths.append(stable_values_to_alarm(fresh, p0, rng, 8_000))
    assert np.mean(lengths) >= 1_000.0


def test_a_learnt_reference_keeps_false_alarms_below_nominal_with_the_stated_confidence():
    # Nominal: 1 - exp(-10,000 / 50,000) = 18 % of runs, plus the 5 % of references whose bound fails.
    rng = np.random.default_rng(101)
    alarms = sum(stable_values_to_alarm(ESR(), 0.1, rng, 10_500) < 10_500 for _ in range(60))
    assert alarms <= 9


def test_doubling_an_error_rate_of_a_tenth_is_seen_within_hundreds_of_values():
    rng = np.random.default_rng(102)
    delays = []
    for _ in range(25):
        detector = ESR()
        stable = (rng.random(2_500) < 0.1).astype(np.float64)
        if detector.update_many(stable).level is Level.DRIFT:
            continue
        delays.append(detector.update_many((rng.random(4_000) < 0.2).astype(np.float64)).consumed)
    assert len(delays) >= 22
    assert np.median(delays) < 400
    assert max(delays) < 2_000


@pytest.mark.slow
@pytest.mark.parametrize("detector", [ESR, ECusum])
@pytest.mark.parametrize("kind", ["bernoulli", "beta"])
def test_the_run_length_with_learnt_references_is_at_least_nominal(detector, kind):
    rng = np.random.default_rng(103)
    lengths = []
    for _ in range(150):
        fresh = detector(expected_events_between_false_alarms=5_000.0)
        stream = (rng.random(40_500) < 0.1).astype(np.float64) if kind == "bernoulli" else rng.beta(1.0, 9.0, 40_500)
        lengths.append(fresh.update_many(stream).consumed - 500)
    assert np.mean(lengths) >= 5_000.0


@pytest.mark.parametrize("detector", [ESR, ECusum])
@pytest.mark.parametrize("loss", [0.0, 1.0])
@pytest.mark.parametrize("two_sided", [False, True])
def test_a_loss_that_is_always_the_same_is_never_drift(detector, loss, two_sided):
    constant = detector(expected_events_between_false_alarms=1_000.0, two_sided=two_sided)
    assert constant.update_many(np.full(50_000, loss)).consumed == 50_000
