"""The command group `log`: the file of the embedded log."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.errors import UsageError, plain_errors

log_app = typer.Typer(help="Look after the file of the embedded log.", no_args_is_help=True, rich_markup_mode=None)


@log_app.command("salvage")
def salvage_log(
    damaged: Annotated[Path, typer.Argument(help="The damaged file; its -wal file beside it.")],
    out: Annotated[Path, typer.Option(metavar="NEW.sqlite", help="Where to put what can be read; a new file.")],
) -> None:
    """Save what can be read of a damaged log into a new file.

    Records keep their offsets; what is lost is listed by topic, partition and offsets. Stop all programs that use the
    log before. Then put the new file in its place.
    """
    with plain_errors():
        from service.eventlog.sqlite.salvage import salvage  # noqa: PLC0415

        if not damaged.exists():
            raise UsageError(f"{damaged}: no such file")
        if out.exists():
            raise UsageError(f"{out}: exists; name a new file")
        found = salvage(damaged, out)
        for lost in found.lost:
            where = f"{lost.topic}[{lost.partition}]"
            typer.echo(
                f"lost: {where} offsets {lost.first} to {lost.last - 1} ({lost.last - lost.first:,} at the most)"
            )
        typer.echo(f"{out}: {found.records:,} records saved, {len(found.lost)} gaps")
