"""What the Hoeffding detectors promise beyond the common laws."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.hddm_w import _tables
from detectors.registry import make
from tests.detectors.strategies import bernoulli, feed, streams


@settings(max_examples=40, deadline=None)
@given(values=streams("unit"), confidence=st.floats(1e-4, 0.1))
def test_hddm_a_is_the_test_of_its_definition_over_the_stored_stream(values, confidence):
    detector = make("hddm_a", drift_confidence=confidence)
    edge, cut, drifts = math.inf, 0, []
    for count in range(1, len(values) + 1):
        mean = values[:count].mean()
        bound = mean + math.sqrt(math.log(1 / confidence) / (2 * count))
        if bound <= edge + 1e-13:
            edge, cut = min(edge, bound), count
            continue
        allowed = math.sqrt((count - cut) / (count * cut) / 2 * math.log(2 / confidence))
        if mean - values[:cut].mean() >= allowed:
            drifts.append(count - 1)
            break
    assert feed(detector, values)[:1] == drifts


@pytest.mark.parametrize("weight", [0.01, 0.05, 0.5])
def test_the_weights_of_hddm_w_are_those_of_a_mean(weight):
    tables = _tables(weight, 0.01)
    for count in (1, 2, 5, 40):
        weights = [(1 - weight) ** (count - 1)] + [weight * (1 - weight) ** age for age in range(count - 1)]
        assert math.isclose(sum(weights), 1.0)
        assert math.isclose(tables.squares[count], sum(w * w for w in weights), rel_tol=1e-9)
        assert math.isclose(tables.powers[count], (1 - weight) ** count)
    assert math.isclose(tables.squares[-1], weight / (2 - weight), rel_tol=1e-9)


def test_an_improvement_is_a_drift_to_two_sided_tests_alone():
    values = bernoulli(0, (0.6, 1_500), (0.1, 800))
    for name in ("hddm_a", "hddm_w"):
        assert feed(make(name), values) == []
        drifts = feed(make(name, two_sided=True), values)
        assert drifts
        assert 1_500 <= drifts[0] <= 1_700


def test_fhddm_does_not_alarm_when_the_model_improves_as_rivers_does():
    values = bernoulli(0, (0.6, 1_500), (0.1, 800))
    assert feed(make("fhddm"), values) == []
    assert feed(make("river:FHDDM"), values) != []
    with pytest.raises(ValueError, match=r"\$\.window_size"):
        make("fhddm", window_size=10)
