"""The life of a fine-tune trigger, as a table, and the plain data that the policy speaks in."""

from enum import StrEnum
from typing import Final, Literal, NamedTuple

import msgspec

from schemas.outputs import FineTuneTrigger, LabelCoverage, OffsetRange
from service.core.findings import Finding
from service.core.finetuning.verdict import LossSample

MAX_ENDED = 100
"""Ended triggers whose late status events are known. A status event of an older one names an unknown trigger."""


class Phase(StrEnum):
    """Where the model's fine-tuning stands."""

    IDLE = "idle"
    REQUESTED = "requested"
    ACKNOWLEDGED = "acknowledged"
    RUNNING = "running"
    VERIFYING = "verifying"
    COOLDOWN = "cooldown"


class Signal(StrEnum):
    """What moves it on."""

    SEND = "send"
    """Enough labels for an armed cause, or an operator's request."""
    ACKNOWLEDGED = "acknowledged"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"
    """The last incident that the trigger answers was resolved."""
    DEPLOYED = "deployed"
    """A version was deployed that is not the one to continue from (until training has run) or has made (after)."""
    VERIFIED = "verified"
    """The new version has had its outcomes."""
    DUE = "due"
    """The watermark reached the phase's deadline."""


class Effect(StrEnum):
    """What is done on the way."""

    REQUEST = "request"
    EXTEND = "extend"
    RUN = "run"
    VERIFY = "verify"
    JUDGE = "judge"
    FAIL = "fail"
    EXPIRE = "expire"
    CANCEL = "cancel"
    UNDECIDED = "undecided"
    REST = "rest"
    IGNORE = "ignore"


_P, _N, _E = Phase, Signal, Effect

TRANSITIONS: Final[dict[tuple[Phase, Signal], tuple[Phase, Effect]]] = {
    (_P.IDLE, _N.SEND): (_P.REQUESTED, _E.REQUEST),
    (_P.COOLDOWN, _N.SEND): (_P.REQUESTED, _E.REQUEST),  # an operator does not wait for the cooldown
    (_P.COOLDOWN, _N.DUE): (_P.IDLE, _E.REST),
    (_P.REQUESTED, _N.ACKNOWLEDGED): (_P.ACKNOWLEDGED, _E.EXTEND),
    (_P.REQUESTED, _N.RUNNING): (_P.RUNNING, _E.RUN),
    (_P.REQUESTED, _N.COMPLETED): (_P.VERIFYING, _E.VERIFY),
    (_P.REQUESTED, _N.FAILED): (_P.COOLDOWN, _E.FAIL),
    (_P.REQUESTED, _N.WITHDRAWN): (_P.COOLDOWN, _E.CANCEL),
    (_P.REQUESTED, _N.DEPLOYED): (_P.COOLDOWN, _E.CANCEL),
    (_P.REQUESTED, _N.DUE): (_P.COOLDOWN, _E.EXPIRE),
    (_P.ACKNOWLEDGED, _N.ACKNOWLEDGED): (_P.ACKNOWLEDGED, _E.IGNORE),
    (_P.ACKNOWLEDGED, _N.RUNNING): (_P.RUNNING, _E.RUN),
    (_P.ACKNOWLEDGED, _N.COMPLETED): (_P.VERIFYING, _E.VERIFY),
    (_P.ACKNOWLEDGED, _N.FAILED): (_P.COOLDOWN, _E.FAIL),
    (_P.ACKNOWLEDGED, _N.WITHDRAWN): (_P.ACKNOWLEDGED, _E.IGNORE),
    (_P.ACKNOWLEDGED, _N.DEPLOYED): (_P.ACKNOWLEDGED, _E.IGNORE),
    (_P.ACKNOWLEDGED, _N.DUE): (_P.COOLDOWN, _E.EXPIRE),
    (_P.RUNNING, _N.ACKNOWLEDGED): (_P.RUNNING, _E.IGNORE),
    (_P.RUNNING, _N.RUNNING): (_P.RUNNING, _E.IGNORE),
    (_P.RUNNING, _N.COMPLETED): (_P.VERIFYING, _E.VERIFY),
    (_P.RUNNING, _N.FAILED): (_P.COOLDOWN, _E.FAIL),
    (_P.RUNNING, _N.WITHDRAWN): (_P.RUNNING, _E.IGNORE),
    (_P.RUNNING, _N.DEPLOYED): (_P.RUNNING, _E.IGNORE),
    (_P.RUNNING, _N.DUE): (_P.COOLDOWN, _E.EXPIRE),
    (_P.VERIFYING, _N.ACKNOWLEDGED): (_P.VERIFYING, _E.IGNORE),
    (_P.VERIFYING, _N.RUNNING): (_P.VERIFYING, _E.IGNORE),
    (_P.VERIFYING, _N.COMPLETED): (_P.VERIFYING, _E.IGNORE),
    (_P.VERIFYING, _N.FAILED): (_P.COOLDOWN, _E.FAIL),  # the pipeline could not bring its version into service
    (_P.VERIFYING, _N.WITHDRAWN): (_P.VERIFYING, _E.IGNORE),
    (_P.VERIFYING, _N.DEPLOYED): (_P.COOLDOWN, _E.UNDECIDED),
    (_P.VERIFYING, _N.VERIFIED): (_P.COOLDOWN, _E.JUDGE),
    (_P.VERIFYING, _N.DUE): (_P.COOLDOWN, _E.UNDECIDED),
}
"""(phase, signal) to (next phase, effect). The phases between REQUESTED and VERIFYING are those with an open trigger;
a way into COOLDOWN ends it. Status events without an open trigger of their own never reach the table."""


class Moment(NamedTuple):
    """The record at which something happens: its running number in the task, and the watermark at it."""

    sequence: int
    time_ms: int


class TrainingWindow(msgspec.Struct, frozen=True, kw_only=True):
    """The records to train on: everything from the change point on, up to the record at which it is asked for."""

    ranges: tuple[OffsetRange, ...]
    """One per input topic and partition: predictions and labels."""
    start_ms: int | None
    """Event time of the first outcome after the change."""
    end_ms: int | None
    labels: int
    """Outcomes since the change."""
    coverage: LabelCoverage | None = None
    before: LossSample | None = None
    """Losses before the change."""
    during: LossSample | None = None
    """Losses between the change and now. None or fewer than 5: the new version cannot be verified."""


class LabelTarget(msgspec.Struct, frozen=True, kw_only=True):
    """What the policy waits for before it sends a trigger."""

    incident_id: str
    model_version: str
    """Whose outcomes are counted."""
    change_outcome: int
    """Outcomes of that version before the change: the training window begins with the next one."""
    outcome_number: int
    """`labels_reached` is due at the outcome with this running number, or at once if the version has had it."""


class VerificationTarget(msgspec.Struct, frozen=True, kw_only=True):
    """What the policy waits for before it judges a new version."""

    model_version: str
    outcome_number: int
    """`verification` is due at the outcome of that version with this running number, or at once."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A command that cannot be used, for a dead letter."""

    reason: Literal["unknown_trigger", "wrong_model", "trigger_open"]
    message: str
    path: str


class Decision(msgspec.Struct, kw_only=True):
    """What the policy did, in order."""

    triggers: list[FineTuneTrigger] = []
    findings: list[tuple[str, Finding]] = []
    """(model version, operational finding) for the alert policy."""
    superseded_by: str | None = None
    """A version that was verified to be better, or deployed: the alert policy is to close the incidents of others."""
    refusal: Refusal | None = None
