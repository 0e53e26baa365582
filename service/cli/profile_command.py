"""The commands `profile build` and `profile show`: reference windows at rest."""

from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli import produce_command as file
from service.cli.errors import UsageError, plain_errors
from service.cli.options import Bootstrap, ConfigFile, Json, LogFile, configured
from service.cli.replay_options import RANGE, ModelId

profile_app = typer.Typer(
    help="Store a reference window of a model.\n\nSo that it is judged from its first event on.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

OF_FILES = {
    "prediction_id": None,
    "prediction": None,
    "score": None,
    "score_class": None,
    "label": None,
    "features": None,
    "exclude": None,
    "segments": None,
    "embeddings": None,
    "latency": None,
    "time": None,
    "file_format": None,
    "delimiter": ",",
}
"""Options that say how a file is read, with their defaults."""

Out = Annotated[Path, typer.Option("--out", "-o", metavar="PROFILE.json", help="The file to write.")]
SourceFile = Annotated[
    Path | None, typer.Argument(metavar="FILE", help="CSV, JSON Lines (both also .gz) or Parquet; or else --topics.")
]
Topics = Annotated[bool, typer.Option("--topics", help="Learn from the topics of the log, not from a file.")]
ModelVersion = Annotated[
    str | None,
    typer.Option(
        "--model-version",
        metavar="VERSION|@COL",
        help="Its version, for which alone the window then is; else it is for every version.",
        rich_help_panel=file.MAPPING,
    ),
]
AnyVersion = Annotated[
    bool, typer.Option("--any-version", help="The window is for every version, though --model-version chose one.")
]
Time = Annotated[
    str | None,
    typer.Option(
        "--time", metavar="COL", help="The event time: no feature, and else unused.", rich_help_panel=file.MAPPING
    ),
]
From = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="WHERE",
        help="earliest, latest, group:NAME, a time of writing (ISO 8601 or milliseconds), or "
        "offsets:PARTITION=CONTROL/PREDICTIONS/LABELS;...",
        rich_help_panel=RANGE,
    ),
]
To = Annotated[str, typer.Option("--to", metavar="WHERE", help="The same.", rich_help_panel=RANGE)]
Limit = Annotated[
    int,
    typer.Option(
        min=100, max=1_000_000, metavar="N", help="Only the first rows of a file, or events and outcomes of the topics."
    ),
]


@profile_app.command()
def build(
    out: Out,
    file: SourceFile = None,
    topics: Topics = False,
    model_id: ModelId = None,
    model_version: ModelVersion = None,
    any_version: AnyVersion = False,
    prediction_id: file.PredictionId = None,
    prediction: file.PredictionColumn = None,
    score: file.Score = None,
    score_class: file.ScoreClass = None,
    label: file.LabelColumn = None,
    features: file.Features = None,
    exclude: file.Exclude = None,
    segments: file.Segments = None,
    embeddings: file.Embeddings = None,
    latency: file.Latency = None,
    time: Time = None,
    file_format: file.FileFormat = None,
    delimiter: file.Delimiter = ",",
    from_: From = "earliest",
    to: To = "latest",
    limit: Limit = 1_000_000,
    config: ConfigFile = None,
    bootstrap: Bootstrap = None,
    log: LogFile = None,
    as_json: Json = False,
) -> None:
    """Learn one model's reference window from a file or from a range of the topics, all of it, and store it as JSON.

    A file without predictions, as one for training, gives the features and the labels.
    """
    given = dict(locals())
    with plain_errors():
        import asyncio  # noqa: PLC0415

        from service.cli.profile_build import BuildRequest, build_profile, tell  # noqa: PLC0415

        _check(given)
        settings = configured(config, bootstrap, log, references=False)
        summary = asyncio.run(build_profile(settings, BuildRequest(given, out, limit)))
        tell(summary, as_json=as_json)


@profile_app.command()
def show(
    file: Annotated[Path, typer.Argument(metavar="PROFILE.json", help="What `profile build` wrote.")],
    as_json: Json = False,
) -> None:
    """Show a stored reference window: what each feature, the predictions, the labels and the loss were like."""
    with plain_errors():
        from service.cli.profile_show import show_profile  # noqa: PLC0415

        show_profile(file, as_json=as_json)


def _check(given: dict[str, Any]) -> None:
    if (given["file"] is None) != given["topics"]:
        raise UsageError("expected a FILE or --topics, and not both")
    if not given["out"].absolute().parent.is_dir():
        raise UsageError(f"{given['out']}: there is no such folder")
    if given["any_version"] and given["model_version"] is None:
        raise UsageError("--any-version goes with --model-version; without that a window is for every version")
    if given["topics"]:
        useless = [name for name, default in OF_FILES.items() if given[name] != default]
        if useless:
            option = {"file_format": "format"}.get(useless[0], useless[0].replace("_", "-"))
            raise UsageError(f"--{option} says how a FILE is read; --topics reads events")
    elif given["prediction"] is None and given["label"] is None:
        raise UsageError("a file needs --prediction COLUMN, or at least --label COLUMN")
