"""Labels that do not come are told within the promised bound, and steady ones raise nothing, however they jitter."""

from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.findings import Finding, Level
from service.core.label_evidence import needed
from service.core.label_flow import FEW, LabelFlow, Unmet
from service.core.settings import LabelSettings

TICK_MS = 20_000
START_MS = 1_790_000_000_000
HORIZON_MS = 7 * 86_400_000
Int = np.ndarray[Any, np.dtype[np.int64]]


class Stream(NamedTuple):
    """Predictions by time, and when the label of each comes: -1, never."""

    made_ms: Int
    label_ms: Int


def run(
    stream: Stream,
    horizon_ms: int = HORIZON_MS,
    *,
    label_settings: LabelSettings | None = None,
    unmatched_ms: Int | None = None,
    seed: int = 0,
    restarts: bool = False,
) -> list[Finding]:
    """Let the stream pass, tick by tick, in stretches cut at random, and give what is found."""
    chosen = label_settings or LabelSettings()
    flow, rng, found = LabelFlow(chosen, horizon_ms), np.random.default_rng(seed), []
    has = stream.label_ms >= 0
    left = stream.made_ms[~has] + horizon_ms
    parts = [stream.made_ms, stream.label_ms[has], [] if unmatched_ms is None else unmatched_ms, left]
    times, kinds = np.concatenate(parts), np.repeat(range(4), [len(part) for part in parts])
    of = np.zeros(len(times), dtype=np.int64)
    of[kinds == 0], of[kinds == 1] = stream.made_ms, stream.made_ms[has]
    order = np.lexsort((kinds, times))
    times, kinds, of = times[order].astype(np.int64), kinds[order], of[order]
    ticks = times // TICK_MS
    row = 0
    while row < len(times):
        if row and ticks[row] > ticks[row - 1] and flow.due_ms() <= ticks[row] * TICK_MS:
            found += flow.check(int(ticks[row] * TICK_MS), row)
            if restarts:
                plain = msgspec.msgpack.decode(msgspec.msgpack.encode(flow.snapshot()))
                flow = LabelFlow(chosen, horizon_ms)
                flow.restore(plain)
        same = int(np.searchsorted(ticks, ticks[row], side="right"))
        stop = min(same, row + int(rng.integers(1, 200)))
        part = slice(row, stop)
        new, joined, unmet, gone = (np.flatnonzero(kinds[part] == kind) + row for kind in range(4))
        if len(new):
            flow.note_predictions(of[new], times[new], (int(new[0]), f"p{new[0]}"))
        flow.note_labels(of[joined], times[joined], times[joined])
        flow.note_gone(len(gone))
        if len(unmet):
            flow.note_unmatched(Unmet(unmet, times[unmet], [f"x{number}" for number in unmet.tolist()]))
        row = stop
    return found


def steady(seed: int, count: int, step_ms: int, delay: str, usual_ms: int, coverage: float) -> Stream:
    """Predictions at random moments, of which a share gets a label after a delay of the given kind."""
    rng = np.random.default_rng(seed)
    made = START_MS + np.cumsum(rng.exponential(step_ms, count)).astype(np.int64)
    match delay:
        case "constant":
            delays = np.full(count, usual_ms, dtype=np.int64)
        case "jitter":
            delays = (usual_ms * rng.uniform(0.2, 1.8, count)).astype(np.int64)
        case "exponential":
            delays = rng.exponential(usual_ms, count).astype(np.int64)
        case "heavy":
            delays = (usual_ms * rng.lognormal(0.0, 1.5, count)).astype(np.int64)
        case _:  # all of a while at once
            period = 2 * usual_ms
            delays = (made // period + 1) * period - made
    labelled = rng.random(count) < coverage
    return Stream(made, np.where(labelled, made + delays, -1))


def cut_off(stream: Stream, at_ms: int, share: float = 1.0, seed: int = 0) -> Stream:
    """Let no label (or a share of them none) come from a moment on."""
    lost = (stream.label_ms >= at_ms) & (np.random.default_rng(seed).random(len(stream.label_ms)) < share)
    return Stream(stream.made_ms, np.where(lost, -1, stream.label_ms))


DELAYS = st.sampled_from(["constant", "jitter", "exponential", "heavy", "batches"])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), DELAYS, st.sampled_from([0.05, 0.3, 0.9, 1.0]), st.sampled_from([20, 300, 2_000]))
def test_steady_labels_raise_nothing(seed: int, delay: str, coverage: float, usual_steps: int) -> None:
    step_ms = 2_000
    usual_ms = usual_steps * step_ms
    stream = steady(seed, 8_000, step_ms, delay, usual_ms, coverage)
    assert run(stream, horizon_ms=100 * usual_ms, seed=seed) == []


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["constant", "jitter", "exponential", "batches"]), st.integers(60, 600))
def test_labels_that_stop_are_told_within_two_usual_delays(seed: int, delay: str, usual_steps: int) -> None:
    step_ms = 2_000
    stream = steady(seed, 12_000, step_ms, delay, usual_steps * step_ms, 1.0)
    stop_ms = int(stream.made_ms[7_000])
    (told, *rest) = run(cut_off(stream, stop_ms), horizon_ms=100 * usual_steps * step_ms, seed=seed)
    came = (stream.label_ms >= 0) & (stream.label_ms < stop_ms)
    usual_ms = np.quantile((stream.label_ms - stream.made_ms)[came], 0.95)
    last_ms = int(stream.label_ms[came].max())
    assert told.level is Level.DRIFT
    # The estimate of the usual delay is that of 10,000 labels, in cells of 1 %, and decisions fall at ticks.
    assert told.time_ms - last_ms <= 2 * 1.06 * usual_ms + needed(1.0) * step_ms + 2 * TICK_MS
    assert told.time_ms >= stop_ms
    assert {finding.level for finding in rest} <= {Level.DRIFT, Level.STABLE}


@pytest.mark.parametrize("coverage", [0.1, 0.3, 1.0])
def test_the_alarm_comes_once_and_says_that_labels_stopped(coverage: float) -> None:
    stream = steady(3, 20_000, 1_000, "jitter", 600_000, coverage)
    (told,) = run(cut_off(stream, int(stream.made_ms[12_000])))
    assert (told.subject, told.severity, told.kind) == ("labels_stopped", "warning", "operational")
    assert "labels stopped: the last of" in told.summary
    assert "95 % usually come within" in told.summary


def test_it_is_over_when_labels_come_again() -> None:
    stream = steady(4, 20_000, 1_000, "jitter", 600_000, 0.9)
    first, last = int(stream.made_ms[8_000]), int(stream.made_ms[11_000])
    pause = Stream(stream.made_ms, np.where((stream.label_ms >= first) & (stream.label_ms < last), -1, stream.label_ms))
    told, over = run(pause)
    assert (told.subject, over.subject) == ("labels_stopped", "labels_stopped")
    assert (told.level, over.level) == (Level.DRIFT, Level.STABLE)
    assert over.resolution == "labels come again"
    assert over.time_ms <= last + 2_000_000


def test_a_part_that_does_not_come_is_told_with_both_shares() -> None:
    stream = steady(5, 20_000, 1_000, "jitter", 600_000, 0.9)
    (told,) = run(cut_off(stream, int(stream.made_ms[10_000]), share=0.8))
    assert told.subject == "labels_fewer"
    assert "% is usual" in told.summary
    assert told.evidence[0].before == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("horizon_ms", [3_600_000, HORIZON_MS])
def test_none_ever_is_told_within_the_horizon(horizon_ms: int) -> None:
    step_ms = horizon_ms // 2_000
    made = START_MS + np.arange(4_000) * step_ms
    (told,) = run(Stream(made, np.full(4_000, -1)), horizon_ms)
    assert told.subject == "labels_absent"
    assert told.time_ms - START_MS <= horizon_ms + TICK_MS + FEW * step_ms
    assert "no label has come for any of" in told.summary


def test_none_ever_is_told_after_a_stated_delay_and_never_where_none_are_expected() -> None:
    silent = Stream(START_MS + np.arange(4_000) * 1_000, np.full(4_000, -1))
    (told,) = run(silent, label_settings=LabelSettings(usual_delay_ms=600_000))
    assert told.time_ms - START_MS <= 2 * 600_000
    assert run(silent, label_settings=LabelSettings(usual_delay_ms=600_000, expected=False)) == []


def test_labels_that_meet_no_prediction_are_told_with_an_identifier_of_each_side() -> None:
    silent = Stream(START_MS + np.arange(8_000) * 1_000, np.full(8_000, -1))
    (told,) = run(silent, unmatched_ms=silent.made_ms[:5_000] + 60_000)
    assert told.subject == "labels_unmatched"
    assert '"x' in told.summary
    assert '"p0"' in told.summary
    assert told.time_ms - START_MS <= 60_000 + 3_600_000 + TICK_MS


def test_labels_whose_identifiers_change_are_told_as_such_and_not_as_stopped() -> None:
    stream = steady(6, 12_000, 1_000, "constant", 300_000, 1.0)
    stop_ms = int(stream.made_ms[6_000])
    changed = stream.label_ms[stream.label_ms >= stop_ms]
    found = run(cut_off(stream, stop_ms), unmatched_ms=changed)
    assert [finding.subject for finding in found if finding.level is Level.DRIFT] == ["labels_unmatched"]
    assert found[0].time_ms - stop_ms <= 2 * 300_000 + TICK_MS


def test_labels_behind_the_horizon_are_told_with_how_late_they_are() -> None:
    flow = LabelFlow(LabelSettings(), 3_600_000)
    made = START_MS + np.arange(4_000) * 1_000
    flow.note_predictions(made, made, (0, "p0"))
    flow.note_gone(FEW)
    (absent,) = flow.check(START_MS + 3_600_000, 1)
    late = Unmet(np.arange(FEW), made[:FEW] + 7_200_000, [f"p{number}" for number in range(FEW)])
    flow.note_late(late, made[:FEW])
    over, told = flow.check(START_MS + 7_300_000, 2)
    assert (absent.subject, over.subject, told.subject) == ("labels_absent", "labels_absent", "labels_late")
    assert "labels come too late: 20 since" in told.summary
    assert "up to 2 h after their predictions" in told.summary


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 100), st.integers(0, 100))
def test_cuts_and_restarts_change_nothing(seed: int, first: int, second: int) -> None:
    stream = steady(seed, 3_000, 1_000, "jitter", 100_000, 0.8)
    stopped = cut_off(stream, int(stream.made_ms[2_000]), share=0.9, seed=seed)
    found = run(stopped, seed=first)
    assert found == run(stopped, seed=second, restarts=True)
    assert found


def test_the_state_is_bounded() -> None:
    flow = LabelFlow(LabelSettings(), HORIZON_MS)
    for hour in range(24 * 60):
        made = START_MS + hour * 3_600_000 + np.arange(100) * 36_000
        flow.note_predictions(made, made, (hour, "p"))
        flow.check(int(made[-1]), hour)
    assert len(msgspec.msgpack.encode(flow.snapshot())) < 10_000
