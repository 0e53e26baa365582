"""Laws of the latency monitor."""

import itertools

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.protocol import Level, StateError
from service.core.inputs.latency import LatencyMonitor
from service.core.settings import LatencySettings
from tests.core.inputs.streams import times

SETTINGS = LatencySettings(p95_above_ms=100.0, error_rate_above=0.05, block_events=50)


def stream(seed, count=600):
    rng = np.random.default_rng(seed)
    level = np.repeat(rng.choice([20.0, 200.0], count // 30 + 1), 30)[:count]
    latency = np.where(rng.random(count) < 0.3, np.nan, rng.exponential(level))
    return latency, rng.random(count) < np.where(level > 100, 0.2, 0.0)


def run(latency, error, at=(), restart=False, settings=SETTINGS):
    monitor = LatencyMonitor(settings)
    bounds = sorted({0, len(latency), *(min(cut, len(latency)) for cut in at)})
    findings = []
    for start, end in itertools.pairwise(bounds):
        findings += monitor.observe(latency[start:end], error[start:end], times(end - start, start))
        if restart:
            state = msgspec.msgpack.decode(msgspec.msgpack.encode(monitor.snapshot()))
            monitor = LatencyMonitor(settings)
            monitor.restore(state)
    return monitor, findings


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(1, 600), max_size=6), st.booleans())
def test_cuts_and_restarts_change_neither_findings_nor_state(seed, cuts, restart):
    latency, error = stream(seed)
    whole, expected = run(latency, error)
    cut, findings = run(latency, error, cuts, restart)
    assert findings == expected
    assert cut.percentiles() == whole.percentiles()
    assert cut.snapshot() == whole.snapshot()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_findings_are_where_a_plain_loop_over_blocks_finds_the_rule_change(seed):
    latency, error = stream(seed)
    _, findings = run(latency, error)
    expected, active = [], {"latency": False, "error_rate": False}
    for end in range(50, len(latency) + 1, 50):
        known = latency[end - 50 : end][~np.isnan(latency[end - 50 : end])]
        above = {"error_rate": error[end - 50 : end].mean() > 0.05}
        if len(known) >= 20:
            above["latency"] = np.percentile(known, 95) > 100
        for subject in ("latency", "error_rate"):
            if subject in above and above[subject] != active[subject]:
                active[subject] = bool(above[subject])
                expected.append((2 * (end - 1), subject, Level.DRIFT if above[subject] else Level.STABLE))
    assert [(finding.sequence, finding.subject, finding.level) for finding in findings] == expected


def test_a_block_with_hardly_any_latencies_says_nothing_about_them():
    latency = np.full(100, np.nan)
    latency[:10] = 1e6
    assert run(latency, np.zeros(100, bool))[1] == []


def test_limits_that_are_null_are_never_crossed():
    none = LatencySettings(p95_above_ms=None, error_rate_above=None, block_events=50)
    assert run(np.full(100, 1e9), np.ones(100, bool), settings=none)[1] == []


def test_percentiles_begin_anew_with_an_interval_and_count_each_event_once():
    monitor, _ = run(np.full(70, 10.0), np.zeros(70, bool))
    assert monitor.percentiles()["p50"] == pytest.approx(10.0, rel=0.01)
    monitor.begin_interval()
    assert monitor.percentiles()["p50"] is None
    monitor.observe(np.full(70, 1000.0), np.zeros(70, bool), times(70, 70))
    assert monitor.percentiles()["p50"] == pytest.approx(1000.0, rel=0.01)
    before = monitor.snapshot()
    monitor.percentiles()
    assert monitor.snapshot() == before  # who only looks leaves no trace


def test_a_snapshot_of_a_newer_version_is_refused():
    monitor = LatencyMonitor(SETTINGS)
    with pytest.raises(StateError, match="version"):
        monitor.restore(monitor.snapshot() | {"version": 2})
