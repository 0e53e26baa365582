"""The life of an incident, one law at a time."""

import doctest
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from detectors.protocol import Level
from schemas.events import MuteAlert
from schemas.outputs import Alert, ChangePoint, Evidence, FeatureContribution
from service.core import advice
from service.core.alerting import TRANSITIONS, AlertPolicy, IncidentState, Signal, published
from service.core.alerting.incidents import MAX_EVIDENCE
from service.core.findings import Finding
from service.core.settings import AlertSettings
from service.core.state import CorruptStateError, NewerStateError

PAGE = Path(__file__).parents[2] / "docs" / "alerts-and-triggers.md"
MINUTE = 60_000
CAUSES = {
    "concept_drift": "error",
    "data_drift": "features",
    "prediction_drift": "prediction",
    "label_drift": "label",
    "data_quality": "features",
    "performance": "accuracy@last_1000",
    "latency": "latency",
    "operational": "max_features",
}


def evidence(detector: str = "e_sr", subject: str = "error", features: tuple[str, ...] = ()) -> Evidence:
    return Evidence(
        detector=detector,
        subject=subject,
        statistic=12_345.678,
        threshold=10_000.0,
        sample_count=1500,
        change_point=ChangePoint(sample_index=1200, event_time_ms=1_700_000_000_000),
        before=0.1,
        after=0.23456,
        features=tuple(FeatureContribution(feature=name, statistic=0.5, threshold=0.1) for name in features),
    )


@dataclass
class Run:
    """A policy, and what readers have seen of it."""

    pending_for: int = 0
    keep_firing_for: int = 5 * MINUTE
    max_incidents: int = 100
    alert_on_warning: bool = False
    seen: list[Alert] = field(default_factory=list)
    sequence: int = 0

    def __post_init__(self) -> None:
        self.policy = AlertPolicy(
            "fraud",
            AlertSettings(
                pending_for_ms=self.pending_for,
                keep_firing_for_ms=self.keep_firing_for,
                max_incidents=self.max_incidents,
                alert_on_warning=self.alert_on_warning,
            ),
        )

    def find(self, time_ms: int, kind: str = "concept_drift", level: Level = Level.DRIFT, *, version="1", **more):
        self.sequence += 1
        finding = Finding(
            sequence=self.sequence,
            time_ms=time_ms,
            kind=kind,
            subject=more.pop("subject", CAUSES[kind]),
            level=level,
            **more,
        )
        return self._see(self.policy.advance(finding, version))

    def gone(self, time_ms: int, kind: str = "concept_drift", **more):
        return self.find(time_ms, kind, Level.STABLE, **more)

    def tick(self, time_ms: int):
        return self._see(self.policy.tick(time_ms))

    def mute(self, time_ms: int, mute_for_ms: int, fingerprint: str | None = None):
        command = MuteAlert(
            model_id="fraud",
            event_time_ms=time_ms,
            fingerprint=fingerprint or self.seen[0].fingerprint,
            mute_for_ms=mute_for_ms,
        )
        return self._see(self.policy.mute(command, time_ms))

    def supersede(self, time_ms: int, version: str):
        return self._see(self.policy.supersede(version, f"version {version} was deployed", time_ms))

    def _see(self, transitions) -> list[Alert]:
        new = published(transitions)
        self.seen += new
        return new


def states(alerts: list[Alert]) -> list[str]:
    return [alert.state for alert in alerts]


# The table


def test_the_table_answers_every_signal_that_can_come_in_a_state() -> None:
    impossible = {
        (IncidentState.INACTIVE, Signal.DUE),
        (IncidentState.INACTIVE, Signal.CLOSED),
        (IncidentState.FIRING, Signal.DUE),
    }
    assert set(TRANSITIONS) == {(state, signal) for state in IncidentState for signal in Signal} - impossible


def test_the_page_lists_every_row_of_the_table() -> None:
    page = PAGE.read_text()
    for (state, signal), (after, effect) in TRANSITIONS.items():
        assert f"| {state} | {signal} | {after} | {effect} |" in page


# Pending, firing, resolved


def test_a_cause_fires_at_once_when_nothing_is_to_be_waited_for() -> None:
    run = Run()
    (alert,) = run.find(1000, evidence=(evidence(),))
    assert (alert.state, alert.severity, alert.alertname) == ("firing", "critical", "ModelConceptDrift")
    assert alert.starts_at_ms == alert.event_time_ms == 1000
    assert alert.ends_at_ms is None
    assert run.policy.next_deadline_ms() is None


def test_a_pending_cause_fires_when_it_has_lasted_long_enough_at_the_time_of_its_deadline() -> None:
    run = Run(pending_for=MINUTE)
    assert run.find(1000) == []
    assert states(run.policy.open_incidents()) == ["pending"]
    assert run.policy.next_deadline_ms() == 1000 + MINUTE
    assert run.tick(1000 + MINUTE - 1) == []
    (alert,) = run.tick(9 * MINUTE)
    assert (alert.state, alert.starts_at_ms, alert.event_time_ms) == ("firing", 1000 + MINUTE, 1000 + MINUTE)


def test_a_cause_that_is_gone_while_pending_is_dropped_without_a_word_and_counted() -> None:
    run = Run(pending_for=MINUTE)
    run.find(0)
    run.gone(100)
    run.tick(10 * MINUTE)
    assert run.seen == []
    assert run.policy.open_incidents() == []
    assert run.policy.counts["pending_dropped"] == 1


def test_a_cause_that_goes_on_is_not_repeated() -> None:
    run = Run()
    run.find(0, evidence=(evidence(),))
    for minute in range(1, 60):
        run.find(minute * MINUTE, evidence=(evidence(),))
    assert states(run.seen) == ["firing"]


def test_an_incident_is_resolved_when_its_cause_has_been_gone_for_keep_firing_for() -> None:
    run = Run()
    run.find(0)
    run.gone(MINUTE, resolution="the loss is back near its reference")
    assert run.tick(6 * MINUTE - 1) == []
    (alert,) = run.tick(20 * MINUTE)
    assert (alert.state, alert.starts_at_ms, alert.ends_at_ms) == ("resolved", 0, 6 * MINUTE)
    assert alert.resolution == "the loss is back near its reference"


def test_drift_that_comes_back_before_keep_firing_for_is_over_keeps_the_same_incident() -> None:
    run = Run()
    run.find(0)
    run.gone(MINUTE)
    run.find(2 * MINUTE)
    assert run.tick(60 * MINUTE) == []
    assert run.policy.next_deadline_ms() is None
    run.gone(61 * MINUTE)
    run.tick(66 * MINUTE)
    assert states(run.seen) == ["firing", "resolved"]
    assert run.seen[0].incident_id == run.seen[1].incident_id


def test_a_cause_that_returns_after_its_end_is_a_new_incident_with_the_same_fingerprint() -> None:
    run = Run(keep_firing_for=0)
    for time_ms in (0, 100):
        run.find(time_ms)
        run.gone(time_ms + 1)
    assert states(run.seen) == ["firing", "resolved"] * 2
    assert len({alert.incident_id for alert in run.seen}) == 2
    assert len({alert.fingerprint for alert in run.seen}) == 1
    assert len({alert.alert_id for alert in run.seen}) == 4


def test_incidents_of_one_cause_that_open_at_the_same_record_have_identifiers_of_their_own() -> None:
    run = Run(keep_firing_for=0)
    for level in (Level.DRIFT, Level.STABLE, Level.DRIFT):
        run.sequence = 6
        run.find(0, level=level)
    assert states(run.seen) == ["firing", "resolved", "firing"]
    assert run.seen[0].incident_id == run.seen[1].incident_id != run.seen[2].incident_id


def test_a_flapping_cause_cannot_be_told_more_than_twice_per_keep_firing_for() -> None:
    run = Run(keep_firing_for=5 * MINUTE)
    for second in range(3600):
        run.find(second * 1000, level=Level.DRIFT if second % 2 == 0 else Level.STABLE)
    assert states(run.seen) == ["firing"]


def test_causes_of_other_versions_subjects_and_segments_are_other_incidents() -> None:
    run = Run()
    run.find(0)
    run.find(0, version="2")
    run.find(0, segment="country=DE")
    run.find(0, "latency")
    run.find(0, "latency", subject="error_rate")
    assert len({alert.fingerprint for alert in run.seen}) == len(run.seen) == 5
    assert run.seen[4].alertname == "ModelErrorRateHigh"


# Warnings


def test_a_warning_neither_opens_nor_ends_an_incident_unless_it_is_asked_for() -> None:
    run = Run()
    run.find(0, level=Level.WARNING)
    assert run.seen == []
    run.find(1)
    run.find(2, level=Level.WARNING)
    run.tick(60 * MINUTE)
    assert states(run.seen) == ["firing"]
    assert run.policy.counts["warnings_ignored"] == 2


def test_a_warning_that_becomes_drift_is_told_once_more_as_critical() -> None:
    run = Run(alert_on_warning=True)
    run.find(0, level=Level.WARNING)
    run.find(1)
    run.find(2)
    assert [(alert.state, alert.severity) for alert in run.seen] == [("firing", "warning"), ("firing", "critical")]


# Severity, company and advice


def test_moved_inputs_alone_are_a_warning_and_harmless_so_far() -> None:
    run = Run()
    for kind in ("data_drift", "prediction_drift", "label_drift"):
        (alert,) = run.find(0, kind)
        assert (alert.severity, alert.harmless_so_far) == ("warning", True)
        assert "loss has not so far" in alert.advice


def test_moved_inputs_become_critical_once_the_loss_moves() -> None:
    run = Run()
    (before,) = run.find(0, "data_drift")
    concept, after = run.find(10, "concept_drift")
    assert after.incident_id == before.incident_id
    assert (after.severity, after.harmless_so_far) == ("critical", False)
    assert after.advice.startswith("Inputs moved and the loss moved")
    assert concept.advice.startswith("Inputs moved and the loss moved")


def test_moved_inputs_are_not_called_harmless_again_when_the_loss_has_come_back() -> None:
    run = Run()
    run.find(0, "data_drift", evidence=(evidence(features=("age",)),))
    run.find(1, "concept_drift")
    run.gone(2)
    run.tick(30 * MINUTE)
    assert run.seen[-1].kind == "concept_drift"
    assert run.seen[-1].state == "resolved"
    moved = run.find(60 * MINUTE, "data_drift", evidence=(evidence(features=("income",)),))[-1]
    assert not moved.harmless_so_far
    assert "harmless" not in moved.advice


def test_inputs_that_move_after_the_loss_are_critical_from_the_start() -> None:
    run = Run()
    (concept,) = run.find(0, "concept_drift")
    assert "inputs look as before" in concept.advice
    moved, revised = run.find(10, "data_drift")
    assert (moved.severity, moved.harmless_so_far) == ("critical", False)
    assert revised.incident_id == concept.incident_id
    assert revised.advice.startswith("Inputs moved and the loss moved")


def test_the_loss_of_another_version_does_not_make_moved_inputs_critical() -> None:
    run = Run()
    run.find(0, "data_drift", version="1")
    assert len(run.find(10, "concept_drift", version="2")) == 1
    (alert,) = run.find(20, "label_drift", version="1")
    assert alert.harmless_so_far


def test_a_loss_that_moves_while_inputs_are_broken_is_no_reason_to_train() -> None:
    run = Run()
    run.find(0, "data_quality")
    (alert,) = run.find(1, "concept_drift")
    assert "do not train" in alert.advice


@pytest.mark.parametrize("detector", ["unseen", "new_feature"])
def test_what_is_new_is_not_called_damaged(detector: str) -> None:
    run = Run()
    (alert,) = run.find(0, "data_quality", evidence=(evidence(detector, "features", ("country",)),))
    assert "damaged" not in alert.advice
    assert "If they are real" in alert.advice
    (alert,) = run.find(1, "concept_drift")
    assert "If the new inputs are real, fine-tune" in alert.advice


def test_what_is_new_beside_damage_is_damage() -> None:
    run = Run()
    both = tuple(evidence(detector, "features", ("country",)) for detector in ("unseen", "missing"))
    (alert,) = run.find(0, "data_quality", evidence=both)
    assert "arrive damaged" in alert.advice
    (alert,) = run.find(1, "concept_drift")
    assert "do not train" in alert.advice


def test_the_monitor_decides_how_bad_quality_latency_and_metrics_are() -> None:
    run = Run()
    for kind in ("data_quality", "latency", "performance"):
        (warning,) = run.find(0, kind, subject=f"{kind} a")
        (critical,) = run.find(0, kind, subject=f"{kind} b", severity="critical")
        assert (warning.severity, critical.severity) == ("warning", "critical")


def test_a_summary_names_model_figures_and_the_time_of_the_change() -> None:
    run = Run()
    (alert,) = run.find(0, evidence=(evidence(),), segment="country=DE")
    assert alert.summary == (
        "Model fraud, version 1, segment country=DE: the loss drifted from 0.1 to 0.2346 "
        "(e_sr: statistic 12,350, threshold 10,000, 1,500 samples), since about 2023-11-14T22:13:20Z."
    )


def test_a_summary_of_inputs_names_the_first_features_and_counts_the_rest() -> None:
    run = Run()
    (alert,) = run.find(0, "data_drift", evidence=(evidence("e_bh", "features", tuple("abcdefgh")),))
    assert "a, b, c, d, e and 3 more moved away from the reference" in alert.summary


def test_a_monitor_that_has_its_own_words_is_quoted() -> None:
    run = Run()
    (alert,) = run.find(0, "performance", summary="accuracy fell to .8", change_time_ms=0)
    assert alert.summary == "Model fraud, version 1: accuracy fell to .8, since about 1970-01-01T00:00:00Z."


@pytest.mark.parametrize("kind", CAUSES)
def test_every_kind_has_a_name_a_summary_and_advice(kind: str) -> None:
    (alert,) = Run().find(0, kind, evidence=(evidence(),))
    assert alert.alertname.isalnum()
    assert alert.alertname[0].isupper()
    assert len(alert.summary) > 40
    assert len(alert.advice) > 40


def test_the_examples_in_the_docstrings_are_true() -> None:
    result = doctest.testmod(advice)
    assert result.attempted >= 3
    assert result.failed == 0


# Evidence and updates


def test_new_features_are_told_at_most_once_per_keep_firing_for_and_none_is_lost() -> None:
    run = Run(keep_firing_for=5 * MINUTE)
    names = [f"f{index}" for index in range(100)]
    for index in range(100):
        run.find(index * 6000, "data_drift", evidence=(evidence("e_bh", "features", tuple(names[: index + 1])),))
    run.tick(60 * MINUTE)
    assert states(run.seen) == ["firing"] * 3  # at 0, 5 and 10 minutes
    assert [alert.event_time_ms for alert in run.seen] == [0, 5 * MINUTE, 10 * MINUTE]
    assert len(run.seen[-1].evidence[0].features) == 100


def test_the_same_features_again_are_no_news() -> None:
    run = Run(keep_firing_for=0)
    for time_ms in range(10):
        run.find(time_ms, "data_drift", evidence=(evidence("e_bh", "features", ("a", "b")),))
    assert states(run.seen) == ["firing"]


def test_newer_evidence_replaces_older_of_the_same_detector_and_stands_beside_others() -> None:
    run = Run()
    run.find(0, evidence=(evidence("e_sr"),))
    run.find(1, evidence=(evidence("adwin"),))
    run.find(2, evidence=(evidence("e_sr"),))
    (open_,) = run.policy.open_incidents()
    assert [piece.detector for piece in open_.evidence] == ["e_sr", "adwin"]


def test_evidence_is_bounded_and_what_is_dropped_is_counted() -> None:
    run = Run()
    run.find(0, evidence=tuple(evidence(f"d{index}") for index in range(MAX_EVIDENCE + 3)))
    (open_,) = run.policy.open_incidents()
    assert len(open_.evidence) == MAX_EVIDENCE
    assert run.policy.counts["evidence_dropped"] == 3


# Mutes


def test_a_muted_cause_is_tracked_but_not_told() -> None:
    run = Run()
    run.mute(
        0,
        60 * MINUTE,
        run.policy.fingerprint(
            "1", finding := Finding(sequence=0, time_ms=0, kind="concept_drift", subject="error", level=Level.DRIFT)
        ),
    )
    transitions = run.policy.advance(finding, "1")
    assert [transition.alert.muted for transition in transitions] == [True]
    assert published(transitions) == []
    assert [alert.muted for alert in run.policy.open_incidents()] == [True]
    assert run.policy.counts["muted"] == 1


def test_an_incident_that_still_fires_when_its_mute_ends_is_told_then() -> None:
    run = Run()
    run.find(0)
    run.gone(1)
    run.tick(5 * MINUTE + 1)
    run.mute(6 * MINUTE, 10 * MINUTE)
    run.find(7 * MINUTE)
    assert run.policy.next_deadline_ms() == 16 * MINUTE
    (alert,) = run.tick(30 * MINUTE)
    assert (alert.state, alert.starts_at_ms, alert.event_time_ms) == ("firing", 7 * MINUTE, 16 * MINUTE)


def test_an_incident_that_was_told_and_ended_while_muted_is_resolved_when_the_mute_ends() -> None:
    run = Run()
    run.find(0)
    run.mute(1, 60 * MINUTE)
    run.gone(MINUTE)
    assert run.tick(10 * MINUTE) == []
    (alert,) = run.tick(61 * MINUTE)
    assert (alert.state, alert.ends_at_ms, alert.event_time_ms) == ("resolved", 6 * MINUTE, 60 * MINUTE + 1)


def test_an_incident_that_began_and_ended_while_muted_is_never_told() -> None:
    run = Run(keep_firing_for=0)
    run.find(0)
    run.gone(1)
    run.mute(2, MINUTE)
    run.find(3)
    run.gone(4)
    assert run.tick(60 * MINUTE) == []


def test_a_mute_of_no_length_unmutes() -> None:
    run = Run()
    run.find(0)
    run.mute(1, 60 * MINUTE)
    run.find(2, "data_drift")
    run.gone(2)
    run.tick(6 * MINUTE)
    assert states(run.mute(7 * MINUTE, 0)) == ["resolved"]
    assert run.policy.next_deadline_ms() is None


# Bounds


def test_causes_beyond_the_limit_are_counted_and_told_once() -> None:
    run = Run(max_incidents=3, keep_firing_for=0)
    for index in range(10):
        run.find(index, segment=f"s{index}")
    assert [alert.alertname for alert in run.seen] == ["ModelConceptDrift"] * 3 + ["TidegaugeLimitReached"]
    assert run.policy.counts["causes_beyond_limit"] == 7
    run.gone(20, segment="s0")
    assert [(alert.alertname, alert.state) for alert in run.seen[4:]] == [
        ("ModelConceptDrift", "resolved"),
        ("TidegaugeLimitReached", "resolved"),
    ]
    assert len(run.find(30, segment="s5")) == 1


# Superseded and reset


def test_incidents_of_old_versions_end_when_a_new_version_takes_over() -> None:
    run = Run(pending_for=MINUTE)
    run.find(0, version="1")
    run.tick(MINUTE)
    run.find(MINUTE + 1, "latency", version="1")  # pending
    run.find(MINUTE + 1, version="2")
    (alert,) = run.supersede(MINUTE + 2, "2")
    assert (alert.state, alert.model_version, alert.resolution) == ("resolved", "1", "version 2 was deployed")
    assert [alert.model_version for alert in run.policy.open_incidents()] == ["2"]


def test_the_incidents_of_a_version_whose_monitors_were_reset_end() -> None:
    run = Run()
    run.find(0, version="1")
    run.find(0, version="2")
    assert [t.alert.model_version for t in run.policy.withdraw("1", "reset", 5)] == ["1"]
    assert [t.alert.model_version for t in run.policy.withdraw(None, "reset", 6)] == ["2"]


# State


def test_a_state_from_a_newer_program_or_a_damaged_one_is_refused_and_changes_nothing() -> None:
    run = Run()
    run.find(0)
    before = run.policy.snapshot()
    with pytest.raises(NewerStateError, match="fraud"):
        run.policy.restore({**before, "version": 99})
    with pytest.raises(CorruptStateError, match="fraud"):
        run.policy.restore({**before, "incidents": [{"kind": "no such kind"}]})
    assert run.policy.snapshot() == before
