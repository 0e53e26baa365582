"""Row numbers, time stamps and identifiers are told once and not watched; genuine features are."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.protocol import Level
from service.core.inputs.feature_monitor import FeatureMonitor
from service.core.settings import DataQualitySettings, FeatureDriftSettings
from tests.core.inputs.streams import cuts, observe_in_parts, predictions

SETTINGS = FeatureDriftSettings()
QUALITY = DataQualitySettings()
START_S = 1_790_000_000
COLUMNS = {
    "__index_level_0__": (lambda row, _: row, "goes by 1 with each event"),
    "Unnamed: 0": (lambda row, _: 10_000 - 2 * row, "goes by -2 with each event"),
    "sent_ms": (lambda row, rng: (START_S + row) * 1000 + int(rng.integers(0, 900)), "is a time that goes on"),
    "parallel_s": (lambda row, rng: START_S + row // 3 + (row % 29 == 0) * int(rng.integers(0, 2)), "is a time that"),
    "odometer": (lambda row, rng: row * 0.5 + rng.random() * 0.4, "rises with each event"),
    "user": (lambda row, _: f"user-{row:08x}", "is text that does not come again"),
    "sent": (lambda row, _: f"2026-11-28T18:{row // 60 % 60:02}:{row % 60:02}.{row:06}Z", "is text that does not"),
}


def stream(names, count, seed=1, first=0):
    rng = np.random.default_rng(seed)
    return [
        {"age": rng.normal(40, 10), "plan": str(rng.choice(["basic", "premium"]))}
        | {name: COLUMNS[name][0](row, rng) for name in names}
        for row in range(first, first + count)
    ]


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_that_is_no_feature_is_told_once_and_raises_neither_drift_nor_quality(name):
    monitor = FeatureMonitor(SETTINGS, QUALITY)
    (told,) = monitor.observe(predictions(stream([name], 4000)))
    assert (told.kind, told.subject, told.level) == ("operational", "no_features", Level.DRIFT)
    assert f"{name} ({COLUMNS[name][1]}" in told.summary
    assert set(monitor.drift()) == set(monitor.quality()) == {"age", "plan"}
    assert monitor.limits() == {"max_features": 0, "max_categories": 0}


def test_a_column_that_is_asked_for_or_not_wanted_is_not_told():
    events = predictions(stream(["user", "sent_ms"], 3000))
    asked = FeatureMonitor(msgspec.structs.replace(SETTINGS, include=("age", "sent_ms")), QUALITY)
    found = asked.observe(events)
    assert {finding.subject for finding in found} == {"features"}
    named = {feature.feature for finding in found for part in finding.evidence for feature in part.features}
    assert named == {"sent_ms"}
    unwanted = msgspec.structs.replace(SETTINGS, exclude=("user", "sent_ms"))
    assert FeatureMonitor(unwanted, QUALITY).observe(events) == []


def test_behind_a_stored_reference_the_same_columns_are_left_out():
    monitor = FeatureMonitor(SETTINGS, QUALITY)
    monitor.observe(predictions(stream(["user", "odometer"], 1000)))
    profile = json.loads(json.dumps(monitor.reference()))
    later = predictions(stream(["user", "odometer"], 3000, 2, 5000))
    assert FeatureMonitor(SETTINGS, QUALITY, profile).observe(later) == []


GENUINE = {
    "noise": lambda rng, n: rng.normal(0, 1, n),
    "walk": lambda rng, n: np.cumsum(rng.normal(0, 1, n)),
    "trend": lambda rng, n: np.arange(n) * 0.01 + rng.normal(0, 1, n),
    "steep trend": lambda rng, n: np.arange(n) * 1.0 + rng.normal(0, 1, n),
    "daily": lambda rng, n: np.sin(np.arange(n) / 50) + rng.normal(0, 0.01, n),
    "day of the month": lambda _, n: np.arange(n) // 48 % 31,
    "last login": lambda rng, n: START_S - rng.integers(0, 10**7, n),
    "constant": lambda _, n: np.full(n, 7.0),
    "counter": lambda rng, n: np.cumsum(rng.random(n) < 0.3),
    "city": lambda rng, n: [f"c{city}" for city in rng.integers(0, 10_000, n)],
    "sorted classes": lambda _, n: [f"c{row // 100}" for row in range(n)],
    "postcode": lambda rng, n: [f"c{code}" for code in rng.zipf(1.3, n) % 100_000],
}


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(sorted(GENUINE)))
def test_a_genuine_feature_is_watched_whatever_its_course(seed, name):
    values = GENUINE[name](np.random.default_rng(seed), 1000)
    values = values.tolist() if isinstance(values, np.ndarray) else values
    monitor = FeatureMonitor(SETTINGS, QUALITY)
    assert monitor.observe(predictions([{"x": value, "y": 1.0} for value in values])) == []
    assert monitor.table.left_out == []
    assert "x" in monitor.drift()


@settings(max_examples=20, deadline=None)
@given(cuts)
def test_cuts_and_restarts_change_nothing(at):
    events = predictions(stream(list(COLUMNS), 1500))
    whole, expected = observe_in_parts(FeatureMonitor(SETTINGS, QUALITY), events, ())
    cut, findings = observe_in_parts(FeatureMonitor(SETTINGS, QUALITY), events, at)
    assert findings == expected
    assert cut.snapshot() == whole.snapshot()
    again = FeatureMonitor(SETTINGS, QUALITY)
    again.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(cut.snapshot())))
    rest = predictions(stream(list(COLUMNS), 600, 3, 1500))
    assert again.observe(rest) == whole.observe(rest)
    assert again.snapshot() == whole.snapshot()
