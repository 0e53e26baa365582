"""The commands `state inspect`, `state export` and `state rebuild`."""

import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from service.cli.errors import UsageError, plain_errors
from service.cli.options import Bootstrap, ConfigFile, Json, LogFile, configured

if TYPE_CHECKING:
    from service.cli.state import EntryReport, TaskReport
    from service.config import Config
    from service.eventlog.protocol import Log

T = TypeVar("T")

MOST_MODELS = 20
"""Models that are listed, the largest first."""

FAULTY = 1
"""Exit code of `state inspect` where something cannot be read."""

state_app = typer.Typer(help="Inspect, export and rebuild the state.", no_args_is_help=True, rich_markup_mode=None)

Partition = Annotated[int | None, typer.Option(min=0, metavar="N", help="Only this task; else all.")]


@state_app.command()
def inspect(
    config: ConfigFile = None,
    bootstrap: Bootstrap = None,
    log: LogFile = None,
    partition: Partition = None,
    entries: Annotated[bool, typer.Option("--entries", help="List each entry, not only their kinds.")] = False,
    as_json: Json = False,
) -> None:
    """Show each task's snapshot: where it stands, what it holds, what cannot be read (then the exit code is 1)."""
    with plain_errors():
        import msgspec  # noqa: PLC0415

        from service.cli.state import plain, read_reports  # noqa: PLC0415

        settings = configured(config, bootstrap, log)
        faults = 0

        async def work(carrier: "Log") -> None:
            nonlocal faults
            async for report in read_reports(carrier, settings, partition):
                faults += len(report.faults)
                if as_json:
                    typer.echo(msgspec.json.encode(plain(report)))
                else:
                    typer.echo("\n".join(_lines(report, every=entries)))

        _with_log(settings, work)
        if faults:
            raise typer.Exit(FAULTY)


def _lines(report: "TaskReport", *, every: bool) -> Iterable[str]:
    yield f"task {report.partition}"
    if report.head is None:
        yield "  no snapshot"
    else:
        head = report.head
        owner = head.owner or "an unnamed service"
        yield f"  snapshot of commit {head.number}, by {owner}, inputs of {head.partitions} partitions"
        reached = report.reached or head.positions
        for topic, snapshot, now in zip(head.inputs, head.positions, reached, strict=True):
            begin, end = report.inputs.get(topic, (0, 0))
            yield f"    {topic}: {snapshot:,}, committed {now:,}; the log holds {begin:,} to {end:,}"
        yield f"  {len(report.cuts):,} cuts since"
    for held in report.quarantined:
        since = "put there since the snapshot" if held.since is None else f"since {held.since}"
        count = "" if held.dead_letters is None else f", {held.dead_letters:,} dead letters"
        yield f"  QUARANTINED model {held.model_id}: {since}{count}: {held.why}"
    yield f"  {len(report.entries):,} entries, {report.size_bytes:,} bytes, in {report.changelog}"
    yield from _entry_lines(report.entries) if every else _kind_lines(report.entries)
    yield from _model_lines(report)
    yield from (f"  FAULT {fault}" for fault in report.faults)


def _model_lines(report: "TaskReport") -> Iterable[str]:
    if report.models:
        parked = sum(model.parked for model in report.models)
        yield (
            f"  {len(report.models):,} models; {parked:,} versions put by, {report.evicted_total:,} times so far, "
            f"{report.dropped_total:,} forgotten"
        )
    for model in report.models[:MOST_MODELS]:
        put_by = f", {model.parked:,} put by" if model.parked else ""
        yield f"    {model.model_id}: {model.versions:,} versions{put_by}, {model.size_bytes:,} bytes"
    if len(report.models) > MOST_MODELS:
        yield f"    and {len(report.models) - MOST_MODELS:,} smaller ones (--json has all)"


def _entry_lines(entries: "list[EntryReport]") -> Iterable[str]:
    for entry in entries:
        parts = f" in {entry.parts} parts" if entry.parts else ""
        yield f"    @{entry.offset} {entry.entry}: {entry.kind} v{entry.version}, {entry.size_bytes:,} bytes{parts}"


def _kind_lines(entries: "list[EntryReport]") -> Iterable[str]:
    kinds = sorted({(entry.kind, entry.version or 0) for entry in entries})
    for kind, version in kinds:
        same = [entry for entry in entries if (entry.kind, entry.version or 0) == (kind, version)]
        yield f"    {kind} v{version}: {len(same):,}, {sum(entry.size_bytes for entry in same):,} bytes"


@state_app.command()
def export(
    config: ConfigFile = None,
    bootstrap: Bootstrap = None,
    log: LogFile = None,
    partition: Partition = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Else standard output.")] = None,
) -> None:
    """Write all entries as JSON Lines, decoded: one line for each entry; bytes are base64."""
    with plain_errors():
        import msgspec  # noqa: PLC0415

        from service.cli.state import plain, read_reports  # noqa: PLC0415

        settings = configured(config, bootstrap, log)
        sink = sys.stdout.buffer if out is None else out.open("wb")
        encode = msgspec.json.Encoder().encode

        async def work(carrier: "Log") -> None:
            async for report in read_reports(carrier, settings, partition, payloads=True):
                about = {"partition": report.partition}
                lines = [{"entry": "head", "payload": plain(report.head)}]
                lines += [{"entry": f"cut/{cut.number}", "payload": plain(cut)} for cut in report.cuts]
                lines += [plain(entry) for entry in report.entries]
                sink.writelines(encode({**about, **line}) + b"\n" for line in lines)

        try:
            _with_log(settings, work)
        finally:
            sink.close() if out is not None else sink.flush()


@state_app.command()
def rebuild(
    config: ConfigFile = None,
    bootstrap: Bootstrap = None,
    log: LogFile = None,
    partition: Partition = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Drop tasks' state, so that they are built anew from the inputs; says what that repeats, and asks."""
    with plain_errors():
        from service.cli.state import read_reports  # noqa: PLC0415
        from service.cli.state_rebuild import consequences, drop_state  # noqa: PLC0415

        settings = configured(config, bootstrap, log)

        async def tell(carrier: "Log") -> list[int]:
            chosen = []
            async for report in read_reports(carrier, settings, partition):
                typer.echo("\n".join(consequences(report, settings)))
                chosen.append(report.partition)
            return chosen

        async def drop(carrier: "Log") -> None:
            for number in chosen:
                count = await drop_state(carrier, settings, number)
                typer.echo(f"task {number}: {count:,} records dropped; the service builds it anew when it starts")

        chosen = _with_log(settings, tell)
        if not yes:
            typer.confirm("Drop it?", abort=True)
        _with_log(settings, drop)


def _with_log(settings: "Config", work: Callable[["Log"], Awaitable[T]]) -> T:
    import asyncio  # noqa: PLC0415

    from service.app import open_log  # noqa: PLC0415

    if settings.log.carrier == "sqlite" and not Path(settings.log.sqlite.path).exists():
        raise UsageError(f"{settings.log.sqlite.path}: no such log; `tidegauge run` or `produce` makes one")

    async def opened() -> T:
        async with open_log(settings.log) as carrier:
            return await work(carrier)

    return asyncio.run(opened())
