"""The command `demo`."""

from typing import Annotated

import typer

from service.cli.errors import plain_errors
from service.cli.options import Json


def demo(
    kafka: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Use this Kafka broker (topics of its own), not a file.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=5.0, max=600.0, help="How long the stream takes, about.")] = 40.0,
    fast: Annotated[bool, typer.Option("--fast", help="The same stream in about 12 seconds.")] = False,
    as_json: Json = False,
) -> None:
    """Show the closed loop, from drift to recovery.

    A model serves a stream that drifts, labels come late, the monitor alerts and asks for fine-tuning, a training
    pipeline answers, and accuracy recovers. Exits with 1 where the loop did not close.
    """
    with plain_errors():
        from service.cli.demo.run import run_demo  # noqa: PLC0415

        closed = run_demo(kafka, 12.0 if fast else seconds, as_json=as_json)
    if not closed:
        raise typer.Exit(1)
