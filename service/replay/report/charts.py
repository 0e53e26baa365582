"""Pictures of one model over time: its metrics, its incidents in lanes, and the features that drifted."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final, NamedTuple

import numpy as np

from schemas.outputs import Alert, DriftKind, Severity
from service.replay.digest import Point
from service.replay.report.svg import (
    LEFT,
    RIGHT,
    WIDTH,
    Scale,
    line,
    moment,
    number,
    path,
    picture,
    rect,
    text,
    ticks,
    time_ticks,
)
from service.replay.timeline import Losses
from service.replay.trained import Triggered

PANEL_HEIGHT: Final = 150
LANE_HEIGHT: Final = 18
HEAT_ROWS: Final = 40
"""Features in the heat map: those that drifted most; the rest are counted below it."""
HEAT_COLUMNS: Final = 120
CURVE_POINTS: Final = 400

KINDS: Final[tuple[DriftKind, ...]] = (
    "concept_drift",
    "performance",
    "data_drift",
    "prediction_drift",
    "label_drift",
    "data_quality",
    "latency",
    "operational",
)


class Mark(NamedTuple):
    """A moment at which something truly happened, with its end where it has one."""

    name: str
    start_ms: int
    end_ms: int | None


class Curve(NamedTuple):
    """One line of a panel."""

    name: str
    times_ms: Sequence[int]
    values: Sequence[float | None]


class Incident(NamedTuple):
    """One incident from its first firing to its end, if it ended."""

    first: Alert
    last: Alert
    transitions: int

    @property
    def severity(self) -> Severity:
        """The worst that it was: within one incident it never falls."""
        return self.last.severity


def incidents_of(alerts: Sequence[Alert]) -> list[Incident]:
    """Put the transitions of each incident together, in the order of their first firing."""
    found: dict[str, Incident] = {}
    for alert in alerts:
        known = found.get(alert.incident_id)
        if known is None:
            found[alert.incident_id] = Incident(alert, alert, 1)
        else:
            found[alert.incident_id] = Incident(known.first, alert, known.transitions + 1)
    return sorted(found.values(), key=lambda incident: (incident.first.starts_at_ms, incident.first.incident_id))


def panel(title: str, curves: Sequence[Curve], x: Scale, marks: Sequence[Mark]) -> str:
    """Draw lines over time, with what truly happened behind them."""
    known = [value for curve in curves for value in curve.values if value is not None]
    if not known:
        return ""
    low, high = min(known), max(known)
    margin = (high - low) * 0.08 or abs(high) * 0.05 or 0.5
    y = Scale(low - margin, high + margin, PANEL_HEIGHT - 22, 22)
    parts = [text(LEFT, 14, title, "title")]
    for tick in ticks(y.low, y.high):
        parts += [
            line(LEFT, y(tick), WIDTH - RIGHT, y(tick), "grid"),
            text(LEFT - 6, y(tick) + 4, number(tick), "tick", "end"),
        ]
    parts += _time_axis(x, PANEL_HEIGHT - 22)
    parts += _marks(marks, x, 22, PANEL_HEIGHT - 22)
    for place, curve in enumerate(curves):
        drawn = path([x(time) for time in curve.times_ms], [None if v is None else y(v) for v in curve.values])
        parts.append(f'<path d="{drawn}" class="curve c{place % 6}"/>')
    parts += _legend(curves) if len(curves) > 1 else []
    return picture(PANEL_HEIGHT, parts, f"{title} over time", "panel")


def _legend(curves: Sequence[Curve]) -> list[str]:
    parts, right = [], float(WIDTH - RIGHT)
    for place, curve in reversed(list(enumerate(curves))):
        name = curve.name if len(curve.name) <= 24 else curve.name[:23] + "…"
        parts += [text(right, 14, name, "tick", "end")]
        right -= 7.0 * len(name) + 8
        parts.append(line(right - 14, 10, right, 10, f"curve c{place % 6}"))
        right -= 26
    return parts


def _time_axis(x: Scale, y: float) -> list[str]:
    span = int(x.high - x.low)
    parts = [line(LEFT, y, WIDTH - RIGHT, y, "axis")]
    for tick in time_ticks(int(x.low), int(x.high)):
        at = x(tick)
        anchor = "end" if at > WIDTH - 60 else "start" if at < LEFT + 30 else "middle"
        parts += [line(at, y, at, y + 4, "axis"), text(at, y + 16, moment(tick, span), "tick", anchor)]
    return parts


def _marks(marks: Sequence[Mark], x: Scale, top: float, bottom: float) -> list[str]:
    parts = []
    for mark in marks:
        at = x(mark.start_ms)
        if mark.end_ms is not None:
            parts.append(rect(at, top, x(mark.end_ms) - at, bottom - top, "truth-span", mark.name))
        parts.append(f"<g><title>{escape(mark.name)}</title>{line(at, top, at, bottom, 'truth')}</g>")
    return parts


def lanes(incidents: Sequence[Incident], triggers: Sequence[Triggered], x: Scale, marks: Sequence[Mark]) -> str:
    """Draw a lane for each kind of incident, and one for requests to train."""
    kinds = [kind for kind in KINDS if any(incident.first.kind == kind for incident in incidents)]
    names = [kind.replace("_", " ") for kind in kinds] + (["fine-tune"] if triggers else [])
    if not names:
        return ""
    height = len(names) * LANE_HEIGHT + 44
    parts = [text(LEFT, 14, "Incidents and requests to train", "title")]
    for row, kind in enumerate(kinds):
        top = 22 + row * LANE_HEIGHT
        parts.append(text(LEFT - 6, top + 12, names[row], "tick", "end"))
        parts += [_bar(incident, x, top) for incident in incidents if incident.first.kind == kind]
    if triggers:
        top = 22 + len(kinds) * LANE_HEIGHT
        parts.append(text(LEFT - 6, top + 12, names[-1], "tick", "end"))
        parts += [_triangle(trigger, x, top) for trigger in triggers]
    parts += _marks(marks, x, 20, height - 22)
    parts += _time_axis(x, height - 22)
    return picture(height, parts, "Incidents over time, by kind", "lanes")


def _bar(incident: Incident, x: Scale, top: float) -> str:
    first, last = incident.first, incident.last
    end_ms = last.ends_at_ms if last.ends_at_ms is not None else int(x.high)
    start = x(first.starts_at_ms)
    css = f"incident {incident.severity}{'' if last.state == 'resolved' else ' open'}"
    return rect(start, top + 2, max(x(end_ms) - start, 3), LANE_HEIGHT - 5, css, first.summary)


def _triangle(trigger: Triggered, x: Scale, top: float) -> str:
    at, base = x(trigger.time_ms), top + LANE_HEIGHT - 4
    told = f"{trigger.mode}, {trigger.labels:,} labels"
    points = f"{at - 5:.1f},{base:.1f} {at + 5:.1f},{base:.1f} {at:.1f},{top + 3:.1f}"
    return f'<polygon points="{points}" class="trigger"><title>{escape(told)}</title></polygon>'


def heat_map(points: Sequence[Point], x: Scale, marks: Sequence[Mark]) -> str:
    """Draw how far each feature is from its reference: a row a feature, the most drifted above."""
    rows, columns = _heat(points, x)
    if not rows:
        return ""
    shown = rows[:HEAT_ROWS]
    row_height, top = 16, 24
    bottom = top + len(shown) * row_height
    width = (WIDTH - LEFT - RIGHT) / columns
    more = f" (the {HEAT_ROWS} that drifted most of {len(rows)})" if len(rows) > HEAT_ROWS else ""
    parts = [text(LEFT, 14, f"Distance from the reference, as a share of the threshold{more}", "title")]
    for row, (name, cells) in enumerate(shown):
        y = top + row * row_height
        label = name if len(name) <= 17 else name[:16] + "…"
        parts.append(f"<g><title>{escape(name)}</title>{text(LEFT - 6, y + 12, label, 'tick', 'end')}</g>")
        parts += [
            rect(LEFT + column * width, y, width + 0.3, row_height - 1, f"h{_shade(cell)}", f"{name}: {cell:.2f}")
            for column, cell in enumerate(cells)
            if cell is not None
        ]
    parts += _marks(marks, x, top, bottom)
    parts += _time_axis(x, bottom + 2)
    return picture(bottom + 26, parts, "Drift of each feature over time", "heat")


def _shade(ratio: float) -> int:
    """Give 0 to 8: 5 and more have reached the threshold."""
    return min(int(ratio * 5), 4) if ratio < 1 else min(5 + int((ratio - 1) * 2), 8)


def _heat(points: Sequence[Point], x: Scale) -> tuple[list[tuple[str, list[float | None]]], int]:
    """Give the largest ratio of each feature in each of at most HEAT_COLUMNS spans of time."""
    columns = max(min(HEAT_COLUMNS, len(points)), 1)
    width = (x.high - x.low) / columns
    cells: dict[str, list[float | None]] = {}
    for point in points:
        column = min(int((point.time_ms - x.low) / width), columns - 1) if width else 0
        for name, ratio in point.drift.items():
            if ratio is not None and column >= 0:
                row = cells.setdefault(name, [None] * columns)
                held = row[column]
                row[column] = ratio if held is None else max(held, ratio)
    ranked = sorted(cells.items(), key=lambda item: (-max(cell for cell in item[1] if cell is not None), item[0]))
    return ranked, columns


def loss_curve(losses: Losses) -> Curve:
    """Give the mean loss in at most CURVE_POINTS groups of equally many outcomes."""
    had = np.cumsum(losses.outcomes)
    if not len(had):
        return Curve("loss", [], [])
    edges = np.unique(np.searchsorted(had, np.linspace(0, had[-1], CURVE_POINTS + 1)[1:]))
    starts = np.concatenate([[0], edges[:-1] + 1])
    counts = np.add.reduceat(losses.outcomes, starts)
    means = np.add.reduceat(losses.total, starts) / counts
    return Curve("loss", losses.watermark_ms[edges].tolist(), means.tolist())


def metric_curves(series: Mapping[str, Sequence[Point]], window: str, metric: str) -> list[Curve]:
    """Give one metric of each version that has it."""
    curves = []
    for version, points in series.items():
        values = [point.values.get(window, {}).get(metric) for point in points]
        if any(value is not None for value in values):
            curves.append(Curve(version, [point.time_ms for point in points], values))
    return curves
