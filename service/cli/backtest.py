"""The command `backtest`: a replay that is scored."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.errors import UsageError, plain_errors
from service.cli.options import Json, configured
from service.cli.replay_options import Given, with_source

if TYPE_CHECKING:
    from service.replay.truth import Happening, Truth

TRUTH = "What really happened"

TruthFile = Annotated[Path | None, typer.Option("--truth", metavar="FILE", help="YAML or JSON.", rich_help_panel=TRUTH)]
DriftAt = Annotated[
    list[str] | None,
    typer.Option(
        "--drift-at",
        metavar="EVENT|TIME",
        help="A drift point: a prediction of the model, counted from 0, or a time; may be repeated.",
        rich_help_panel=TRUTH,
    ),
]
Incident = Annotated[
    list[str] | None,
    typer.Option(
        "--incident",
        metavar="FROM..TO",
        help="An incident window, in events or times; may be repeated.",
        rich_help_panel=TRUTH,
    ),
]
NoDrift = Annotated[
    bool, typer.Option("--no-drift", help="Nothing happened: every alert is false.", rich_help_panel=TRUTH)
]
Tolerance = Annotated[
    int | None,
    typer.Option(
        "--tolerance-events",
        min=1,
        metavar="N",
        help="An alert within N events of a drift point has detected it; else 1,000.",
        rich_help_panel=TRUTH,
    ),
]
ReportFile = Annotated[Path | None, typer.Option("--report", metavar="FILE.html", help="Write a report for people.")]


@with_source
def backtest(
    given: Given,
    truth: TruthFile = None,
    drift_at: DriftAt = None,
    incident: Incident = None,
    no_drift: NoDrift = False,
    tolerance_events: Tolerance = None,
    report: ReportFile = None,
    as_json: Json = False,
) -> None:
    """Replay, and score the alerts against the truth.

    Delay, missed and false alarms, and what fine-tuning would have cost and saved.
    """
    with plain_errors():
        import asyncio  # noqa: PLC0415

        from service.cli.backtest_work import run_backtest  # noqa: PLC0415

        known = read_options(truth, drift_at, incident, tolerance_events, nothing=no_drift)
        settings = configured(given["config"], given["bootstrap"], given["log"])
        asyncio.run(run_backtest(settings, given, known, report, as_json=as_json))


def read_options(
    file: Path | None, drift_at: list[str] | None, incident: list[str] | None, tolerance: int | None, *, nothing: bool
) -> "Truth | None":
    """Read what is known of the truth; None: nothing. Raises UsageError or TruthError."""
    import msgspec  # noqa: PLC0415

    from service.replay.truth import Truth, read_truth  # noqa: PLC0415

    points, windows = drift_at or [], incident or []
    if file is not None and (points or windows or nothing):
        raise UsageError("--truth excludes --drift-at, --incident and --no-drift")
    if nothing and (points or windows):
        raise UsageError("--no-drift excludes --drift-at and --incident")
    if file is None and not (points or windows or nothing):
        if tolerance is not None:
            raise UsageError("--tolerance-events needs --truth, --drift-at or --incident")
        return None
    found = Truth() if file is None else read_truth(file)
    happenings = [_happening(text, text, None) for text in points]
    for text in windows:
        start, dots, end = text.partition("..")
        if not dots:
            raise UsageError(f"--incident {text}: expected FROM..TO")
        happenings.append(_happening(text, start, end))
    found = msgspec.structs.replace(found, happenings=(*found.happenings, *happenings))
    return found if tolerance is None else msgspec.structs.replace(found, tolerance_events=tolerance)


def _happening(text: str, start: str, end: str | None) -> "Happening":
    """Read whole numbers as events and everything else as times."""
    import datetime as dt  # noqa: PLC0415

    from service.replay.truth import Happening  # noqa: PLC0415

    fields: dict[str, Any] = {}
    for prefix, edge in (("", start), ("end_", end)):
        if edge is None:
            continue
        if edge.isdecimal():
            fields[f"{prefix}event"] = int(edge)
        else:
            try:
                fields[f"{prefix}time"] = dt.datetime.fromisoformat(edge)
            except ValueError as error:
                raise UsageError(f"{text}: expected the number of an event, or a time as ISO 8601") from error
    return Happening(**fields)
