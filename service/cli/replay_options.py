"""Options that say what is replayed, shared by `replay`, `backtest` and `sweep`: a file, or a range of the topics."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from service.cli import produce_command as file
from service.cli.options import Bootstrap, ConfigFile, LogFile

RANGE = "Which part of the topics"

Given = dict[str, Any]
"""The options below by name."""

SourceFile = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="CSV, JSON Lines (both also .gz) or Parquet; none: the topics of the log."),
]
ModelId = Annotated[
    str | None, typer.Option("--model-id", metavar="ID|@COL", help="The model.", rich_help_panel=file.MAPPING)
]
Start = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Event time of the file's first row, ISO 8601 or milliseconds since 1970; else 2000-01-01.",
        rich_help_panel=file.PACE,
    ),
]
From = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="WHERE",
        help="recorded (where the live service began), earliest, latest, group:NAME, a time of writing (ISO 8601 or "
        "milliseconds), or offsets:PARTITION=CONTROL/PREDICTIONS/LABELS;...",
        rich_help_panel=RANGE,
    ),
]
To = Annotated[
    str,
    typer.Option(
        "--to", metavar="WHERE", help="The same; recorded: the live service's last commit.", rich_help_panel=RANGE
    ),
]
Order = Annotated[
    Literal["auto", "recorded", "event-time"],
    typer.Option(help="Of the records: as the live service recorded it, else by event time.", rich_help_panel=RANGE),
]
WarmUp = Annotated[
    bool,
    typer.Option(
        "--warm-up",
        help="Bring the state to where the range begins, from the live service's beginning.",
        rich_help_panel=RANGE,
    ),
]

_OPTIONS: dict[str, tuple[Any, Any]] = {
    "file": (SourceFile, None),
    "config": (ConfigFile, None),
    "bootstrap": (Bootstrap, None),
    "log": (LogFile, None),
    "from_": (From, "recorded"),
    "to": (To, "recorded"),
    "order": (Order, "auto"),
    "warm_up": (WarmUp, False),
    "model_id": (ModelId, None),
    "model_version": (file.ModelVersion, "1"),
    "prediction_id": (file.PredictionId, None),
    "prediction": (file.PredictionColumn, None),
    "score": (file.Score, None),
    "score_class": (file.ScoreClass, None),
    "label": (file.LabelColumn, None),
    "features": (file.Features, None),
    "exclude": (file.Exclude, None),
    "segments": (file.Segments, None),
    "embeddings": (file.Embeddings, None),
    "latency": (file.Latency, None),
    "time": (file.Time, None),
    "time_unit": (file.TimeUnit, None),
    "time_zone": (file.TimeZone, None),
    "start": (Start, None),
    "step_ms": (file.StepMs, 1000),
    "label_delay_events": (file.DelayEvents, 0),
    "label_delay_ms": (file.DelayMs, None),
    "limit": (file.Limit, None),
    "file_format": (file.FileFormat, None),
    "delimiter": (file.Delimiter, ","),
}


def with_source(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, which takes them as `given`, the options above beside its own."""
    own = [parameter for parameter in inspect.signature(command).parameters.values() if parameter.name != "given"]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in _OPTIONS.items()
    ]

    @functools.wraps(command)
    def call(**options: Any) -> None:
        given = {name: options.pop(name) for name in _OPTIONS}
        command(given=given, **options)

    # Arguments come first, so that `tidegauge replay FILE` reads naturally; Typer asks the signature, not the code.
    parameters = [*shared[:1], *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *shared[1:]]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # inspect reads it from there
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call
