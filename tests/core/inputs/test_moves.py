"""What is said of a column that moved names what happened to it, and counts only what is beyond its threshold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.protocol import Level
from service.core.inputs.feature_monitor import FeatureMonitor
from service.core.settings import DataQualitySettings, FeatureDriftSettings
from tests.core.inputs.streams import predictions

SETTINGS = FeatureDriftSettings(reference_events=1000, block_events=200)
OFF = DataQualitySettings(enabled=False)


def events(rng, count):
    """Ordinary inputs: two unlike numbers, a centred one, and two categories."""
    columns = zip(
        rng.lognormal(3, 1, count).tolist(),
        rng.normal(40, 10, count).tolist(),
        rng.normal(0, 1, count).tolist(),
        rng.choice(["basic", "premium", "family"], count, p=[0.575, 0.3, 0.125]).tolist(),
        strict=True,
    )
    return [{"amount": amount, "age": age, "centred": centred, "plan": plan} for amount, age, centred, plan in columns]


def drifts(change, blocks=10, seed=7):
    """Learn ordinary events, then observe changed ones; give what is found of drift."""
    monitor, rng = FeatureMonitor(SETTINGS, OFF), np.random.default_rng(seed)
    stream = events(rng, SETTINGS.reference_events)
    stream += [event | change(event, rng) for event in events(rng, blocks * SETTINGS.block_events)]
    return [found for found in monitor.observe(predictions(stream)) if found.level is Level.DRIFT]


def enterprise(event, rng):
    return {"plan": "enterprise"} if rng.random() < 0.12 else {}


def test_a_new_category_is_named_and_not_the_most_frequent_one():
    (found,) = drifts(enterprise)
    (feature,) = found.evidence[0].features
    assert feature.before == "enterprise (0.0%)"
    assert feature.after.startswith("enterprise (1")
    assert found.summary.startswith("plan moved away from the reference: plan: enterprise is new, 0% to 1")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda event, _: {"plan": "basic"} if event["plan"] == "family" else {}, "plan: family is gone, 1"),
        (lambda event, _: {"amount": event["amount"] * 1000}, "amount is about 1,000 times what it was, from "),
        (lambda event, _: {"age": event["age"] / 60}, "age is about 1/60 of what it was, from "),
        (lambda event, _: {"age": -event["age"]}, "age has the opposite sign, from "),
        (lambda *_: {"age": 41.0}, "age became constant in 200 events, from "),
        (lambda *_: {"age": None}, "age has no value any more"),
        (lambda event, _: {"age": event["age"] + 8}, "age went from "),
        (lambda event, _: {"amount": event["age"], "age": event["amount"]}, "amount and age look swapped"),
    ],
)
def test_what_a_mean_hides_is_named(change, words):
    assert words in drifts(change)[0].summary


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.3, 0.6, 1.5, 3.0]), st.sampled_from([0.0, 1.0]))
def test_an_ordinary_drift_is_not_called_a_change_of_unit_of_sign_or_of_place(seed, factor, shift):
    def drift(event, _):
        return {"age": (event["age"] - 40) * factor + 40 + 10 * shift, "centred": event["centred"] + shift}

    for found in drifts(drift, blocks=6, seed=seed):
        for word in ("times", "1/", "sign", "constant", "swapped"):
            assert word not in found.summary


def test_numbers_at_the_ends_of_what_a_float_holds_are_described_without_a_warning():
    for factor in (1e305, -1e307, 1e-320):
        assert drifts(lambda event, _, factor=factor: {"age": event["age"] * factor})


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.15, 0.6))
def test_evidence_marks_what_is_within_its_threshold_and_the_summary_counts_only_what_is_beyond(seed, shift):
    for found in drifts(lambda event, _: {"age": event["age"] + 10 * shift, "centred": -event["centred"]}, 40, seed):
        first, *known = found.evidence
        for feature in first.features:
            assert feature.beyond == (feature.statistic >= feature.threshold)
        beyond = [feature.feature for feature in first.features if feature.beyond]
        assert ("evidence of all blocks" in found.summary) == (len(beyond) < len(first.features))
        assert found.summary.startswith(", ".join(beyond or [feature.feature for feature in first.features]))
        for evidence in known:
            assert evidence.statistic >= evidence.threshold
            assert all(feature.statistic >= feature.threshold for feature in evidence.features)


def test_a_column_that_came_back_meanwhile_is_not_listed_with_those_that_drift():
    rows = iter(range(10**6))

    def change(event, _):
        block = next(rows) // SETTINGS.block_events
        return {"age": event["age"] + 30 * (block < 6), "centred": event["centred"] + 4 * (block >= 12)}

    first, *_, last = drifts(change, blocks=15)
    assert [feature.feature for feature in first.evidence[0].features] == ["age"]
    assert [[feature.feature for feature in evidence.features] for evidence in last.evidence] == [["centred"]]
    assert last.summary.startswith("centred moved away from the reference: centred went")


def test_what_had_no_value_and_has_none_has_no_distance():
    monitor, rng = FeatureMonitor(SETTINGS, OFF), np.random.default_rng(3)
    stream = [event | {"empty": None} for event in events(rng, 1400)]
    monitor.observe(predictions(stream))
    told = monitor.drift()
    assert told["empty"] is None
    assert told["age"] is not None
