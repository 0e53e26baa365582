"""What is to be replayed: a range of each task's inputs, fixed before anything is read, so that it can be resumed."""

import datetime as dt
import re
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from service.core.intake import Positions, Role
from service.eventlog.protocol import Log, TopicPartition
from service.replay.boundaries import Boundaries, read_boundaries
from service.runtime.settings import TopicSettings

Order = Literal["auto", "recorded", "event-time"]


class RangeError(ValueError):
    """A range that cannot be replayed; the message says why."""


class Edge(msgspec.Struct, frozen=True):
    """One edge of a range, as a person names it."""

    kind: Literal["recorded", "earliest", "latest", "time", "group", "offsets"]
    time_ms: int = 0
    """kind time: records written at or after it lie behind the edge."""
    group: str = ""
    offsets: dict[int, Positions] = {}
    """kind offsets: partition to positions."""


class TaskPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The range of one task."""

    partition: int
    start: Positions
    end: Positions
    quiet_until: Positions | None = None
    """Outputs of steps that end before it are not written: they only bring the state to where the range begins."""
    recorded: bool = False
    """Whether the steps of the live run are followed; else inputs are merged by event time."""
    partitions: int = 1
    """Of each input, when the plan was made; the live service refuses to run with another number."""


class ReplayPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The ranges of all tasks."""

    version: Annotated[int, Meta(description="of this layout")] = 1
    tasks: tuple[TaskPlan, ...]


_OFFSETS = re.compile(r"(\d+)=(\d+)/(\d+)/(\d+)")


def read_edge(text: str) -> Edge:
    """Read recorded, earliest, latest, group:NAME, offsets:P=CONTROL/PREDICTIONS/LABELS;P=..., or a time.

    A time is ISO 8601 (UTC where it has no offset) or milliseconds since 1970. Raises RangeError.
    """
    kind, _, rest = text.partition(":")
    if text in ("recorded", "earliest", "latest"):
        return Edge(text)  # type: ignore[arg-type]  # one of the three, as the condition says
    if kind == "group" and rest:
        return Edge("group", group=rest)
    if kind == "offsets":
        found = {}
        for part in rest.split(";"):
            match = _OFFSETS.fullmatch(part.strip())
            if match is None:
                raise RangeError(f"{text}: expected offsets:PARTITION=CONTROL/PREDICTIONS/LABELS;...")
            found[int(match[1])] = Positions(int(match[2]), int(match[3]), int(match[4]))
        return Edge("offsets", offsets=found)
    try:
        return Edge("time", time_ms=int(text) if text.isdecimal() else _instant_ms(text))
    except ValueError as error:
        raise RangeError(
            f"{text}: expected recorded, earliest, latest, group:NAME, offsets:..., or a time (ISO 8601, or "
            "milliseconds since 1970)"
        ) from error


def _instant_ms(text: str) -> int:
    moment = dt.datetime.fromisoformat(text)
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)
    return (aware - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)


class Extents(NamedTuple):
    """What a task's inputs hold now."""

    begin: Positions
    end: Positions


async def make_plan(
    log: Log,
    topics: TopicSettings,
    start: Edge,
    end: Edge,
    order: Order,
    *,
    warm_up: bool,
    only: int | None = None,
) -> tuple[ReplayPlan, dict[int, Boundaries]]:
    """Fix the range of every task, or of one. Raises RangeError or LogError.

    `warm_up`: begin where the live service began, without outputs until `start`, so that the state there is its own.
    """
    counts = await log.partitions(topics.inputs)
    missing = [name for name in topics.inputs if name not in counts]
    if missing:
        raise RangeError(f"no such topics: {', '.join(missing)}")
    tasks: list[TaskPlan] = []
    recorded: dict[int, Boundaries] = {}
    for partition in range(min(counts.values())) if only is None else [only]:
        steps = None if order == "event-time" else await read_boundaries(log, topics, partition)
        if steps is None and order == "recorded":
            raise RangeError(f"task {partition}: {topics.steps} holds no steps, so no order was recorded")
        if steps is None and warm_up:
            raise RangeError(f"task {partition}: --warm-up follows the live run's recorded steps, and there are none")
        if steps is not None:
            recorded[partition] = steps
        task = await _plan_task(log, topics, partition, (start, end), steps, warm_up=warm_up)
        tasks.append(msgspec.structs.replace(task, partitions=min(counts.values())))
    return ReplayPlan(tasks=tuple(tasks)), recorded


async def _plan_task(
    log: Log,
    topics: TopicSettings,
    partition: int,
    edges: tuple[Edge, Edge],
    steps: Boundaries | None,
    *,
    warm_up: bool,
) -> TaskPlan:
    inputs = {role: TopicPartition(topic, partition) for role, topic in zip(Role, topics.inputs, strict=True)}
    extents = await _extents(log, inputs)
    first, last = edges
    start = await _resolve(log, inputs, first, extents, extents.begin if steps is None else steps.start)
    end = await _resolve(log, inputs, last, extents, extents.end if steps is None else steps.end)
    end = Positions(*map(max, start, end))
    quiet = None
    if warm_up and steps is not None and steps.start != start:
        quiet, start = start, steps.start
    _check(topics, partition, start, end, extents)
    return TaskPlan(partition=partition, start=start, end=end, quiet_until=quiet, recorded=steps is not None)


async def _extents(log: Log, inputs: Mapping[Role, TopicPartition]) -> Extents:
    reader = await log.reader(dict.fromkeys(inputs.values(), 0))
    try:
        begins, ends = await reader.begin_offsets(), await reader.end_offsets()
    finally:
        await reader.close()
    return Extents(*(Positions(*(found[inputs[role]] for role in Role)) for found in (begins, ends)))


async def _resolve(
    log: Log, inputs: Mapping[Role, TopicPartition], edge: Edge, extents: Extents, recorded: Positions
) -> Positions:
    if edge.kind == "recorded":
        return recorded
    if edge.kind in ("earliest", "latest"):
        return extents.begin if edge.kind == "earliest" else extents.end
    partition = inputs[Role.CONTROL].partition
    if edge.kind == "offsets":
        if partition not in edge.offsets:
            raise RangeError(f"offsets: nothing is said of partition {partition}")
        return edge.offsets[partition]
    if edge.kind == "time":
        found = await log.offsets_for_time(list(inputs.values()), edge.time_ms)
    else:
        found = await log.group_positions(edge.group, list(inputs.values()))
        if len(found) < len(inputs):
            raise RangeError(f"group {edge.group!r} has no committed positions for partition {partition}")
    return Positions(*(found[inputs[role]] for role in Role))


def _check(topics: TopicSettings, partition: int, start: Positions, end: Positions, extents: Extents) -> None:
    for role, topic in zip(Role, topics.inputs, strict=True):
        if start[role] < extents.begin[role] and start[role] < end[role]:
            raise RangeError(
                f"{topic}[{partition}]: the range begins at offset {start[role]}, but retention has deleted what lies "
                f"before {extents.begin[role]}; name a later --from"
            )
        if end[role] > extents.end[role]:
            raise RangeError(f"{topic}[{partition}]: the range ends at {end[role]}, the topic at {extents.end[role]}")
