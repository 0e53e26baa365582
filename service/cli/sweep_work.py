"""What the command `sweep` does."""

import os
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import orjson
import typer
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.cli.errors import UsageError
from service.cli.replay_jobs import run_processes
from service.cli.replay_options import Given
from service.cli.replay_progress import Meter, replay_progress
from service.cli.replay_sources import opened
from service.cli.sweep_plan import Variant, read_plan, variants
from service.config import Config, ConfigError, read_bounded, read_yaml
from service.core.settings import CoreSettings
from service.replay.run import Report
from service.replay.session import Settings
from service.replay.sweep.run import WITH_TRUTH, WITHOUT_TRUTH, Measured, check_objective, rank, sweep
from service.replay.truth import Truth

SHOWN = 20
"""Configurations printed, the best first; --json has them all."""


class SweepRequest(NamedTuple):
    """What is asked of `sweep`."""

    given: Given
    plan: Path
    truth: Truth | None
    objective: tuple[str, ...] | None
    winner: Path | None
    jobs: int | None


class Job(msgspec.Struct, frozen=True):
    """What the processes of a sweep are told."""

    config: dict[str, Any]
    cores: list[CoreSettings]
    shares: list[list[int]]
    """Which of them each process runs."""
    given: dict[str, Any]
    truth: Truth | None


async def run_sweep(config: Config, request: SweepRequest, *, as_json: bool) -> None:
    """Run, rank, write. Raises the errors that people can mend."""
    plan = read_plan(request.plan)
    objective = request.objective or plan.objective or (WITHOUT_TRUTH if request.truth is None else WITH_TRUTH)
    check_objective(objective, known=request.truth is not None)
    tried = variants(plan, _raw(request.given["config"]), config)
    meter = Meter()
    with replay_progress(meter) as report:
        results = await _run(config, request, tried, report)
    ranked = rank(results, objective)
    if request.winner is not None:
        _write_winner(request.winner, tried[ranked[0].number], objective, len(tried))
    if as_json:
        _print_json(ranked, tried, objective, meter)
    else:
        _print(ranked, tried, objective, meter, request.winner)


def _raw(file: Path | None) -> dict[str, Any]:
    """Read the base as its file holds it, so that the winner's file keeps what a person wrote."""
    try:
        raw = {} if file is None else read_yaml(read_bounded(file)) or {}
    except ConfigError as error:
        raise UsageError(f"{file}: {error}") from error
    return dict(raw)


async def _run(config: Config, request: SweepRequest, tried: Sequence[Variant], report: Report) -> list[Measured]:
    jobs = min(request.jobs or os.cpu_count() or 1, len(tried))
    cores = [variant.config.core for variant in tried]
    if jobs == 1:
        return await _sweep(config, cores, request.given, request.truth, report)
    given = {name: str(value) if isinstance(value, Path) else value for name, value in request.given.items()}
    job = Job(msgspec.to_builtins(config), cores, _shares(cores, jobs), given, request.truth)
    with tempfile.TemporaryDirectory(prefix="tidegauge-sweep-") as made:
        directory = Path(made)
        (directory / "job").write_bytes(msgspec.msgpack.encode(job))
        commands = [("sweep-part", str(directory), str(number)) for number in range(len(job.shares))]
        await run_processes(commands, len(commands), report)
        parts = [(directory / str(number)).read_bytes() for number in range(len(commands))]
    found = [result for part in parts for result in msgspec.msgpack.decode(part, type=list[Measured])]
    return sorted(found, key=lambda result: result.number)


def _shares(cores: Sequence[CoreSettings], jobs: int) -> list[list[int]]:
    """Share configurations out. Those that watch features alike stay together: features are what costs most."""

    def likeness(number: int) -> bytes:
        profiles = [cores[number].default, *cores[number].models.values()]
        watched = [(profile.feature_drift, profile.data_quality) for profile in profiles]
        return msgspec.msgpack.encode(watched, order="deterministic")

    order = sorted(range(len(cores)), key=lambda number: (likeness(number), number))
    edges = [len(order) * part // jobs for part in range(jobs + 1)]
    return [order[first:last] for first, last in pairwise(edges) if first < last]


async def _sweep(
    config: Config, cores: Sequence[CoreSettings], given: Given, truth: Truth | None, report: Report
) -> list[Measured]:
    settings = Settings(config.core, config.runtime, config.topics)
    async with opened(config, given) as source:
        return await sweep(cores, settings, source.origin, source.plan.tasks, truth, report)


async def run_part(directory: Path, number: int, report: Report) -> None:
    """Run one process's share."""
    job = msgspec.msgpack.decode((directory / "job").read_bytes(), type=Job)
    given = {**job.given, "file": None if job.given["file"] is None else Path(job.given["file"])}
    share = job.shares[number]
    config = msgspec.convert(job.config, Config)
    results = await _sweep(config, [job.cores[place] for place in share], given, job.truth, report)
    told = [msgspec.structs.replace(result, number=share[result.number]) for result in results]
    (directory / str(number)).write_bytes(msgspec.msgpack.encode(told))


def _write_winner(path: Path, winner: Variant, objective: Sequence[str], count: int) -> None:
    head = f"# The best of {count:,} configurations by {', '.join(objective)}: {winner.name}\n"
    path.write_text(head + yaml.safe_dump(winner.raw, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _print_json(ranked: Sequence[Measured], tried: Sequence[Variant], objective: Sequence[str], meter: Meter) -> None:
    plain = {
        "objective": list(objective),
        "elapsed_s": round(meter.elapsed_s, 3),
        "configurations": [
            {"name": tried[result.number].name, "changes": tried[result.number].changes, **msgspec.to_builtins(result)}
            for result in ranked
        ],
    }
    typer.echo(orjson.dumps(plain, option=orjson.OPT_INDENT_2))


def _print(
    ranked: Sequence[Measured], tried: Sequence[Variant], objective: Sequence[str], meter: Meter, winner: Path | None
) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    names = ("missed", "false", "delay", "alarms", "fine-tunes", "loss saved")
    table = Table("rank", "configuration", *names, box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    for place, result in enumerate(ranked[:SHOWN], 1):
        numbers = (result.missed, result.false_alarms, result.delay_events, result.alarms, result.fine_tunes)
        cells = [*map(_number, numbers), _number(result.loss_saved)]
        table.add_row(str(place), Text(tried[result.number].name), *cells)
    console.print(table)
    told = f"{len(tried):,} configurations ranked by {', '.join(objective)} in {meter.elapsed_s:.1f} s"
    console.print(told + (f"; the best is in {winner}" if winner is not None else ""), style="dim", markup=False)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:,.4g}"
