"""How a trigger is worded: its mode, its reason, its identifier."""

from typing import Literal, NamedTuple

from schemas.identity import derive_id
from schemas.outputs import FineTuneTrigger
from service.core.advice import FINE_TUNING_SUBJECT, UNANSWERED_SUBJECT
from service.core.findings import Finding, Level
from service.core.finetuning.causes import Cause, Effort
from service.core.finetuning.lifecycle import TrainingWindow
from service.core.settings import FineTuneSettings

Mode = Literal["stateful", "stateless"]


class Order(NamedTuple):
    """What a new trigger asks for."""

    version: str
    """To continue from."""
    mode: Mode
    mode_reason: str
    reason: str
    by_operator: bool


def choose_mode(settings: FineTuneSettings, effort: Effort) -> tuple[Mode, str]:
    """Say how to train, and why so."""
    if settings.mode != "auto":
        return settings.mode, f"the configuration says {settings.mode}"
    if effort.stateful_failure is not None:
        return "stateless", f"the last stateful attempt did not help: {effort.stateful_failure}"
    return "stateful", f"continuing from version {effort.continue_from} is the cheapest that may help"


def order_for(settings: FineTuneSettings, cause: Cause, effort: Effort, window: TrainingWindow) -> Order:
    """Word the order that an incident asks for."""
    mode, mode_reason = choose_mode(settings, effort)
    reason = f"{cause.summary} Labelled outcomes since the change: {window.labels:,}."
    return Order(effort.continue_from, mode, mode_reason, reason, by_operator=False)


def new_trigger(
    model_id: str, *, number: int, attempt: int, cause: Cause | None, order: Order, window: TrainingWindow, time_ms: int
) -> FineTuneTrigger:
    """Write the first transition of a trigger, without its deadline. `number`: triggers of the model before it."""
    incident_id = cause.incident_id if cause is not None else None
    change = cause.change_outcome if cause is not None else -1
    return FineTuneTrigger(
        trigger_id=derive_id("trigger", model_id, incident_id or "", attempt, change, number),
        incident_id=incident_id,
        model_id=model_id,
        model_version=order.version,
        state="requested",
        mode=order.mode,
        mode_reason=order.mode_reason,
        reason=order.reason,
        severity=cause.severity if cause is not None else "warning",
        event_time_ms=time_ms,
        attempt=attempt,
        labels=window.labels,
        label_coverage=window.coverage,
        window=window.ranges,
        window_start_ms=window.start_ms,
        window_end_ms=window.end_ms,
        evidence=cause.evidence if cause is not None else (),
        loss_before=window.before.mean if window.before is not None else None,
        loss_during=window.during.mean if window.during is not None else None,
    )


def exhausted_finding(max_attempts: int, last: FineTuneTrigger, sequence: int, time_ms: int) -> Finding:
    """Say that people must act: the last attempt that is allowed has ended, and its incident goes on."""
    return Finding(
        sequence=sequence,
        time_ms=time_ms,
        kind="operational",
        subject=FINE_TUNING_SUBJECT,
        level=Level.DRIFT,
        severity="critical",
        summary=f"fine-tuning gave up after {max_attempts} attempts, the last one {last.state}: {last.reason}",
    )


def relieved_finding(sequence: int, time_ms: int) -> Finding:
    """Say that people need not act any more."""
    return Finding(
        sequence=sequence,
        time_ms=time_ms,
        kind="operational",
        subject=FINE_TUNING_SUBJECT,
        level=Level.STABLE,
        resolution="the incident that fine-tuning did not help is over",
    )


def unanswered_finding(last: FineTuneTrigger, sequence: int, time_ms: int) -> Finding:
    """Say, once, that triggers of this model are sent and that nobody has ever answered one."""
    return Finding(
        sequence=sequence,
        time_ms=time_ms,
        kind="operational",
        subject=UNANSWERED_SUBJECT,
        level=Level.DRIFT,
        severity="warning",
        summary=f"nobody answers fine-tune triggers: {last.trigger_id} was {last.reason}, and none was ever answered",
    )


def heard_finding(sequence: int, time_ms: int) -> Finding:
    """Say that somebody has answered a trigger."""
    return Finding(
        sequence=sequence,
        time_ms=time_ms,
        kind="operational",
        subject=UNANSWERED_SUBJECT,
        level=Level.STABLE,
        resolution="a training pipeline has answered a trigger",
    )
