"""What the command `backtest` does, and how it says what it found."""

import sys
from pathlib import Path

import orjson
import typer
from rich.console import Console
from rich.table import Table

from service.cli.replay_options import Given
from service.cli.replay_progress import Meter, replay_progress
from service.cli.replay_sources import opened
from service.config import Config
from service.config import shown as shown_config
from service.replay.backtest import backtest
from service.replay.report.page import write_report
from service.replay.run import shown
from service.replay.score import ModelScore, Tally
from service.replay.session import Settings
from service.replay.trained import Triggered
from service.replay.truth import Truth

SHOWN_MODELS = 20
"""Models whose scores are printed; the rest are in --json and counted."""
SHOWN_TRIGGERS = 10


async def run_backtest(
    config: Config, given: Given, truth: Truth | None, report_file: Path | None, *, as_json: bool
) -> None:
    """Replay, score, say. Raises the errors that people can mend."""
    meter = Meter()
    settings = Settings(config.core, config.runtime, config.topics)
    async with opened(config, given) as source:
        with replay_progress(meter) as report:
            found = await backtest(settings, source.origin, source.plan.tasks, truth, report)
        ranges = [shown(plan) for plan in source.plan.tasks]
        bad_rows = source.bad_rows.count
    if report_file is not None:
        write_report(report_file, found, truth, shown_config(config), ranges)
    if as_json:
        plain = {**found.as_plain(), "bad_rows": bad_rows, "ranges": ranges, "elapsed_s": round(meter.elapsed_s, 3)}
        typer.echo(orjson.dumps(plain, option=orjson.OPT_INDENT_2))
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    for line in ranges:
        console.print(line, style="dim")
    for model in found.scores[:SHOWN_MODELS]:
        _show(console, model)
    if len(found.scores) > SHOWN_MODELS:
        console.print(f"{len(found.scores) - SHOWN_MODELS:,} more models: --json has them all")
    for line in found.not_scored[:SHOWN_MODELS]:
        console.print(f"note: {line}", markup=False)
    if len(found.not_scored) > SHOWN_MODELS:
        console.print(f"note: {len(found.not_scored) - SHOWN_MODELS:,} more are not scored: --json has them all")
    console.print(f"{found.records:,} records in {meter.elapsed_s:.1f} s, {meter.rate:,.0f} a second", style="dim")


def _show(console: Console, model: ModelScore) -> None:
    console.print()
    console.print(f"{model.model_id}: {model.events:,} events, {model.outcomes:,} outcomes", style="bold", markup=False)
    told = ", ".join(f"{kind.replace('_', ' ')} {count:,}" for kind, count in model.incidents.items())
    console.print(f"incidents: {told or 'none'}")
    if model.detections:
        table = Table("what happened", "at event", "found by", "delay, events", "delay", "incidents", box=None)
        for item in model.detections:
            found = (
                ((item.kind or "").replace("_", " "), f"{item.delay_events:,}", _duration(item.delay_ms or 0))
                if item.detected
                else ()
            )
            cells = found or ("missed", "", "")
            table.add_row(item.name, f"{item.event:,}", *cells, str(item.incidents))
        console.print(table)
    console.print(_policies(model.tallies))
    for trigger in model.triggers[:SHOWN_TRIGGERS]:
        console.print(_trigger(trigger))
    if len(model.triggers) > SHOWN_TRIGGERS:
        console.print(f"{len(model.triggers) - SHOWN_TRIGGERS:,} more triggers")


def _policies(tallies: tuple[Tally, ...]) -> Table:
    names = (
        "policy",
        "alarms",
        "drifts found",
        "missed",
        "false alarms",
        "per 10,000 events",
        "per day",
        "mean delay",
        "trainings",
        "labels each",
        "loss saved",
    )
    table = Table(*names, box=None)
    for name in names[1:]:
        table.columns[names.index(name)].justify = "right"
    for tally in tallies:
        numbers = (
            tally.detected,
            tally.missed,
            tally.false_alarms,
            tally.false_per_10k_events,
            tally.false_per_day,
            tally.mean_delay_events,
        )
        cost = tally.cost
        saved = "" if cost.loss_saved is None else f"{cost.loss_saved:,.0f} of {cost.loss_excess:,.0f}"
        table.add_row(
            tally.policy,
            f"{tally.alarms:,}",
            *map(_number, numbers),
            f"{cost.fine_tunes:,}",
            _number(cost.labels_per_fine_tune),
            saved,
        )
    return table


def _trigger(trigger: Triggered) -> str:
    losses = [("before", trigger.loss_before), ("during", trigger.loss_during), ("after", trigger.loss_after)]
    told = ", ".join(f"{when} {value:.3g}" for when, value in losses if value is not None)
    ended = f", {trigger.ended}" if trigger.ended else ""
    return f"trigger at event {trigger.event:,}: {trigger.mode}, {trigger.labels:,} labels, loss {told}{ended}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}" if value < 100 else f"{value:,.0f}"


def _duration(milliseconds: int) -> str:
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000)):
        if milliseconds >= size:
            return f"{milliseconds / size:.1f} {unit}"
    return f"{milliseconds / 1000:.1f} s"
