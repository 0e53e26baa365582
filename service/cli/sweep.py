"""The command `sweep`: many configurations over one pass of the records, ranked."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.backtest import DriftAt, Incident, NoDrift, Tolerance, TruthFile, read_options
from service.cli.errors import plain_errors
from service.cli.options import Json, configured
from service.cli.replay_options import Given, with_source

Plan = Annotated[Path, typer.Option("--plan", metavar="FILE", help="YAML: grid, list and objective.")]
Winner = Annotated[
    Path | None, typer.Option("--winner", metavar="FILE", help="Write the best configuration to this file.")
]
Objective = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME,...",
        help="Rank by the first, then the next: missed, false_alarms, delay_events, alarms, fine_tunes, -loss_saved.",
    ),
]
Jobs = Annotated[int | None, typer.Option("--jobs", min=1, metavar="N", help="Processes; else one a core.")]


@with_source
def sweep(
    given: Given,
    plan: Plan,
    truth: TruthFile = None,
    drift_at: DriftAt = None,
    incident: Incident = None,
    no_drift: NoDrift = False,
    tolerance_events: Tolerance = None,
    objective: Objective = None,
    winner: Winner = None,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Backtest many configurations in one pass.

    Ranks them by an objective, and writes the best one as a configuration file.
    """
    with plain_errors():
        import asyncio  # noqa: PLC0415

        from service.cli.sweep_work import SweepRequest, run_sweep  # noqa: PLC0415

        known = read_options(truth, drift_at, incident, tolerance_events, nothing=no_drift)
        settings = configured(given["config"], given["bootstrap"], given["log"])
        names = None if objective is None else tuple(name for name in objective.split(",") if name)
        request = SweepRequest(given=given, plan=plan, truth=known, objective=names, winner=winner, jobs=jobs)
        asyncio.run(run_sweep(settings, request, as_json=as_json))


def sweep_part(directory: Path, number: int) -> None:
    """Run one process's share of a sweep that was begun."""
    with plain_errors():
        import asyncio  # noqa: PLC0415

        import orjson  # noqa: PLC0415

        from service.cli.sweep_work import run_part  # noqa: PLC0415

        asyncio.run(run_part(directory, number, lambda status: typer.echo(orjson.dumps(tuple(status)))))
