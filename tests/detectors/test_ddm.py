"""What DDM and EDDM promise beyond the common laws."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from river import drift

from detectors.protocol import Level
from detectors.registry import make
from tests.detectors.strategies import bernoulli, feed, streams


@settings(max_examples=40, deadline=None)
@given(
    values=streams("bernoulli", most=900),
    warm=st.integers(1, 80),
    memory=st.integers(50, 200),
    floor=st.floats(0.001, 0.3),
)
def test_the_statistic_is_what_its_definition_says_over_the_stored_stream(values, warm, memory, floor):
    detector = make("ddm", warm_start=warm, memory=memory, floor=floor, drift_level=1e6)
    lowest = None
    for count in range(1, len(values) + 1):
        detector.update(values[count - 1])
        if count < warm:
            continue
        rate = values[:count].sum() / count
        height = rate + math.sqrt(rate * (1 - rate) / count)
        if lowest is None or height <= lowest[0]:
            lowest = (height, count, min(max(rate, floor), 1 - floor))
        recent = values[max(0, (count - 1) // memory - 1) * memory : count]
        chance = math.sqrt(lowest[2] * (1 - lowest[2]) * (1 / lowest[1] + 1 / len(recent)))
        assert math.isclose(detector.verdict().statistic, (recent.mean() - lowest[2]) / chance, abs_tol=1e-9)


def test_one_error_after_four_thousand_right_ones_is_no_drift_but_it_is_to_river():
    values = np.zeros(4_001)
    values[-1] = 1.0
    assert feed(make("ddm"), values) == []
    assert feed(make("ddm", compat="river"), values) == [4_000]
    assert feed(make("river:DDM"), values) == [4_000]


def test_a_small_rise_after_a_long_stable_time_is_not_missed():
    """The running mean over 40,000 values hardly moves: the paper's rule needs thousands of values, ours the memory."""
    ours, theirs = [], []
    for seed in range(10):
        values = bernoulli(seed, (0.1, 40_000), (0.15, 4_000))
        ours.append(any(40_000 <= index < 42_000 for index in feed(make("ddm"), values)))
        classic = make("ddm", compat="river", warm_start=2_000)
        theirs.append(any(40_000 <= index < 42_000 for index in feed(classic, values)))
    assert sum(ours) >= 8
    assert sum(theirs) <= sum(ours)


def test_ddm_leaves_a_hundred_thousand_stable_events_nearly_in_peace():
    ours = sum(len(feed(make("ddm"), bernoulli(seed, (0.1, 25_000)))) for seed in range(4))
    theirs = sum(len(feed(make("ddm", compat="river"), bernoulli(seed, (0.1, 25_000)))) for seed in range(4))
    # One is expected of ours, and four of one Poisson stream in fifty.
    assert ours <= 3
    assert theirs > ours


def test_the_papers_eddm_alarms_in_most_stable_streams_and_ours_in_few():
    streams_of_5000 = [bernoulli(seed, (0.1, 5_000)) for seed in range(20)]
    ours = sum(bool(feed(make("eddm"), values)) for values in streams_of_5000)
    theirs = sum(bool(feed(make("eddm", compat="river"), values)) for values in streams_of_5000)
    assert ours <= 2
    assert theirs >= 15


@settings(max_examples=30, deadline=None)
@given(values=streams("bernoulli", most=900))
def test_the_width_of_the_distances_is_exact_where_rivers_rounds(values):
    river, detector = drift.binary.EDDM(), make("eddm", compat="river")
    for value in values.tolist():
        river.update(int(value))
        if detector.update(value) is Level.DRIFT:
            break
    body = detector.snapshot()["body"]
    assert body["last_error"] == river._last_error
    assert math.isclose(body["widest"], max(river._p2s_prime_max, 0.0), rel_tol=1e-9)
