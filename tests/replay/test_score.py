"""What a backtest says: detections, false alarms, baselines, what training costs and saves."""

import datetime as dt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.outputs import Alert, Evidence, FeatureContribution, FineTuneTrigger
from service.core.columns import Outcomes, Predictions
from service.core.settings import CoreSettings
from service.core.version_batch import VersionBatch
from service.replay import timeline as timeline_module
from service.replay.cost import FineTunes, cost_of
from service.replay.digest import Digest
from service.replay.score import ModelScore, score
from service.replay.timeline import Losses, Timeline
from service.replay.truth import Happening, Truth, TruthError, not_scored, read_truth, windows_of

STEP_MS = 1000


def predictions(count: int, start: int = 0) -> Predictions:
    numbers = np.arange(start, start + count)
    nothing = np.full(count, np.nan)
    times = numbers * STEP_MS
    return Predictions(
        numbers, times, times, numbers, nothing, nothing, nothing, np.zeros(count, bool), np.ones(count), [None] * count
    )


def outcomes(wrong: np.ndarray, start: int = 0) -> Outcomes:
    numbers = np.arange(start, start + len(wrong))
    times = numbers * STEP_MS
    zero = np.zeros(len(wrong))
    return Outcomes(
        numbers,
        times,
        times,
        times,
        numbers,
        numbers,
        zero,
        wrong.astype(float),
        zero,
        zero + 1,
        numbers,
        [None] * len(wrong),
    )


def ruler(events: int, wrong: np.ndarray | None = None, cut: int = 10**9) -> Timeline:
    made = Timeline()
    for start in range(0, events, cut):
        count = min(cut, events - start)
        batch = VersionBatch(predictions=predictions(count, start))
        if wrong is not None:
            batch = batch._replace(outcomes=outcomes(wrong[start : start + count], start))
        made.add(batch, "multiclass")
    return made


def alert(
    event: int,
    kind: str = "concept_drift",
    number: int = 0,
    state: str = "firing",
    features: str = "",
    *,
    further: bool = False,
) -> Alert:
    moved = tuple(FeatureContribution(feature=name, statistic=2.0, threshold=1.0) for name in features)
    evidence = Evidence(detector="d", subject="features", statistic=2.0, threshold=1.0, sample_count=9, features=moved)
    return Alert(
        alert_id=f"{kind}-{event}-{state}",
        incident_id=f"{kind}-{number or event}",
        fingerprint=kind,
        alertname="A",
        model_id="m",
        model_version="1",
        kind=kind,
        state=state,
        severity="warning",
        starts_at_ms=event * STEP_MS,
        event_time_ms=event * STEP_MS,
        summary="",
        advice="",
        evidence=(evidence,),
        notify=number == 0 or further,
    )


def trigger(event: int, state: str = "requested", **fields: object) -> FineTuneTrigger:
    common = {"model_id": "m", "model_version": "1", "mode": "stateful", "mode_reason": "", "reason": ""}
    return FineTuneTrigger(
        trigger_id="t", state=state, event_time_ms=event * STEP_MS, **(common | {"labels": 250} | fields)
    )


def scored(outputs: list, truth: Truth | None, timeline: Timeline) -> ModelScore:
    digest = Digest()
    digest.take(outputs)
    (model,) = score(digest, {"m": timeline}, truth, CoreSettings())
    return model


def drifts(*events: int, tolerance: int = 100, **fields: object) -> Truth:
    return Truth(tolerance_events=tolerance, happenings=tuple(Happening(event=event, **fields) for event in events))


def test_a_further_change_of_the_loss_within_its_incident_is_an_alarm_of_its_own() -> None:
    outputs = [alert(1030), alert(1500, number=1030), alert(2030, number=1030, further=True)]
    own = scored(outputs, drifts(1000, 2000), ruler(5000)).tallies[0]
    assert (own.alarms, own.detected, own.missed, own.false_alarms) == (2, 2, 0, 0)


def test_an_incident_within_the_tolerance_detects_once_and_everything_else_is_false() -> None:
    outputs = [alert(50), alert(1030), alert(1031, "data_drift"), alert(1040, number=1030), alert(1100), alert(3000)]
    model = scored(outputs, drifts(1000, 2000), ruler(5000))
    own = model.tallies[0]
    assert (own.alarms, own.detected, own.missed, own.false_alarms) == (5, 1, 1, 3)
    assert own.mean_delay_events == 30
    assert own.false_per_10k_events == pytest.approx(6.0)
    assert own.false_per_day == pytest.approx(3 / (4999 / 86_400))
    assert model.false_by_kind == {"concept_drift": 3}
    first, second = model.detections
    assert (first.detected, first.delay_ms, first.kind, first.incidents) == (True, 30_000, "concept_drift", 2)
    assert (second.detected, second.delay_events) == (False, None)


def test_an_open_incident_that_names_further_features_is_an_alarm_and_one_that_repeats_itself_is_none() -> None:
    kind = "data_drift"
    outputs = [
        alert(50, kind, features="a"),
        alert(900, kind, 50, features="a"),
        alert(1020, kind, 50, features="ab"),
        alert(1030, kind, 50, features="b"),
    ]
    model = scored(outputs, drifts(1000), ruler(5000))
    own = model.tallies[0]
    assert (own.alarms, own.detected, own.mean_delay_events, own.false_alarms) == (2, 1, 20, 1)
    assert model.incidents == {kind: 1}


def test_a_drift_of_a_kind_is_detected_by_alerts_of_that_kind_alone() -> None:
    outputs = [alert(1010), alert(1050, "data_drift")]
    model = scored(outputs, drifts(1000, kinds=("data_drift",)), ruler(5000))
    assert model.detections[0].delay_events == 50
    assert model.tallies[0].false_alarms == 1


def test_an_incident_window_counts_to_its_end_and_a_drift_point_to_the_next_one() -> None:
    timeline = ruler(5000)
    truth = Truth(
        tolerance_events=1000,
        happenings=(
            Happening(event=1000),
            Happening(event=1400),
            Happening(time=3_000_000, end_time=dt.datetime(1970, 1, 1, 1, tzinfo=dt.UTC)),
            Happening(event=9000),
            Happening(event=10, model_id="other"),
        ),
    )
    windows = windows_of(truth, "m", timeline)
    assert [(window.start, window.end, window.lasts) for window in windows] == [
        (1000, 1400, False),
        (1400, 2400, False),
        (3000, 3600, True),
    ]


def test_a_happening_that_cannot_be_scored_is_told_and_not_only_left_out() -> None:
    timelines = {"m": ruler(5000), "n": ruler(100)}
    truth = Truth(
        happenings=(
            Happening(event=50),
            Happening(event=4000),
            Happening(event=9000, model_id="m", name="campaign"),
            Happening(time=3_000_000, end_time=3_600_000, model_id="n"),
            Happening(event=10, model_id="other"),
        )
    )
    assert not_scored(truth, timelines) == [
        "a drift at event 4,000 is not scored for n: it comes after its 100 events, and events are counted per model",
        "campaign (event 9,000) is not scored for m: it comes after its 5,000 events, and events are counted per model",
        "an incident from 3000000 is not scored for n: it comes after its 100 events",
        "a drift at event 10 is not scored: no event is of the model other",
    ]
    scored_in = sum(len(windows_of(truth, name, timeline)) for name, timeline in timelines.items())
    assert scored_in == 3


def test_without_a_truth_nothing_is_called_false_and_with_an_empty_one_everything_is() -> None:
    assert scored([alert(10)], None, ruler(100)).tallies[0].false_alarms is None
    assert scored([alert(10)], Truth(), ruler(100)).tallies[0].false_alarms == 1


def test_the_baselines_are_what_they_say() -> None:
    model = scored([alert(1010), alert(4000)], drifts(1000, 2000), ruler(5000))
    tallies = {tally.policy: tally for tally in model.tallies}
    always, never, schedule = tallies["always"], tallies["never"], tallies["schedule"]
    assert (always.detected, always.false_alarms, always.mean_delay_events) == (2, 5000 - 200, 0)
    assert (never.detected, never.missed, never.false_alarms) == (0, 2, 0)
    # two alarms, evenly: at events 1,666 and 3,333
    assert (schedule.alarms, schedule.detected, schedule.false_alarms) == (2, 0, 2)


@given(
    events=st.integers(10, 400),
    starts=st.lists(st.integers(0, 399), max_size=5, unique=True),
    tolerance=st.integers(1, 80),
    alarms=st.integers(0, 40),
)
def test_a_blind_policy_is_tallied_as_if_each_of_its_alarms_were_looked_at(
    events: int, starts: list[int], tolerance: int, alarms: int
) -> None:
    timeline = ruler(events)
    truth = drifts(*starts, tolerance=tolerance)
    windows = windows_of(truth, "m", timeline)
    model = scored([alert(event, number=event + 1) for event in range(min(alarms, events))], truth, timeline)
    for tally in model.tallies[1:]:
        if tally.policy == "always":
            made = list(range(events))
        else:
            made = [(number + 1) * events // (tally.alarms + 1) for number in range(tally.alarms)]
        inside = [event for event in made if any(window.start <= event < window.end for window in windows)]
        hit = [window for window in windows if any(window.start <= event < window.end for event in made)]
        assert tally.false_alarms == len(made) - len(inside)
        assert tally.detected == len(hit)


# Cost -----------------------------------------------------------------------------------------------------------------


def test_a_fine_tune_saves_the_loss_above_the_usual_from_there_to_the_next_change() -> None:
    wrong = np.zeros(3000)
    wrong[::10] = 1  # usual: .1
    wrong[1000:2000:2] = 1  # then .5, and one in ten as well at even places: still .5
    timeline = ruler(3000, wrong)
    requested = trigger(1300, window_start_ms=1_000_000, loss_before=0.1, loss_during=0.5)
    model = scored(
        [requested, trigger(1400, "completed", loss_after=0.12, verified_better=True)], drifts(1000), timeline
    )
    cost = model.tallies[0].cost
    assert (cost.fine_tunes, cost.labels_per_fine_tune) == (1, 250)
    # 1,301 to 1,999: 699 outcomes at about .5 - .1, and none above the usual later
    assert cost.loss_saved == pytest.approx(0.4 * 699, abs=1.5)
    assert cost.loss_excess == pytest.approx(0.4 * 1000, abs=1.5)
    (told,) = model.triggers
    assert (told.loss_after, told.ended, told.verified_better) == (0.12, "completed", True)
    assert {tally.policy: tally.cost.loss_saved for tally in model.tallies}["never"] == 0


def test_a_fine_tune_with_too_few_labels_saves_nothing() -> None:
    wrong = np.concatenate([np.zeros(500), np.ones(500)])
    losses = ruler(1000, wrong).losses
    few = cost_of(FineTunes([550_000], [500_000]), losses, 200)
    enough = cost_of(FineTunes([550_000, 750_000], [500_000]), losses, 200)
    assert few.loss_saved == 0
    assert enough.loss_saved == 249
    assert enough.loss_excess == few.loss_excess == 500


def test_where_no_change_is_known_nothing_is_estimated() -> None:
    cost = cost_of(FineTunes([5000], []), ruler(10, np.ones(10)).losses, 1)
    assert (cost.fine_tunes, cost.loss_saved) == (1, None)


# The ruler ------------------------------------------------------------------------------------------------------------


@given(events=st.integers(1, 500), cut=st.integers(1, 100), limit=st.integers(5, 50))
def test_a_ruler_stays_within_its_limit_and_a_mark_off_at_most(events: int, cut: int, limit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timeline_module, "MAX_POINTS", limit)
        wrong = (np.arange(events) % 3 == 0).astype(float)
        timeline = ruler(events, wrong, cut)
        losses: Losses = timeline.losses
        assert len(losses.outcomes) <= limit
        assert losses.outcomes.sum() == events
        assert losses.total.sum() == wrong.sum()
        stride = 2 ** max(0, int(np.ceil(np.log2(events / limit))) + 1)
        for event in (0, events // 2, events - 1):
            assert abs(timeline.event_at(event * STEP_MS) - (event + 1)) <= stride


def test_a_ruler_is_exact_below_its_limit_wherever_batches_are_cut() -> None:
    timeline = ruler(1000, np.zeros(1000), cut=7)
    assert [timeline.event_at(time) for time in (-1, 0, 999, 1000, 10**9)] == [0, 1, 1, 2, 1000]
    assert timeline.time_of(10) == 10_000
    assert timeline.time_of(5000) == 999_000


# Files of truths ------------------------------------------------------------------------------------------------------


def test_a_truth_is_read_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "truth.yaml"
    path.write_text(
        "tolerance_events: 250\n"
        "happenings:\n"
        "- {event: 17424, name: market, kinds: [data_drift]}\n"
        "- {time: 2026-05-01T00:00:00Z, end_time: 1777600000000, model_id: m}\n"
    )
    truth = read_truth(path)
    assert truth.tolerance_events == 250
    assert [item.event for item in truth.happenings] == [17424, None]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("happenings: [{event: 1, time: 2}]", "exactly one of event and time"),
        ("happenings: [{event: -1}]", ">= 0"),
        ("happenings: [{event: 1, kind: x}]", "unknown field"),
        ("tolerance_events: 0", ">= 1"),
        ("{", "expected"),
    ],
)
def test_a_truth_that_cannot_be_used_names_file_and_fault(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "truth.yaml"
    path.write_text(text)
    with pytest.raises(TruthError, match=said) as caught:
        read_truth(path)
    assert str(path) in str(caught.value)
    with pytest.raises(TruthError, match="No such file"):
        read_truth(tmp_path / "absent.yaml")
