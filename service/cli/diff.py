"""The command `diff`: what changed between the alerts of two runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.errors import plain_errors
from service.cli.options import Json

if TYPE_CHECKING:
    from service.replay.diff import AlertDiff, Incident

First = Annotated[Path, typer.Argument(metavar="A", help="A run's directory, or a file of alerts, one a line.")]
Second = Annotated[Path, typer.Argument(metavar="B", help="The other one.")]
ToleranceMs = Annotated[
    int,
    typer.Option(
        "--tolerance-ms", min=0, help="Incidents of one cause are the same if they overlap, or begin so close together."
    ),
]


def diff(first: First, second: Second, tolerance_ms: ToleranceMs = 0, as_json: Json = False) -> None:
    """Compare the incidents of two runs.

    Says which are new, gone or changed from A to B; exits with 1 if any is, as diff does.
    """
    with plain_errors():
        import orjson  # noqa: PLC0415

        from service.replay.diff import diff as compare  # noqa: PLC0415
        from service.replay.diff import read_incidents  # noqa: PLC0415

        found = compare(read_incidents(first), read_incidents(second), tolerance_ms)
        if as_json:
            typer.echo(orjson.dumps(found.as_plain(), option=orjson.OPT_INDENT_2))
        else:
            _tell(found)
    if found.differs:
        raise typer.Exit(1)


def _tell(found: "AlertDiff") -> None:
    for sign, incidents in (("-", found.gone), ("+", found.new)):
        for incident in incidents:
            typer.echo(f"{sign} {_words(incident)}")
    for changed in found.changed:
        typer.echo(f"~ {_words(changed.before)}")
        for name in changed.fields:
            typer.echo(f"    {name}: {getattr(changed.before, name)} -> {getattr(changed.after, name)}")
    counts = (found.same, len(found.changed), len(found.gone), len(found.new))
    words = ("the same", "changed", "gone", "new")
    typer.echo(", ".join(f"{count:,} {word}" for count, word in zip(counts, words, strict=True)))


def _words(incident: "Incident") -> str:
    from service.core.advice import instant  # noqa: PLC0415

    end = "open" if incident.ends_at_ms is None else instant(incident.ends_at_ms)
    segment = f" [{incident.segment}]" if incident.segment else ""
    what = f"{incident.model_id} {incident.model_version}{segment} {incident.kind} {incident.severity}"
    return f"{instant(incident.starts_at_ms)} to {end}  {what}".translate(_CONTROL)


_CONTROL = dict.fromkeys((*range(32), *range(127, 160)), 65533)
"""Names come from anybody, and must not move a terminal's cursor."""
