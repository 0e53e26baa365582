"""Tables of the report."""

from collections.abc import Sequence
from html import escape
from typing import Final

from schemas.outputs import Alert
from service.core.advice import instant
from service.replay.report.charts import Incident
from service.replay.score import ModelScore

MAX_ROWS: Final = 500
"""Incidents and triggers listed; the rest are counted below the table."""


def tiles(model: ModelScore) -> str:
    """Show the few numbers that matter first."""
    own = model.tallies[0]
    shown = [
        (f"{model.events:,}", "events"),
        (f"{model.outcomes:,}", "labelled"),
        (f"{own.alarms:,}", "incidents"),
        *([] if own.detected is None else [(f"{own.detected} of {own.detected + (own.missed or 0)}", "drifts found")]),
        *([] if own.false_alarms is None else [(f"{own.false_alarms:,}", "false alarms")]),
        *([] if own.mean_delay_events is None else [(f"{own.mean_delay_events:,.0f}", "events of delay, mean")]),
        (f"{own.cost.fine_tunes:,}", "requests to train"),
    ]
    cells = "".join(f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for value, name in shown)
    return f'<div class="tiles">{cells}</div>'


def detections(model: ModelScore) -> str:
    """List what happened and what became of it."""
    rows = [
        [
            item.name,
            _number(item.event),
            instant(item.time_ms),
            (item.kind or "").replace("_", " ") if item.detected else "missed",
            _number(item.delay_events),
            _number(None if item.delay_ms is None else item.delay_ms / 1000),
            _number(item.incidents),
        ]
        for item in model.detections
    ]
    heads = ["what happened", "#at event", "time", "found by", "#delay, events", "#delay, s", "#incidents"]
    return _table("What happened", heads, rows)


def policies(model: ModelScore) -> str:
    """Compare the monitor with policies that look at nothing."""
    rows = [
        [
            tally.policy,
            _number(tally.alarms),
            _number(tally.detected),
            _number(tally.missed),
            _number(tally.false_alarms),
            _number(tally.false_per_10k_events),
            _number(tally.false_per_day),
            _number(tally.mean_delay_events),
            _number(tally.cost.fine_tunes),
            _number(tally.cost.labels_per_fine_tune),
            _number(tally.cost.loss_saved),
            _number(tally.cost.loss_excess),
        ]
        for tally in model.tallies
    ]
    heads = ["policy", "#alarms", "#drifts found", "#missed", "#false alarms", "#false per 10,000 events"]
    heads += ["#false per day", "#mean delay, events", "#trainings", "#labels each", "#loss saved", "#loss above usual"]
    note = (
        '<p class="soft">An alarm is false here where none of the drifts that were named is near; real streams have '
        "others. What is saved is an estimate: the loss above the usual, from a training with enough labels to the "
        "next change. always: an alarm at each event; schedule: as many as the monitor, at equal distances.</p>"
    )
    return _table("The monitor beside policies that look at nothing", heads, rows) + note


def incident_table(incidents: Sequence[Incident]) -> str:
    """List the incidents."""
    rows = [
        [
            instant(incident.first.starts_at_ms),
            instant(incident.last.ends_at_ms) if incident.last.ends_at_ms is not None else "open",
            incident.first.kind.replace("_", " "),
            incident.severity,
            _version(incident.first),
            _what(incident),
        ]
        for incident in incidents[:MAX_ROWS]
    ]
    more = len(incidents) - len(rows)
    return _table("Incidents", ["from", "to", "kind", "severity", "version", "what"], rows, more)


def _version(alert: Alert) -> str:
    return alert.model_version if alert.segment is None else f"{alert.model_version}, {alert.segment}"


def _what(incident: Incident) -> str:
    """Say what an incident said at first, and at last where that is something else."""
    first, last = (plain_summary(alert) for alert in (incident.first, incident.last))
    return first if first == last else f"{first} Later: {last}"


def plain_summary(alert: Alert) -> str:
    """Give a summary without the model's name: the page has one part for each model."""
    _, found, text = alert.summary.partition(": ")
    return text if found and alert.summary.startswith("Model ") else alert.summary


def triggers(model: ModelScore) -> str:
    """List the requests to train."""
    rows = [
        [
            instant(trigger.time_ms),
            _number(trigger.event),
            trigger.mode,
            _number(trigger.labels),
            _number(trigger.loss_before),
            _number(trigger.loss_during),
            _number(trigger.loss_after),
            (trigger.ended or "").replace("_", " "),
        ]
        for trigger in model.triggers[:MAX_ROWS]
    ]
    heads = ["time", "#event", "mode", "#labels", "#loss before", "#during", "#after", "ended"]
    note = (
        '<p class="soft">In a backtest nobody trains: a request times out, or is cancelled when its incident ends.</p>'
    )
    return _table("Requests to train", heads, rows, len(model.triggers) - len(rows)) + (note if rows else "")


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], more: int = 0) -> str:
    """Write a table; a head that begins with # stands over numbers."""
    if not rows:
        return ""
    numeric = [head.startswith("#") for head in heads]
    top = "".join(_cell("th", head.lstrip("#"), number=number) for head, number in zip(heads, numeric, strict=True))
    body = "".join(
        "<tr>" + "".join(_cell("td", cell, number=number) for cell, number in zip(row, numeric, strict=True)) + "</tr>"
        for row in rows
    )
    rest = f'<p class="soft">{more:,} more are not listed.</p>' if more > 0 else ""
    table = f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    return f"<h3>{escape(title)}</h3>{table}{rest}"


def _cell(tag: str, words: str, *, number: bool) -> str:
    css = ' class="n"' if number else ""
    if tag == "th":
        return f'<th{css} data-sort="up">{escape(words)}</th>'
    value = f' data-value="{escape(words.replace(",", ""))}"' if number else ""
    return f"<td{css}{value}>{escape(words)}</td>"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
