"""The life of an incident, as a table, and what is remembered of one."""

from enum import StrEnum
from typing import Final, Literal

import msgspec

from schemas.outputs import Alert, DriftKind, Evidence, Severity
from service.core.findings import Finding, Level

MAX_EVIDENCE = 16
"""Pieces of evidence kept per incident, one per (detector, subject). Beyond it the oldest goes, and is counted."""
MAX_FEATURES_REMEMBERED = 1000
"""Feature names per incident that tell new from known. Beyond it no feature is new any more; that is counted."""

# Inputs, predictions or labels moved: alarming only together with the loss.
MOVED_KINDS: Final = frozenset({"data_drift", "prediction_drift", "label_drift"})
# What a reference window says is normal.
DRIFT_KINDS: Final = MOVED_KINDS | {"concept_drift"}
# The model got worse.
HARM_KINDS: Final = frozenset({"concept_drift", "performance"})


class IncidentState(StrEnum):
    """Where an incident stands. KEEPING is firing to everyone outside: its cause is gone, but not for long enough."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    KEEPING = "keeping"


class Signal(StrEnum):
    """What moves an incident on."""

    CAUSE = "cause"
    """A finding at DRIFT, or at WARNING where alert_on_warning is set."""
    GONE = "gone"
    """A finding at STABLE."""
    DUE = "due"
    """The watermark reached the end of pending_for or of keep_firing_for."""
    CLOSED = "closed"
    """The model version was superseded, or its monitors were reset."""


class Effect(StrEnum):
    """What is done on the way."""

    OPEN = "open"
    STRENGTHEN = "strengthen"
    DROP = "drop"
    FIRE = "fire"
    HOLD = "hold"
    RESOLVE = "resolve"
    IGNORE = "ignore"


_S, _N, _E = IncidentState, Signal, Effect

TRANSITIONS: Final[dict[tuple[IncidentState, Signal], tuple[IncidentState, Effect]]] = {
    (_S.INACTIVE, _N.CAUSE): (_S.PENDING, _E.OPEN),
    (_S.INACTIVE, _N.GONE): (_S.INACTIVE, _E.IGNORE),
    (_S.PENDING, _N.CAUSE): (_S.PENDING, _E.STRENGTHEN),
    (_S.PENDING, _N.GONE): (_S.INACTIVE, _E.DROP),
    (_S.PENDING, _N.DUE): (_S.FIRING, _E.FIRE),
    (_S.PENDING, _N.CLOSED): (_S.INACTIVE, _E.DROP),
    (_S.FIRING, _N.CAUSE): (_S.FIRING, _E.STRENGTHEN),
    (_S.FIRING, _N.GONE): (_S.KEEPING, _E.HOLD),
    (_S.FIRING, _N.CLOSED): (_S.INACTIVE, _E.RESOLVE),
    (_S.KEEPING, _N.CAUSE): (_S.FIRING, _E.STRENGTHEN),
    (_S.KEEPING, _N.GONE): (_S.KEEPING, _E.IGNORE),
    (_S.KEEPING, _N.DUE): (_S.INACTIVE, _E.RESOLVE),
    (_S.KEEPING, _N.CLOSED): (_S.INACTIVE, _E.RESOLVE),
}
"""(state, signal) to (next state, effect). A pair that is not here cannot happen: an inactive cause has neither a
timer nor anything to close, and a firing incident whose cause is still there has no deadline."""


class Incident(msgspec.Struct, kw_only=True):
    """One open cause. Times are event time in milliseconds."""

    incident_id: str
    fingerprint: str
    model_version: str
    kind: DriftKind
    subject: str
    segment: str | None
    state: IncidentState = IncidentState.INACTIVE
    level: int
    """Highest level seen."""
    severity: Severity
    harmless: bool
    opened_ms: int
    fired_ms: int | None = None
    deadline_ms: int | None = None
    """When the current state ends by itself."""
    update_due_ms: int | None = None
    """When features that came too soon after the last transition are to be told."""
    sent_ms: int
    """Event time of the last transition; before the first, of the opening."""
    transition: int = 0
    """Number of the last transition; 0 before the first."""
    known: bool = False
    """The firing has been published."""
    owed: bool = False
    """The last transition was muted, so that readers do not know the newest."""
    ended_ms: int | None = None
    resolution: str | None = None
    summary: str
    evidence: tuple[Evidence, ...] = ()
    features: list[str] = []
    change_outcome: int | None = None
    change_time_ms: int | None = None
    case_id: str | None = None
    """The case that it is, or was last, a part of."""
    advice: str = ""
    """As readers know it."""
    news: bool = False
    """A further change within the incident is to be notified with its next transition."""

    @property
    def fires(self) -> bool:
        """Whether it fires to everyone outside."""
        return self.state in (IncidentState.FIRING, IncidentState.KEEPING)

    @property
    def harms(self) -> bool:
        """Whether it says that the model got worse."""
        return self.kind in HARM_KINDS and self.fires and self.level >= Level.DRIFT


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """One step in the life of an incident: what is published, and what the fine-tune policy needs beside it."""

    alert: Alert
    """To be published unless `alert.muted`."""
    level: Level
    """Highest level seen by the incident."""
    change_outcome: int | None
    """Outcomes of the version's monitor before the estimated change, where a monitor named it."""
    change_time_ms: int | None


def published(transitions: list[Transition]) -> list[Alert]:
    """Give the alerts that readers are to see: all but the muted ones."""
    return [transition.alert for transition in transitions if not transition.alert.muted]


def severity_of(finding: Finding) -> Severity:
    """Say how bad a finding is by itself. Concept drift is critical, whatever its monitor says of it."""
    if finding.kind == "concept_drift" and finding.level == Level.DRIFT:
        return "critical"
    return "critical" if finding.severity == "critical" else "warning"


def plain_evidence(finding: Finding) -> tuple[Evidence, ...]:
    """Give a finding's evidence as it will read back from a snapshot (3 where 3.0 is declared would change bytes)."""
    return msgspec.convert(msgspec.to_builtins(finding.evidence), tuple[Evidence, ...])


def merge_evidence(known: tuple[Evidence, ...], new: tuple[Evidence, ...]) -> tuple[tuple[Evidence, ...], int]:
    """Let newer evidence of the same (detector, subject) replace older, in place; others are added at the end.

    Gives the evidence and how many pieces were beyond MAX_EVIDENCE.
    """
    # A finding may hold several pieces of one (detector, subject): what is new, and what was known. They stay together.
    groups: dict[tuple[str, str], list[Evidence]] = {}
    for piece in known:
        groups.setdefault((piece.detector, piece.subject), []).append(piece)
    for key in {(piece.detector, piece.subject): None for piece in new}:
        groups[key] = [piece for piece in new if (piece.detector, piece.subject) == key]
    pieces = [piece for group in groups.values() for piece in group]
    return tuple(pieces[-MAX_EVIDENCE:]), max(len(pieces) - MAX_EVIDENCE, 0)


def new_features(incident: Incident, evidence: tuple[Evidence, ...]) -> tuple[list[str], int]:
    """Say which features the incident does not know yet, and how many more there is no room for."""
    names = {feature.feature: None for piece in evidence for feature in piece.features}
    known = set(incident.features)
    fresh = [name for name in names if name not in known]
    room = MAX_FEATURES_REMEMBERED - len(incident.features)
    return fresh[:room], max(len(fresh) - room, 0)


AlertStateName = Literal["pending", "firing", "resolved"]


def state_outside(state: IncidentState) -> AlertStateName:
    """Name a state as readers know it."""
    return "pending" if state == IncidentState.PENDING else "firing"
