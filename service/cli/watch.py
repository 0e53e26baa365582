"""`tidegauge watch`: what the service publishes, for people and for programs."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Final

import msgspec
import orjson
from rich.console import Console

from schemas.cloudevents import MessageError, from_message
from schemas.outputs import Output
from service.cli.errors import UsageError
from service.cli.following import Entry, follow
from service.cli.render import render, show
from service.eventlog.protocol import Log
from service.runtime.settings import TopicSettings

KINDS: Final = ("alerts", "triggers", "metrics", "dead_letters")
LOOK_AGAIN_S: Final = 1.0


class WatchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be shown."""

    kinds: tuple[str, ...]
    from_beginning: bool
    follow: bool
    as_json: bool
    model_id: str | None = None


async def watch_log(request: WatchRequest, log: Log, topics: TopicSettings, console: Console) -> int:
    """Print outputs as they come; give how many. Raises UsageError or LogError."""
    names = [str(getattr(topics, kind)) for kind in request.kinds]
    await _present(log, names, wait=request.follow)
    shown = 0
    async for entry in follow(log, names, from_beginning=request.from_beginning, forever=request.follow):
        try:
            output = from_message(entry.headers, entry.value)
        except MessageError as error:
            where = f"{entry.topic}[{entry.partition}] offset {entry.offset}"
            sys.stderr.write(f"tidegauge: {where}: {error}\n")
            continue
        if request.model_id is not None and output.model_id != request.model_id:
            continue
        shown += 1
        if request.as_json:
            sys.stdout.write(_as_json(entry, output))
            sys.stdout.flush()
        else:
            show(console, render(output))
    return shown


async def _present(log: Log, names: Sequence[str], *, wait: bool) -> None:
    """Wait for topics that a service is yet to create, or say that they are missing."""
    told = False
    while missing := sorted(set(names) - set(await log.partitions(names))):
        if not wait:
            raise UsageError(f"no such topics: {', '.join(missing)}; has `tidegauge run` been started on this log?")
        if not told:
            sys.stderr.write(f"tidegauge: waiting for topics: {', '.join(missing)}\n")
            told = True
        await asyncio.sleep(LOOK_AGAIN_S)


def _as_json(entry: Entry, output: Output) -> str:
    line = {
        "type": type(output).__name__,
        "topic": entry.topic,
        "partition": entry.partition,
        "offset": entry.offset,
        "data": msgspec.to_builtins(output),
    }
    return orjson.dumps(line).decode() + "\n"
