"""The command `replay`: any part of the past through the same tasks, into files, topics of its own, or the terminal."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.errors import UsageError, plain_errors
from service.cli.options import Json, configured
from service.cli.replay_options import Given, with_source

if TYPE_CHECKING:
    from service.cli.replay_work import ReplayRequest, ReplaySummary

OUT = "Where it goes"

Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="A directory of its own.", rich_help_panel=OUT)]
ToTopics = Annotated[
    str | None,
    typer.Option("--to-topics", metavar="PREFIX", help="Topics of its own: PREFIX.alerts, ...", rich_help_panel=OUT),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with a replay that was interrupted.", rich_help_panel=OUT)
]
Published = Annotated[
    bool,
    typer.Option("--published", help="Replay nothing; write what the live service published.", rich_help_panel=OUT),
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify",
        help="Compare with what the live service published; exit 1 if it differs or there is nothing to compare.",
        rich_help_panel=OUT,
    ),
]
Jobs = Annotated[int | None, typer.Option("--jobs", min=1, metavar="N", help="Processes; else one a core.")]


@with_source
def replay(
    given: Given,
    out: Out = None,
    to_topics: ToTopics = None,
    resume: Resume = False,
    published: Published = False,
    verify: Verify = False,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Run the monitor over history.

    A part of the topics, or a file, gives what the live service would have published; a range that a live service
    consumed gives the bytes that it did publish.
    """
    with plain_errors():
        _check(given, out, to_topics, resume=resume, published=published, verify=verify)
        import asyncio  # noqa: PLC0415

        from service.cli.replay_work import ReplayRequest, run_replay  # noqa: PLC0415

        settings = configured(given["config"], given["bootstrap"], given["log"])
        request = ReplayRequest(
            given=given,
            out=out,
            to_topics=to_topics,
            resume=resume,
            published=published,
            verify=verify,
            jobs=jobs,
            as_json=as_json,
        )
        summary = asyncio.run(run_replay(settings, request))
        _tell(summary, request)
    if summary.verification is not None and not summary.verification.holds:
        raise typer.Exit(1)


def replay_task(directory: Path, partition: int) -> None:
    """Replay one task of a run that was begun, and say how far it is in lines of JSON."""
    with plain_errors():
        import asyncio  # noqa: PLC0415

        import orjson  # noqa: PLC0415

        from service.cli.replay_work import replay_one  # noqa: PLC0415

        asyncio.run(replay_one(directory, partition, lambda status: typer.echo(orjson.dumps(tuple(status)))))


def _check(
    given: Given, out: Path | None, to_topics: str | None, *, resume: bool, published: bool, verify: bool
) -> None:
    if out is not None and to_topics is not None:
        raise UsageError("--out and --to-topics exclude each other")
    if resume and out is None and to_topics is None:
        raise UsageError("--resume needs --out or --to-topics: the terminal forgets")
    if published and (out is None or given["file"] is not None):
        raise UsageError("--published writes what a live service published: it needs --out, and no FILE")
    if verify and (out is None or given["file"] is not None):
        raise UsageError("--verify compares a replay of topics in files: it needs --out, and no FILE")
    if verify and (given["from_"] != "recorded" or given["to"] != "recorded"):
        raise UsageError("--verify compares all that was published: --from and --to must be recorded")


def _tell(summary: "ReplaySummary", request: "ReplayRequest") -> None:
    import sys  # noqa: PLC0415

    import orjson  # noqa: PLC0415

    if request.as_json and (request.out is not None or request.to_topics is not None):
        typer.echo(orjson.dumps(summary.as_json(), option=orjson.OPT_INDENT_2))
    else:
        sys.stderr.write(summary.as_text())
