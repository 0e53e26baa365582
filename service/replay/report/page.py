"""The report's page, put together."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import yaml

from service.replay.backtest import Backtest
from service.replay.digest import Point
from service.replay.report.assets import SCRIPT, STYLE
from service.replay.report.charts import (
    Mark,
    heat_map,
    incidents_of,
    lanes,
    loss_curve,
    metric_curves,
    panel,
)
from service.replay.report.svg import Scale, time_scale
from service.replay.report.tables import detections, incident_table, policies, tiles, triggers
from service.replay.score import ModelScore
from service.replay.truth import Truth, windows_of

MAX_MODELS: Final = 30
"""Models that are drawn: those with the most incidents. The rest are counted."""
MAX_PANELS: Final = 3
METRICS: Final = ("accuracy", "f1", "auc", "f1_macro", "log_loss", "mae", "rmse", "r2")
"""In the order in which they are drawn, as far as the model has them."""

KEY: Final = (
    '<p class="key"><span><i class="k-truth"></i>known drift</span><span><i class="k-critical"></i>critical incident'
    '</span><span><i class="k-warning"></i>warning</span><span><i class="k-trigger"></i>request to train</span>'
    '<span><i class="k-under"></i>below threshold</span><span><i class="k-over"></i>beyond it</span></p>'
)

ESTIMATED: Final = (
    '<p class="key">Estimated: from the calibrated confidence of predictions, before their labels. It holds where the '
    "concept did not change; a gap that stays says that it did, or that the model outgrew its calibration.</p>"
)


def write_report(
    path: Path, found: Backtest, truth: Truth | None, config: Mapping[str, Any], ranges: Sequence[str]
) -> None:
    """Write the page. Raises OSError."""
    path.write_text(page(found, truth, config, ranges), encoding="utf-8")


def page(found: Backtest, truth: Truth | None, config: Mapping[str, Any], ranges: Sequence[str]) -> str:
    """Make the page: the same backtest gives the same bytes."""
    ranked = sorted(found.scores, key=lambda model: (-sum(model.incidents.values()), model.model_id))
    body = [
        "<h1>Backtest</h1>",
        f'<p class="soft">{found.records:,} records. {escape(". ".join(ranges))}.</p>',
        KEY,
        *(_model(model, found, truth) for model in ranked[:MAX_MODELS]),
    ]
    if len(ranked) > MAX_MODELS:
        body.append(f"<p>{len(ranked) - MAX_MODELS:,} more models with fewer incidents are not drawn.</p>")
    if found.digest.dead_letters:
        told = ", ".join(f"{count:,} {reason}" for reason, count in sorted(found.digest.dead_letters.items()))
        body.append(f"<h2>Dead letters</h2><p>{escape(told)}</p>")
    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    body.append(f"<h2>Configuration</h2><details><summary>as YAML</summary><pre>{escape(text)}</pre></details>")
    return _document("".join(body))


def _document(body: str) -> str:
    policy = f"default-src 'none'; style-src '{_hash(STYLE)}'; script-src '{_hash(SCRIPT)}'; base-uri 'none'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><title>Tidegauge backtest</title>'
        f"<style>{STYLE}</style></head><body>{body}<script>{SCRIPT}</script></body></html>\n"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _model(model: ModelScore, found: Backtest, truth: Truth | None) -> str:
    timeline = found.timelines[model.model_id]
    windows = [] if truth is None else windows_of(truth, model.model_id, timeline)
    marks = [
        Mark(window.name, window.start_ms, timeline.time_of(window.end) if window.lasts else None) for window in windows
    ]
    incidents = incidents_of([alert for alert in found.digest.alerts if alert.model_id == model.model_id])
    series = {
        version: series.points for (name, version), series in found.digest.series.items() if name == model.model_id
    }
    x = time_scale(model.first_ms, model.last_ms)
    parts = [f"<h2>{escape(model.model_id)}</h2>", tiles(model)]
    parts += _panels(series, x, marks)
    parts.append(panel("Mean loss of outcomes", [loss_curve(timeline.losses)], x, marks))
    parts += [lanes(incidents, model.triggers, x, marks), *_heat_maps(series, x, marks)]
    parts += [detections(model), policies(model), incident_table(incidents), triggers(model)]
    return "".join(parts)


def _panels(series: Mapping[str, Sequence[Point]], x: Scale, marks: Sequence[Mark]) -> list[str]:
    windows = [name for points in series.values() for point in points for name in point.values]
    window = next(iter(windows), None)
    if window is None:
        return []
    drawn: list[str] = []
    note: list[str] = []
    for metric in METRICS:
        curves = metric_curves(series, window, metric)
        estimate = metric_curves(series, window, f"estimated_{metric}")
        if (curves or estimate) and len(drawn) < MAX_PANELS:
            names = ("realised", "estimated") if len(series) == 1 else ("{}", "{} estimated")
            told = [
                curve._replace(name=name.format(curve.name))
                for name, some in zip(names, (curves, estimate), strict=True)
                for curve in some
            ]
            drawn.append(panel(f"{metric.replace('_', ' ')}, {window}", told, x, marks))
            note = [ESTIMATED] if estimate else note
    return drawn + note


def _heat_maps(series: Mapping[str, Sequence[Point]], x: Scale, marks: Sequence[Mark]) -> list[str]:
    maps = []
    for version, points in series.items():
        drawn = heat_map(points, x, marks)
        if drawn:
            maps.append((f"<h3>Version {escape(version)}</h3>" if len(series) > 1 else "") + drawn)
    return maps
