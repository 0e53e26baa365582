"""What the command `profile show` does: a stored reference window as tables, or in JSON."""

import sys
from pathlib import Path
from typing import Any, Final

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.cli.errors import UsageError
from service.cli.profile_summary import QUANTILES, summarise, words_of
from service.cli.render import clean
from service.core.reference import MAX_REFERENCE_BYTES, Reference, StoredReferenceError, decode_reference

SHOWN_SHARES: Final = 3
"""Categories of a feature that fit in a line; --json has them all."""
SHOWN_CLASSES: Final = 20
PIPE_WIDTH: Final = 200
"""Columns of a line where no terminal says how many it has: enough for a table that does not break its lines."""


def show_profile(path: Path, *, as_json: bool) -> None:
    """Print a stored reference window. Raises UsageError."""
    reference = read_profile(path)
    told = summarise(reference)
    if as_json:
        typer.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2))
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    console.print(Text(clean(reference.model_id), "bold"))
    console.print(Text(clean(words_of(reference)), "dim"))
    if told["features"]:
        console.print(_features(told["features"]))
    for vectors in told["embeddings"] or ():
        console.print(Text(clean(_embedding(vectors))))
    for name in ("predictions", "scores", "labels"):
        if told[name] is not None:
            console.print(Text(f"{name}: ", "bold") + Text(clean(_values(told[name]))))
    if told["loss"] is not None:
        console.print(Text("loss: ", "bold") + Text(_loss(told["loss"])))
    learnt = [name for name in ("features", "predictions", "labels", "loss") if told[name] is None]
    if learnt:
        console.print(Text(f"not in it, so learnt from the first events: {', '.join(learnt)}", "yellow"))


def read_profile(path: Path) -> Reference:
    """Read a stored reference window. Raises UsageError."""
    try:
        if path.stat().st_size > MAX_REFERENCE_BYTES:
            raise UsageError(f"{path}: larger than {MAX_REFERENCE_BYTES:,} bytes")
        return decode_reference(path.read_bytes())[1]
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except StoredReferenceError as error:
        raise UsageError(f"{path}: {error}") from error


def _features(features: list[dict[str, Any]]) -> Table:
    quantiles = [f"p{100 * quantile:g}" for quantile in QUANTILES]
    table = Table("feature", "kind", box=None, padding=(0, 2, 0, 0))
    for name in ("count", "missing", "mean", "min", *quantiles, "max"):
        table.add_column(name, justify="right")
    table.add_column("most frequent")
    for told in features:
        numbers = [told.get("mean"), told.get("min"), *told.get("quantiles", {}).values(), told.get("max")]
        if "quantiles" not in told:
            numbers = [None] * (3 + len(quantiles))
        lost = told.get("missing", 0) + told.get("wrong_type", 0)
        events = told.get("count", 0) + lost
        share = f"{lost / events:.1%}" if lost and events else ""
        cells = [
            clean(told["name"]),
            told["kind"],
            f"{told.get('count', 0):,}",
            share,
            *map(_number, numbers),
            clean(_shares(told.get("shares", {}), SHOWN_SHARES)),
        ]
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _embedding(told: dict[str, Any]) -> str:
    return f"embedding {told['name']}: {told['count']:,} vectors of {told['dimension']:,} numbers"


def _values(told: dict[str, Any]) -> str:
    count = f"{told['count']:,}"
    if told["kind"] == "categorical":
        return f"{count}, {_shares(told['shares'], SHOWN_CLASSES)}"
    if "quantiles" not in told:
        return count
    quantiles = ", ".join(f"{name} {value:.4g}" for name, value in told["quantiles"].items())
    return f"{count}, mean {told['mean']:.4g}, min {told['min']:.4g}, {quantiles}, max {told['max']:.4g}"


def _loss(told: dict[str, Any]) -> str:
    cap = f", capped at {told['cap']:.4g}" if "cap" in told else ""
    return f"{told['count']:,} outcomes, mean {told['mean']:.4g}, standard deviation {told['std']:.4g}{cap}"


def _shares(shares: dict[str, float], shown: int) -> str:
    parts = [f"{name} {share:.1%}" for name, share in list(shares.items())[:shown]]
    if len(shares) > shown:
        parts.append(f"{len(shares) - shown:,} more")
    return ", ".join(parts)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
