"""The command `produce`: its options, and what is said about it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from service.cli.errors import UsageError, plain_errors
from service.cli.options import Bootstrap, ConfigFile, Json, LogFile, configured

if TYPE_CHECKING:
    from service.cli.produce import ProduceRequest, Tally
    from service.config import Config

MAPPING = "Which column is what"
PACE = "When and how fast"


def _column(name: str, text: str, panel: str = MAPPING) -> Any:
    return typer.Option(name, metavar="COL", help=text, rich_help_panel=panel)


File = Annotated[Path, typer.Argument(help="CSV, JSON Lines (both also .gz) or Parquet.")]
FileFormat = Annotated[Literal["csv", "jsonl", "parquet"] | None, typer.Option("--format", help="Else by file name.")]
Delimiter = Annotated[str, typer.Option(metavar="CHAR", help="Between the cells of CSV.")]
ModelId = Annotated[str, typer.Option("--model-id", metavar="ID|@COL", help="The model.", rich_help_panel=MAPPING)]
ModelVersion = Annotated[
    str, typer.Option("--model-version", metavar="VERSION|@COL", help="Its version.", rich_help_panel=MAPPING)
]
PredictionId = Annotated[str | None, _column("--prediction-id", "Join key; else the number of the row, from 0.")]
PredictionColumn = Annotated[str | None, _column("--prediction", "What the model answered.")]
Score = Annotated[str | None, _column("--score", "Probability of the class that --score-class names.")]
ScoreClass = Annotated[
    str | None,
    typer.Option(
        "--score-class",
        metavar="CLASS|@COL",
        help="Of which class --score is the probability: a class, or the column of the answers where it is the "
        "confidence in them; else it is found out.",
        rich_help_panel=MAPPING,
    ),
]
LabelColumn = Annotated[str | None, _column("--label", "The truth; an empty cell is no label.")]
Features = Annotated[str | None, _column("--features", "COL,COL,...; else all columns that are nothing else.")]
Exclude = Annotated[str | None, _column("--exclude", "COL,COL,... that are no features.")]
Segments = Annotated[str | None, _column("--segments", "COL,COL,... whose values are watched on their own.")]
Embeddings = Annotated[str | None, _column("--embeddings", "COL,COL,... that hold vectors: lists of numbers.")]
Latency = Annotated[str | None, _column("--latency", "How long the answer took, milliseconds.")]
Time = Annotated[str | None, _column("--time", "Event time; else --start and --step-ms make it.", PACE)]
TimeUnit = Annotated[
    Literal["s", "ms", "us", "ns", "iso"] | None,
    typer.Option(
        "--time-unit",
        help="Of --time, since 1970; iso: as 2025-01-31T09:30:00Z. Else ms, and what looks like others is refused.",
        rich_help_panel=PACE,
    ),
]
TimeZone = Annotated[
    str | None,
    typer.Option(
        "--time-zone",
        metavar="NAME",
        help="Of times that name none, as UTC or Europe/Berlin; else they are refused.",
        rich_help_panel=PACE,
    ),
]
Start = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Event time of the first row, ISO 8601 or milliseconds since 1970; else so that the last event lies "
        "just before now.",
        rich_help_panel=PACE,
    ),
]
StepMs = Annotated[
    int, typer.Option("--step-ms", min=0, help="Event time between two rows, milliseconds.", rich_help_panel=PACE)
]
DelayEvents = Annotated[
    int, typer.Option("--label-delay-events", min=0, help="Labels come so many rows later.", rich_help_panel=PACE)
]
DelayMs = Annotated[
    int | None,
    typer.Option(
        "--label-delay-ms", min=0, help="Labels come so much later, in event time, milliseconds.", rich_help_panel=PACE
    ),
]
Rate = Annotated[
    float | None,
    typer.Option(min=0.001, metavar="N", help="Events a second; else as fast as it goes.", rich_help_panel=PACE),
]
Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first rows.", rich_help_panel=PACE)]
Only = Annotated[Literal["predictions", "labels"] | None, typer.Option("--only", help="Write nothing else.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first bad row.")]


def produce(
    file: File,
    model_id: ModelId,
    model_version: ModelVersion = "1",
    prediction_id: PredictionId = None,
    prediction: PredictionColumn = None,
    score: Score = None,
    score_class: ScoreClass = None,
    label: LabelColumn = None,
    features: Features = None,
    exclude: Exclude = None,
    segments: Segments = None,
    embeddings: Embeddings = None,
    latency: Latency = None,
    time: Time = None,
    time_unit: TimeUnit = None,
    time_zone: TimeZone = None,
    start: Start = None,
    step_ms: StepMs = 1000,
    label_delay_events: DelayEvents = 0,
    label_delay_ms: DelayMs = None,
    rate: Rate = None,
    limit: Limit = None,
    only: Only = None,
    strict: Strict = False,
    file_format: FileFormat = None,
    delimiter: Delimiter = ",",
    config: ConfigFile = None,
    bootstrap: Bootstrap = None,
    log: LogFile = None,
    as_json: Json = False,
) -> None:
    """Write the rows of a file into the topics.

    Predictions go to one topic and labels, later, to the other, in order of event time.
    """
    given = dict(locals())
    with plain_errors():
        import asyncio  # noqa: PLC0415

        settings = configured(config, bootstrap, log)
        request = _request(given, settings.core.max_future_ms)
        tally = asyncio.run(_work(request, settings))
        _tell(tally, file, as_json=as_json)


def _request(given: dict[str, Any], max_future_ms: int) -> "ProduceRequest":
    from service.cli.produce import ProduceRequest  # noqa: PLC0415
    from service.replay.mapping import ColumnMapping, read_start, zone_of  # noqa: PLC0415
    from service.replay.sources import Source  # noqa: PLC0415

    if len(given["delimiter"]) != 1:
        raise UsageError(f"--delimiter {given['delimiter']!r}: expected one character")
    if given["label_delay_events"] and given["label_delay_ms"] is not None:
        raise UsageError("--label-delay-events and --label-delay-ms exclude each other")
    start: str | None = given["start"]
    zone_of(given["time_zone"])  # refused before anything is opened
    same = (
        "model_id",
        "model_version",
        "prediction_id",
        "prediction",
        "score",
        "score_class",
        "label",
        "latency",
        "time",
    )
    mapping = ColumnMapping(
        **{name: given[name] for name in (*same, "time", "time_unit", "time_zone", "step_ms")},
        start_ms=0 if start is None else read_start(start, given["time_zone"]),
        features=None if given["features"] is None else _names(given["features"]),
        exclude=_names(given["exclude"]),
        segments=_names(given["segments"]),
        embeddings=_names(given["embeddings"]),
    )
    return ProduceRequest(
        source=Source(given["file"], given["file_format"], given["delimiter"]),
        mapping=mapping,
        start_given=start is not None,
        max_future_ms=max_future_ms,
        **{name: given[name] for name in ("label_delay_events", "label_delay_ms", "only", "rate", "limit", "strict")},
    )


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name for name in (text or "").split(",") if name)


async def _work(request: "ProduceRequest", settings: "Config") -> "Tally":
    from service.app import open_log  # noqa: PLC0415
    from service.cli.produce import produce as write  # noqa: PLC0415
    from service.cli.progress import file_progress  # noqa: PLC0415
    from service.runtime.topics import prepare_topics  # noqa: PLC0415

    async with open_log(settings.log) as carrier:
        partitions = await prepare_topics(carrier, settings.topics, settings.core)
        appender = await carrier.appender()
        try:
            with file_progress() as report:
                return await write(request, appender, settings.topics, partitions, report)
        finally:
            await appender.close()


def _tell(tally: "Tally", file: Path, *, as_json: bool) -> None:
    import orjson  # noqa: PLC0415

    for bad in tally.named_bad_rows:
        sys.stderr.write(f"{file}:{bad.line}: {bad.message}\n")
    unnamed = tally.bad_rows - len(tally.named_bad_rows)
    if unnamed:
        sys.stderr.write(f"{file}: {unnamed:,} more bad rows\n")
    if tally.ahead:
        sys.stderr.write(
            f"tidegauge: {tally.ahead:,} events lie so far ahead of the clock that the service will refuse them\n"
        )
    if as_json:
        typer.echo(orjson.dumps(tally.as_json(), option=orjson.OPT_INDENT_2))
    else:
        speed = tally.events / tally.elapsed_s if tally.elapsed_s else 0.0
        typer.echo(
            f"{tally.predictions:,} predictions and {tally.labels:,} labels from {tally.rows:,} rows "
            f"({tally.bad_rows:,} bad) in {tally.elapsed_s:.1f} s, {speed:,.0f} events/s"
        )
    if tally.rows and tally.bad_rows == tally.rows:
        raise UsageError(f"{file}: none of its {tally.rows:,} rows could be used")
