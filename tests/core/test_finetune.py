"""The life of a fine-tune trigger, one law at a time."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from detectors.protocol import Level
from schemas.events import FineTuneRequest, FineTuneStatus
from schemas.outputs import FineTuneTrigger, LabelCoverage, OffsetRange
from service.core.alerting import AlertPolicy
from service.core.findings import Finding
from service.core.finetuning import (
    MAX_CAUSES,
    MAX_ENDED,
    TRANSITIONS,
    Decision,
    FineTunePolicy,
    LossSample,
    Moment,
    Phase,
    Signal,
    TrainingWindow,
    judge,
)
from service.core.finetuning.verdict import student_quantile
from service.core.settings import AlertSettings, FineTuneSettings
from service.core.state import CorruptStateError, NewerStateError

PAGE = Path(__file__).parents[2] / "docs" / "alerts-and-triggers.md"
SUBJECTS = {"concept_drift": "error", "performance": "accuracy@last_1000", "data_drift": "features"}
DRIFTED = LossSample(count=200, mean=0.4, variance=0.24)
BETTER = LossSample(count=200, mean=0.1, variance=0.09)
SAME = LossSample(count=200, mean=0.39, variance=0.24)
WINDOW = TrainingWindow(
    ranges=(
        OffsetRange(topic="predictions", partition=0, start_offset=1000, end_offset=1500),
        OffsetRange(topic="labels", partition=0, start_offset=900, end_offset=1300),
    ),
    start_ms=100,
    end_ms=400,
    labels=200,
    coverage=LabelCoverage(predictions=500, outcomes=200, ratio=0.4),
    before=LossSample(count=500, mean=0.1, variance=0.09),
    during=DRIFTED,
)


@dataclass
class Loop:
    """Both policies, wired as a task wires them."""

    settings: FineTuneSettings = field(
        default_factory=lambda: FineTuneSettings(
            acknowledge_within_ms=100, complete_within_ms=1000, verify_within_ms=1000, cooldown_ms=50, max_attempts=3
        )
    )
    now: int = 0
    sequence: int = 0
    seen: list[FineTuneTrigger] = field(default_factory=list)
    alerts_seen: list = field(default_factory=list)

    def __post_init__(self) -> None:
        self.policy = FineTunePolicy("fraud", self.settings)
        self.alerts = AlertPolicy("fraud", AlertSettings(keep_firing_for_ms=0))

    @property
    def at(self) -> Moment:
        return Moment(self.sequence, self.now)

    def find(self, kind: str = "concept_drift", level: Level = Level.DRIFT, *, version: str = "1", change=1200):
        self.sequence += 1
        finding = Finding(
            sequence=self.sequence,
            time_ms=self.now,
            kind=kind,
            subject=SUBJECTS[kind],
            level=level,
            change_outcome=change,
        )
        return self.take_transitions(self.alerts.advance(finding, version))

    def take_transitions(self, transitions) -> list[FineTuneTrigger]:
        new = []
        for transition in transitions:
            self.alerts_seen.append(transition.alert)
            new += self.see(self.policy.incident(self.at, transition, outcomes=1300))
        return new

    def see(self, decision: Decision) -> list[FineTuneTrigger]:
        new = list(decision.triggers)
        self.seen += new
        for version, finding in decision.findings:
            new += self.take_transitions(self.alerts.advance(finding, version))
        if decision.superseded_by is not None:
            reason = f"superseded by {decision.superseded_by}"
            new += self.take_transitions(self.alerts.supersede(decision.superseded_by, reason, self.now))
        return new

    def send(self, window: TrainingWindow = WINDOW) -> FineTuneTrigger:
        (trigger,) = self.see(self.policy.labels_reached(self.at, window))
        return trigger

    def tick(self, time_ms: int):
        self.now = time_ms
        return self.see(self.policy.tick(self.at))

    def status(self, status: str, *, version: str | None = None, reason: str | None = None, trigger_id=None):
        event = FineTuneStatus(
            trigger_id=trigger_id or self.seen[-1].trigger_id,
            model_id="fraud",
            event_time_ms=self.now,
            status=status,
            model_version=version,
            reason=reason,
        )
        decision = self.policy.status(self.at, event)
        assert decision.refusal is None
        return self.see(decision)

    def verify(self, after: LossSample):
        return self.see(self.policy.verification(self.at, after))

    def deploy(self, version: str):
        return self.see(self.policy.deployed(self.at, version))

    def attempt(self, new_version: str, after: LossSample) -> FineTuneTrigger:
        """Go from the labels to the verdict."""
        self.send()
        self.status("completed", version=new_version)
        return self.verify(after)[0]

    def rest(self) -> None:
        self.tick(self.now + self.settings.cooldown_ms)


def states(triggers: list[FineTuneTrigger]) -> list[str]:
    return [trigger.state for trigger in triggers]


def drifting(**settings) -> Loop:
    loop = Loop(FineTuneSettings(**settings)) if settings else Loop()
    loop.find()
    return loop


# The table


def test_the_table_answers_every_signal_that_can_come_in_a_phase() -> None:
    open_phases = (Phase.REQUESTED, Phase.ACKNOWLEDGED, Phase.RUNNING, Phase.VERIFYING)
    always = set(Signal) - {Signal.SEND, Signal.VERIFIED}
    expected = {(phase, signal) for phase in open_phases for signal in always}
    expected |= {(Phase.IDLE, Signal.SEND), (Phase.COOLDOWN, Signal.SEND), (Phase.COOLDOWN, Signal.DUE)}
    expected |= {(Phase.VERIFYING, Signal.VERIFIED)}
    assert set(TRANSITIONS) == expected


def test_the_page_lists_every_row_of_the_table() -> None:
    page = PAGE.read_text()
    for (phase, signal), (after, effect) in TRANSITIONS.items():
        assert f"| {phase} | {signal} | {after} | {effect} |" in page


# From an incident to a trigger


def test_an_incident_waits_for_enough_labels_since_its_change_point() -> None:
    loop = drifting()
    target = loop.policy.label_target()
    assert target is not None
    assert (target.model_version, target.change_outcome, target.outcome_number) == ("1", 1200, 1400)
    assert loop.seen == []


def test_a_trigger_names_version_mode_evidence_window_and_losses() -> None:
    loop = drifting()
    loop.now = 400
    trigger = loop.send()
    (alert,) = loop.alerts_seen
    assert (trigger.state, trigger.model_version, trigger.mode, trigger.attempt) == ("requested", "1", "stateful", 1)
    assert trigger.incident_id == alert.incident_id
    assert (trigger.severity, trigger.evidence) == (alert.severity, alert.evidence)
    assert (trigger.window, trigger.labels, trigger.label_coverage) == (WINDOW.ranges, 200, WINDOW.coverage)
    assert (trigger.loss_before, trigger.loss_during) == (0.1, 0.4)
    assert (trigger.event_time_ms, trigger.expires_at_ms) == (400, 500)
    assert alert.summary in trigger.reason


def test_a_cause_without_a_change_point_counts_labels_from_where_it_fired() -> None:
    loop = Loop()
    loop.find("performance", change=None)
    target = loop.policy.label_target()
    assert target is not None
    assert target.change_outcome == 1300


@pytest.mark.parametrize("settings", [{"enabled": False}, {"on": ("performance",)}])
def test_incidents_that_were_not_asked_for_send_nothing(settings: dict) -> None:
    assert drifting(**settings).policy.label_target() is None


def test_a_warning_level_incident_asks_for_nothing_until_it_drifts() -> None:
    loop = Loop()
    loop.alerts = AlertPolicy("fraud", AlertSettings(alert_on_warning=True))
    loop.find(level=Level.WARNING)
    assert loop.policy.label_target() is None
    loop.find(level=Level.DRIFT)
    assert loop.policy.label_target() is not None


def test_an_incident_that_ends_before_there_are_labels_sends_nothing() -> None:
    loop = drifting()
    loop.find(level=Level.STABLE)
    assert loop.policy.label_target() is None
    assert loop.seen == []


def test_two_incidents_of_one_version_share_one_trigger_and_its_attempts() -> None:
    loop = drifting()
    loop.find("performance", change=None)
    assert loop.attempt("2", SAME).attempt == 1
    loop.rest()
    assert loop.attempt("3", SAME).attempt == 2
    loop.find("concept_drift", Level.STABLE)
    loop.rest()
    last = loop.attempt("4", SAME)
    assert (last.attempt, last.incident_id) == (3, loop.alerts_seen[1].incident_id)


# From a trigger to its end


def test_a_trigger_that_helped_is_requested_running_verifying_and_completed() -> None:
    loop = drifting()
    loop.send()
    for now, status in ((10, "acknowledged"), (20, "running")):
        loop.now = now
        loop.status(status)
    loop.now = 30
    loop.status("completed", version="2")
    target = loop.policy.verification_target()
    assert target is not None
    assert (target.model_version, target.outcome_number) == ("2", 200)
    loop.now = 40
    loop.verify(BETTER)
    assert states(loop.seen) == ["requested", "running", "verifying", "completed"]
    assert len({trigger.trigger_id for trigger in loop.seen}) == 1
    last = loop.seen[-1]
    assert (last.verified_better, last.loss_after, last.new_model_version) == (True, 0.1, "2")
    assert (last.expires_at_ms, last.cooldown_until_ms) == (None, 90)
    assert "better" in last.reason
    assert loop.policy.label_target() is None


def test_a_better_version_ends_the_incidents_of_the_old_one() -> None:
    loop = drifting()
    loop.attempt("2", BETTER)
    assert [alert.state for alert in loop.alerts_seen] == ["firing", "resolved"]
    assert loop.alerts.open_incidents() == []
    loop.rest()
    assert loop.policy.label_target() is None


def test_no_trigger_is_sent_before_the_cooldown_is_over() -> None:
    loop = drifting()
    loop.attempt("2", BETTER)
    loop.find(version="2")
    assert loop.policy.label_target() is None
    loop.tick(49)
    assert loop.policy.label_target() is None
    loop.tick(50)
    target = loop.policy.label_target()
    assert target is not None
    assert target.model_version == "2"


def test_a_stateful_attempt_that_did_not_help_is_followed_by_a_stateless_one_that_says_why() -> None:
    loop = drifting()
    assert loop.attempt("2", SAME).verified_better is False
    loop.rest()
    trigger = loop.send()
    assert (trigger.mode, trigger.attempt, trigger.model_version) == ("stateless", 2, "2")
    assert "did not help: mean loss 0.39 on 200 outcomes against 0.4 on 200" in trigger.mode_reason


@pytest.mark.parametrize("mode", ["stateful", "stateless"])
def test_a_configured_mode_is_kept(mode: str) -> None:
    loop = drifting(mode=mode)
    loop.attempt("2", SAME)
    loop.rest()
    trigger = loop.send()
    assert trigger.mode == mode
    assert "configuration" in trigger.mode_reason


def test_a_pipeline_that_fails_is_tried_again_in_the_same_mode_until_people_must_act() -> None:
    loop = drifting()
    for attempt in (1, 2, 3):
        trigger = loop.send()
        assert (trigger.attempt, trigger.mode) == (attempt, "stateful")
        loop.status("failed", reason="out of memory")
        assert (loop.seen[-1].state, loop.seen[-1].reason) == ("failed", "out of memory")
        loop.rest()
    assert loop.policy.label_target() is None
    alert = loop.alerts_seen[-1]
    assert (alert.alertname, alert.state, alert.severity) == ("ModelFineTuningExhausted", "firing", "critical")
    assert "gave up after 3 attempts, the last one failed: out of memory" in alert.summary
    loop.find(level=Level.STABLE)
    assert [(a.alertname, a.state) for a in loop.alerts_seen[-2:]] == [
        ("ModelConceptDrift", "resolved"),
        ("ModelFineTuningExhausted", "resolved"),
    ]


def test_a_trigger_that_nobody_acknowledges_times_out_at_its_deadline() -> None:
    loop = drifting()
    loop.send()
    assert loop.policy.next_deadline_ms() == 100
    loop.tick(5000)
    assert (loop.seen[-1].state, loop.seen[-1].event_time_ms) == ("timed_out", 100)
    assert loop.seen[-1].reason == "not acknowledged in time"


def test_where_nobody_ever_answers_that_is_told_once_and_as_a_warning_and_not_that_attempts_gave_up() -> None:
    loop = drifting()
    for attempt in range(3):
        loop.send()
        loop.tick(loop.now + 5000 * (attempt + 1))
    told = [(a.alertname, a.state, a.severity) for a in loop.alerts_seen if a.kind == "operational"]
    assert told == [("ModelFineTuningUnanswered", "firing", "warning")]


def test_that_nobody_answers_is_over_with_the_first_answer() -> None:
    loop = drifting()
    loop.send()
    loop.tick(5000)
    loop.send()
    loop.status("acknowledged")
    told = [(a.alertname, a.state) for a in loop.alerts_seen if a.kind == "operational"]
    assert told == [("ModelFineTuningUnanswered", "firing"), ("ModelFineTuningUnanswered", "resolved")]


def test_an_acknowledged_trigger_has_the_time_of_a_run_and_then_times_out() -> None:
    loop = drifting()
    loop.send()
    loop.tick(50)
    assert loop.status("acknowledged") == []
    assert loop.policy.next_deadline_ms() == 1050
    assert loop.policy.open_trigger is not None
    assert loop.policy.open_trigger.expires_at_ms == 1050
    loop.tick(1050)
    assert (loop.seen[-1].state, loop.seen[-1].reason) == ("timed_out", "not completed in time")


def test_a_version_that_gets_no_labels_is_completed_undecided() -> None:
    loop = drifting()
    loop.send()
    loop.status("completed", version="2")
    loop.tick(10_000)
    assert (loop.seen[-1].state, loop.seen[-1].verified_better) == ("completed", None)
    assert "undecided" in loop.seen[-1].reason


def test_a_trigger_without_losses_of_the_drift_is_completed_undecided() -> None:
    loop = drifting()
    loop.send(TrainingWindow(ranges=(), start_ms=None, end_ms=None, labels=0))
    loop.status("completed", version="2")
    assert loop.verify(BETTER)[0].verified_better is None


def test_an_incident_that_ends_before_anybody_acknowledged_cancels_its_trigger() -> None:
    loop = drifting()
    loop.send()
    loop.find(level=Level.STABLE)
    assert loop.seen[-1].state == "cancelled"
    assert "resolved" in loop.seen[-1].reason


def test_an_incident_that_ends_after_somebody_acknowledged_does_not_stop_the_run() -> None:
    loop = drifting()
    loop.send()
    loop.status("acknowledged")
    loop.find(level=Level.STABLE)
    loop.status("completed", version="2")
    loop.verify(BETTER)
    assert states(loop.seen) == ["requested", "verifying", "completed"]


def test_a_trigger_goes_on_while_another_incident_of_its_version_is_open() -> None:
    loop = drifting()
    loop.find("performance", change=None)
    loop.send()
    loop.find("concept_drift", Level.STABLE)
    assert loop.policy.phase is Phase.REQUESTED
    loop.find("performance", Level.STABLE)
    assert loop.seen[-1].state == "cancelled"


# Out of order, repeated, wrong


def test_a_run_that_completes_before_it_was_seen_to_run_is_verified() -> None:
    loop = drifting()
    loop.send()
    loop.status("completed", version="2")
    assert loop.status("running") == []
    assert loop.status("acknowledged") == []
    assert loop.status("completed", version="3") == []
    assert loop.policy.counts["repeated_statuses"] == 3
    assert loop.verify(BETTER)[0].new_model_version == "2"


def test_a_report_that_comes_after_the_end_is_counted_and_changes_nothing() -> None:
    loop = drifting()
    loop.send()
    loop.tick(100)
    assert loop.status("completed", version="2") == []
    assert loop.policy.counts["late_statuses"] == 1
    assert loop.policy.phase is Phase.COOLDOWN


def test_a_pipeline_may_fail_after_it_completed() -> None:
    loop = drifting()
    loop.send()
    loop.status("completed", version="2")
    loop.status("failed", reason="roll-out refused")
    assert states(loop.seen) == ["requested", "verifying", "failed"]


def test_a_new_version_with_an_old_name_cannot_be_verified() -> None:
    loop = drifting()
    loop.send()
    loop.status("completed", version="1")
    assert states(loop.seen) == ["requested", "verifying", "completed"]
    assert loop.seen[-1].verified_better is None
    assert "cannot be told" in loop.seen[-1].reason


@pytest.mark.parametrize(
    ("model_id", "trigger_id", "reason", "path"),
    [("fraud", "nobody's", "unknown_trigger", "$.trigger_id"), ("churn", "nobody's", "wrong_model", "$.model_id")],
)
def test_a_report_that_fits_nothing_is_refused(model_id: str, trigger_id: str, reason: str, path: str) -> None:
    loop = drifting()
    loop.send()
    before = loop.policy.snapshot()["course"]
    event = FineTuneStatus(trigger_id=trigger_id, model_id=model_id, event_time_ms=0, status="running")
    decision = loop.policy.status(loop.at, event)
    assert decision.triggers == []
    assert decision.refusal is not None
    assert (decision.refusal.reason, decision.refusal.path) == (reason, path)
    assert decision.refusal.message.startswith(path)
    assert loop.policy.snapshot()["course"] == before


def test_calls_that_nothing_waits_for_are_errors_of_the_caller() -> None:
    loop = Loop()
    with pytest.raises(ValueError, match="label_target"):
        loop.policy.labels_reached(loop.at, WINDOW)
    with pytest.raises(ValueError, match="verification_target"):
        loop.policy.verification(loop.at, BETTER)


# Operators


def request(loop: Loop, mode: str = "stateless", model_id: str = "fraud") -> Decision:
    command = FineTuneRequest(model_id=model_id, event_time_ms=loop.now, mode=mode, reason="new season")
    return loop.policy.request(loop.at, command, "1", WINDOW)


def test_an_operator_waits_neither_for_labels_nor_for_the_cooldown_and_chooses_the_mode() -> None:
    loop = Loop()
    (first,) = loop.see(request(loop))
    assert (first.mode, first.reason, first.incident_id, first.attempt) == ("stateless", "new season", None, 1)
    loop.status("failed", reason="no")
    (second,) = loop.see(request(loop))
    assert second.trigger_id != first.trigger_id


def test_an_operator_is_refused_while_a_trigger_is_open_and_for_another_model() -> None:
    loop = Loop()
    loop.see(request(loop))
    assert request(loop).refusal.reason == "trigger_open"
    assert request(loop, model_id="churn").refusal.reason == "wrong_model"
    assert loop.policy.counts["refused"] == 2


def test_a_request_answers_the_open_incident_but_is_not_withdrawn_with_it() -> None:
    loop = drifting()
    (trigger,) = loop.see(request(loop))
    assert trigger.incident_id == loop.alerts_seen[0].incident_id
    loop.find(level=Level.STABLE)
    assert loop.policy.phase is Phase.REQUESTED


# Deployments


def test_another_version_cancels_a_trigger_that_nobody_has_acknowledged_and_ends_the_incident() -> None:
    loop = drifting()
    loop.send()
    loop.deploy("9")
    assert (loop.seen[-1].state, loop.seen[-1].reason) == ("cancelled", "version 9 was deployed meanwhile")
    assert loop.alerts.open_incidents() == []


def test_the_version_that_training_made_may_be_deployed_before_or_after_it_is_reported() -> None:
    loop = drifting()
    loop.send()
    loop.status("running")
    loop.deploy("2")
    loop.status("completed", version="2")
    loop.deploy("2")
    loop.verify(SAME)
    loop.deploy("2")
    assert [alert.state for alert in loop.alerts_seen] == ["firing"]
    loop.rest()
    assert loop.send().attempt == 2


def test_another_version_ends_a_verification_undecided() -> None:
    loop = drifting()
    loop.send()
    loop.status("completed", version="2")
    loop.deploy("3")
    assert (loop.seen[-1].state, loop.seen[-1].verified_better) == ("completed", None)
    assert loop.alerts.open_incidents() == []


def test_a_roll_back_ends_the_verification_and_the_next_attempt_continues_from_the_old_version() -> None:
    loop = drifting()
    loop.send()
    loop.status("completed", version="2")
    loop.deploy("1")
    assert loop.seen[-1].verified_better is None
    loop.rest()
    assert loop.send().model_version == "1"


def test_a_version_deployed_while_training_ran_ends_the_incident_when_training_fails() -> None:
    loop = drifting()
    loop.send()
    loop.status("running")
    loop.deploy("9")
    assert [alert.state for alert in loop.alerts_seen] == ["firing"]
    loop.status("failed", reason="no")
    assert [alert.state for alert in loop.alerts_seen] == ["firing", "resolved"]
    loop.rest()
    assert loop.policy.label_target() is None


# Bounds and state


def test_ended_triggers_are_forgotten_beyond_the_bound() -> None:
    loop = Loop(FineTuneSettings(cooldown_ms=0))
    for _ in range(MAX_ENDED + 1):
        loop.see(request(loop))
        loop.status("failed", reason="no")
    event = FineTuneStatus(trigger_id=loop.seen[0].trigger_id, model_id="fraud", event_time_ms=0, status="running")
    assert loop.policy.status(loop.at, event).refusal.reason == "unknown_trigger"
    assert len({trigger.trigger_id for trigger in loop.seen}) == MAX_ENDED + 1


def test_causes_are_bounded_and_those_beyond_are_counted() -> None:
    loop = Loop()
    loop.alerts = AlertPolicy("fraud", AlertSettings(max_incidents=2 * MAX_CAUSES))
    for number in range(MAX_CAUSES + 2):
        finding = Finding(sequence=number, time_ms=0, kind="performance", subject=f"metric {number}", level=Level.DRIFT)
        for transition in loop.alerts.advance(finding, "1"):
            loop.policy.incident(loop.at, transition, 0)
    assert loop.policy.counts["causes_beyond_limit"] == 2


def test_a_state_from_a_newer_program_or_a_damaged_one_is_refused_and_changes_nothing() -> None:
    loop = drifting()
    loop.send()
    before = loop.policy.snapshot()
    with pytest.raises(NewerStateError, match="fraud"):
        loop.policy.restore({**before, "version": 99})
    with pytest.raises(CorruptStateError, match="fraud"):
        loop.policy.restore({**before, "course": {"phase": "asleep"}})
    assert loop.policy.snapshot() == before


# The verdict


@pytest.mark.parametrize("degrees", [4, 5, 10, 30, 199, 10_000])
def test_students_quantile_agrees_with_scipy(degrees: int) -> None:
    assert student_quantile(degrees) == pytest.approx(scipy.stats.t.ppf(0.95, degrees), rel=0.002)


def sample(losses: np.ndarray) -> LossSample:
    return LossSample(count=len(losses), mean=float(losses.mean()), variance=float(losses.var(ddof=1)))


@pytest.mark.parametrize("loss", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("count", [10, 50, 200])
def test_a_version_that_is_not_better_is_seldom_called_so(loss: float, count: int) -> None:
    random = np.random.default_rng(7)
    during, after = random.binomial(1, loss, (2, 2000, count)).astype(float)
    called = sum(judge(sample(a), sample(b)).better is True for a, b in zip(during, after, strict=True))
    # ALPHA is .05; three standard errors of a share of .05 in 2,000 are .015.
    assert called / 2000 <= 0.065


def test_a_version_that_halves_the_loss_is_called_better_on_the_default_number_of_outcomes() -> None:
    random = np.random.default_rng(7)
    during = random.binomial(1, 0.4, (500, 200)).astype(float)
    after = random.binomial(1, 0.2, (500, 200)).astype(float)
    called = sum(judge(sample(a), sample(b)).better is True for a, b in zip(during, after, strict=True))
    assert called / 500 >= 0.98


def test_losses_without_spread_are_compared_as_they_are() -> None:
    ones, zeros = (LossSample(count=5, mean=mean, variance=0.0) for mean in (1.0, 0.0))
    assert judge(ones, zeros).better is True
    assert judge(zeros, zeros).better is False


def test_few_losses_decide_nothing() -> None:
    few = LossSample(count=4, mean=0.0, variance=0.0)
    assert judge(DRIFTED, few).better is None
    assert judge(few, BETTER).better is None


@pytest.mark.parametrize(("mean", "variance"), [(float("nan"), 0.0), (0.1, -1.0), (0.1, float("inf"))])
def test_losses_that_are_no_numbers_are_refused(mean: float, variance: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        LossSample(count=5, mean=mean, variance=variance)
