"""A whole replay: its tasks one after the other, and the directory that holds what came out.

    DIR/run.json                what was replayed, with which configuration, and whether it is finished
    DIR/<kind>.jsonl            alerts, triggers, metrics, dead_letters: the values of the live records, a line each
    DIR/parts/, DIR/state/      while it is under way

Nothing in it depends on the moment or on the speed: the same replay twice gives the same directory.
"""

import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from service.core.settings import CoreSettings
from service.core.task import Task
from service.replay.checkpoint import Checkpoint, Progress
from service.replay.names import RUN_FILE
from service.replay.plan import ReplayPlan, TaskPlan
from service.replay.run import Begun, MakeTask, Origin, Report, TaskReplay, begin, open_origin
from service.replay.sinks import FileSink, Marks, Sink, join_parts
from service.runtime.settings import RuntimeSettings, TopicSettings

RUN_VERSION = 1


class RunError(ValueError):
    """A run's directory cannot be read, or belongs to something else."""


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a run's directory says of itself."""

    version: int = RUN_VERSION
    kind: Literal["replay", "published"] = "replay"
    source: dict[str, Any]
    """The log, or the file and how it is read."""
    plan: ReplayPlan
    config: dict[str, Any]
    finished: bool = False
    records: int = 0
    bad_rows: int = 0


def read_run(directory: Path) -> RunInfo:
    """Read what a run's directory says of itself. Raises RunError."""
    path = directory / RUN_FILE
    try:
        info = msgspec.json.decode(path.read_bytes(), type=RunInfo)
    except OSError as error:
        raise RunError(f"{path}: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise RunError(f"{path}: {error}") from error
    if info.version > RUN_VERSION:
        raise RunError(f"{path}: version {info.version} was written by a newer program; this one knows {RUN_VERSION}")
    return info


def write_run(directory: Path, info: RunInfo) -> None:
    """Write it, all or nothing."""
    path = directory / RUN_FILE
    draft = path.with_suffix(".draft")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(info, order="deterministic"), indent=2) + b"\n")
    draft.replace(path)


class Settings(msgspec.Struct, frozen=True):
    """What the tasks are replayed with."""

    core: CoreSettings
    runtime: RuntimeSettings
    topics: TopicSettings
    """Names of outputs; of inputs the origin knows."""


MakeSink = Callable[[TaskPlan, Marks | None], Awaitable[Sink]]


async def replay_tasks(
    settings: Settings,
    origin: Origin,
    plans: Sequence[TaskPlan],
    make_sink: MakeSink,
    state: Path | None,
    report: Report,
    make_task: MakeTask = Task,
) -> int:
    """Replay tasks one after the other; give how many records there were.

    `state`: where checkpoints are kept; None: there are none. `make_task`: for those who look on.
    Raises what the origin, the sinks and the state raise.
    """
    total = 0
    for plan in plans:
        checkpoint = None if state is None else Checkpoint(state / f"{plan.partition:05d}.sqlite")
        begun = begin(settings.core, origin, plan, checkpoint, make_task)
        if isinstance(begun, Progress):
            total += begun.records
            continue
        total += await _replay(settings, origin, plan, begun, make_sink, checkpoint, report)
    return total


async def _replay(
    settings: Settings,
    origin: Origin,
    plan: TaskPlan,
    begun: Begun,
    make_sink: MakeSink,
    checkpoint: Checkpoint | None,
    report: Report,
) -> int:
    sink = await make_sink(plan, begun.marks)
    try:
        feed = await open_origin(settings.core, origin, plan, begun.task.intake.taken)
        try:
            return await TaskReplay(begun, plan, sink, checkpoint, report).run(
                feed, origin.boundaries.get(plan.partition)
            )
        finally:
            await feed.close()
    finally:
        await sink.close()


def file_sinks(directory: Path, settings: Settings) -> MakeSink:
    """Make sinks that write into a run's directory."""

    async def make(plan: TaskPlan, marks: Marks | None) -> Sink:
        return FileSink(directory, plan.partition, settings.topics, settings.runtime, marks)

    return make


def state_directory(directory: Path) -> Path:
    """Make and name the place of a run's checkpoints."""
    state = directory / "state"
    state.mkdir(exist_ok=True)
    return state


def finish(directory: Path, info: RunInfo, records: int, bad_rows: int = 0) -> RunInfo:
    """Put the tasks' outputs together, and say that the run is finished."""
    join_parts(directory, [plan.partition for plan in info.plan.tasks])
    done = msgspec.structs.replace(info, finished=True, records=records, bad_rows=bad_rows)
    write_run(directory, done)
    shutil.rmtree(directory / "state", ignore_errors=True)
    return done
