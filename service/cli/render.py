"""Outputs as a person reads them: one head line, and details below where there are any.

Names in events come from anybody: control characters, with which a terminal could be made to lie, are replaced.
"""

import re
from datetime import UTC, datetime
from typing import NamedTuple

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from schemas.outputs import Alert, DeadLetter, Evidence, FineTuneTrigger, MetricSnapshot, Output, WindowMetrics

INDENT = 10
NAMED_METRICS = 6
"""Values of a window that fit in one line, in the order of `SHOWN_METRICS`."""
SHOWN_METRICS = ("accuracy", "balanced_accuracy", "f1", "f1_macro", "auc", "log_loss", "mae", "rmse", "r2", "bias")
NAMED_FEATURES = 3

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_STATE_STYLES = {
    "pending": "yellow",
    "firing": "bold red",
    "resolved": "bold green",
    "requested": "bold magenta",
    "running": "cyan",
    "verifying": "cyan",
    "completed": "bold green",
    "failed": "bold red",
    "timed_out": "bold red",
    "cancelled": "yellow",
}
_SEVERITY_STYLES = {"warning": "yellow", "critical": "red"}


class Block(NamedTuple):
    """One output, ready to be printed."""

    head: Text
    details: list[Text]


def show(console: Console, block: Block) -> None:
    """Print a block: wrapped under its indent on a terminal, one line each elsewhere."""
    console.print(block.head, soft_wrap=True)
    for detail in block.details:
        if console.is_terminal:
            console.print(Padding(detail, (0, 0, 0, INDENT), expand=False))
        else:
            console.print(Text(" " * INDENT) + detail, soft_wrap=True)


def render(output: Output, when: str | None = None) -> Block:
    """Say an output in words. `when`: what stands in front, instead of its event time."""
    when = when or _time(output.event_time_ms)
    if isinstance(output, Alert):
        return _alert(output, heading(when, "ALERT"))
    if isinstance(output, FineTuneTrigger):
        return _trigger(output, heading(when, "TRIGGER"))
    if isinstance(output, MetricSnapshot):
        return Block(_metrics(output, heading(when, "METRICS")), [])
    return Block(_dead_letter(output, heading(when, "DEAD")), [])


def heading(when: str, what: str) -> Text:
    """Begin a line: when it was, and what it is."""
    return Text(when, "dim").append("  ").append(f"{what:<10}", "bold")


def _alert(alert: Alert, head: Text) -> Block:
    head.append(f"{alert.state:<9}", _STATE_STYLES[alert.state]).append(" ")
    head.append(f"{alert.severity:<8}", _SEVERITY_STYLES[alert.severity]).append(" ")
    head.append(alert.alertname, "bold").append("  ").append(_model(alert))
    if alert.case_id is not None:
        # Readers must see that several alerts are one story, and which of them are news.
        head.append(f"  {'' if alert.notify else 'detail of '}case {clean(alert.case_id[:8])}", "dim")
    details = [Text(clean(alert.summary))]
    if alert.state == "resolved":
        if alert.resolution:
            details = [Text(clean(f"resolved: {alert.resolution}"))]
        return Block(head, details)
    details += [Text(line, "dim") for evidence in alert.evidence for line in _evidence(evidence)]
    details.append(Text(f"what to do: {clean(alert.advice)}", "italic"))
    return Block(head, details)


def _trigger(trigger: FineTuneTrigger, head: Text) -> Block:
    head.append(f"{trigger.state:<9}", _STATE_STYLES[trigger.state]).append(" ")
    head.append(f"{trigger.mode:<9}", "magenta").append(_model(trigger))
    if trigger.new_model_version is not None:
        head.append(clean(f" -> {trigger.new_model_version}"), "bold")
    head.append(f"  trigger {trigger.trigger_id[:8]}", "dim")
    if trigger.state in ("running", "verifying"):
        return Block(head, [])  # nothing that the request has not said
    details = [Text(clean(trigger.reason))]
    if trigger.state == "requested":
        details.append(Text(clean(trigger.mode_reason), "dim"))
        where = ", ".join(
            f"{part.topic}[{part.partition}] {part.start_offset:,} to {part.end_offset:,}" for part in trigger.window
        )
        details.append(Text(clean(f"training window, {trigger.labels:,} labelled: {where}"), "dim"))
    losses = [("before", trigger.loss_before), ("during", trigger.loss_during), ("after", trigger.loss_after)]
    if trigger.loss_after is not None:
        told = ", ".join(f"{when} {value:.4g}" for when, value in losses if value is not None)
        details.append(Text(f"mean loss: {told}", "dim"))
    return Block(head, details)


def _metrics(snapshot: MetricSnapshot, head: Text) -> Text:
    head.append(_model(snapshot))
    head.append(f"  {snapshot.predictions_total:,} predictions, {snapshot.outcomes_total:,} labelled", "dim")
    window = next((window for window in snapshot.windows if window.count), None)
    if window is not None:
        head.append(f"  {window.window}: ", "dim").append(_values(window))
    drifted = [(ratio, name) for name, ratio in snapshot.drift.items() if ratio is not None and ratio >= 1.0]
    if drifted:
        names = ", ".join(name for _, name in sorted(drifted, reverse=True)[:NAMED_FEATURES])
        head.append(clean(f"  beyond threshold: {names}"), "yellow")
    return head


def _values(window: WindowMetrics) -> str:
    known = ((name, window.values.get(name)) for name in SHOWN_METRICS)
    shown = [f"{name} {value:.3f}" for name, value in known if value is not None]
    return ", ".join(shown[:NAMED_METRICS])


def _dead_letter(letter: DeadLetter, head: Text) -> Text:
    head.append(f"{letter.reason:<18} ", "red")
    whose = "" if letter.prediction_id is None else f" (prediction {letter.prediction_id})"
    return head.append(clean(f"{letter.topic}[{letter.partition}] offset {letter.offset:,}{whose}: {letter.message}"))


def _evidence(evidence: Evidence) -> list[str]:
    line = f"{evidence.detector} on {evidence.subject}: statistic {evidence.statistic:.4g}"
    line += f", threshold {evidence.threshold:.4g}, {evidence.sample_count:,} samples"
    if evidence.before is not None and evidence.after is not None:
        line += f", {_figure(evidence.before)} before, {_figure(evidence.after)} now"
    if evidence.change_point is not None:
        line += f", changed at {_time(evidence.change_point.event_time_ms)}"
        if evidence.change_point.prediction_offset is not None:
            line += f" (offset {evidence.change_point.prediction_offset:,})"
    lines = [clean(line)]
    for part in evidence.features[:NAMED_FEATURES]:
        text = f"  {part.feature}: {part.statistic:.4g} of {part.threshold:.4g}"
        if part.before is not None and part.after is not None:
            text += f", {_figure(part.before)} before, {_figure(part.after)} now"
        if not part.beyond:
            text += " (not beyond yet; moved by the evidence of all blocks)"
        if part.tells_of_loss:
            text += f"; alone it would change the mean loss by {part.loss_association:+.2g} "
            text += f"({part.loss_association_low:+.2g} to {part.loss_association_high:+.2g})"
        lines.append(clean(text))
    return lines


def _model(output: Alert | FineTuneTrigger | MetricSnapshot) -> str:
    segment = None if isinstance(output, FineTuneTrigger) else output.segment
    target = "" if output.target is None else f" target {output.target}"
    return clean(f"{output.model_id}{target} {output.model_version}{f' [{segment}]' if segment else ''}")


def _time(epoch_ms: int) -> str:
    return f"{datetime.fromtimestamp(epoch_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def _figure(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def clean(text: str) -> str:
    """Replace control characters, with which a terminal could be made to lie."""
    return _CONTROL.sub("\ufffd", text)
