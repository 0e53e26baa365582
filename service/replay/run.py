"""Replays one task: from its feed through the core into its sink, with checkpoints on the way."""

from collections.abc import AsyncIterator, Callable
from typing import Final, NamedTuple

from service.core.effects import StepResult
from service.core.intake import Positions
from service.core.partitioning import Partitioner
from service.core.placement import Placement
from service.core.prepare import TaskTopics
from service.core.settings import CoreSettings
from service.core.task import Task
from service.eventlog.protocol import Log
from service.replay.boundaries import Boundaries
from service.replay.checkpoint import Checkpoint, Progress
from service.replay.course import clipped, merged, quiet_steps, recorded
from service.replay.feed import Feed, LogFeed, open_feed
from service.replay.file_feed import FILE_END, FileFeed, FileRequest
from service.replay.plan import TaskPlan
from service.replay.sinks import Marks, Sink
from service.replay.sources import BadRow

CHECKPOINT_RECORDS: Final = 500_000
"""Records between two checkpoints: about 10 s of work, which is what an interruption may cost."""


class Origin(NamedTuple):
    """Where the records come from: a log, or a file."""

    topics: tuple[str, str, str]
    """Names of the inputs in rank order: for dead letters and training windows, also where a file takes their place."""
    log: Log | None = None
    boundaries: dict[int, Boundaries] = {}  # noqa: RUF012  # nobody writes to it
    file: FileRequest | None = None
    refuse: Callable[[BadRow], None] = lambda _: None
    """Told of each row of the file that cannot be used."""
    rule: Partitioner | None = "murmur2"
    """By which producers chose partitions; None: not judged."""


class Status(NamedTuple):
    """How far a task's replay is."""

    partition: int
    records: int
    done: int
    total: int
    """Unit of `done`: records of a log, bytes or rows of a file."""


Report = Callable[[Status], None]


class Begun(NamedTuple):
    """A task as a checkpoint left it, or a new one."""

    task: Task
    records: int
    marks: Marks | None


MakeTask = Callable[[CoreSettings, TaskTopics, Positions], Task]


def begin(
    core: CoreSettings, origin: Origin, plan: TaskPlan, checkpoint: Checkpoint | None, make_task: MakeTask = Task
) -> Begun | Progress:
    """Make the task of a plan; Progress where a checkpoint says that it is finished."""
    topics = TaskTopics(*origin.topics, partition=plan.partition)
    found = None if checkpoint is None else checkpoint.load()
    if found is None:
        return Begun(make_task(core, topics, plan.start), 0, None)
    progress, entries = found
    if progress.finished:
        return progress
    return Begun(Task.restore(core, topics, progress.positions, entries), progress.records, progress.marks)


async def open_origin(core: CoreSettings, origin: Origin, plan: TaskPlan, at: Positions) -> Feed:
    """Open the feed of a task that stands at `at`. Raises LogError, SourceError or MappingError."""
    if origin.file is not None:
        return FileFeed(origin.file, core, origin.refuse)
    if origin.log is None:
        raise ValueError("an origin is a log or a file")
    placement = Placement(plan.partition, plan.partitions, origin.rule)
    return await open_feed(origin.log, origin.topics, placement, at, core)


def steps_of(task: Task, feed: Feed, plan: TaskPlan, boundaries: Boundaries | None) -> AsyncIterator[StepResult]:
    """Give the steps of a task from where it stands to the end of its plan."""
    if boundaries is not None and plan.recorded and isinstance(feed, LogFeed):
        return _recorded(task, feed, plan, boundaries)
    return merged(task, feed, plan.end)


async def _recorded(task: Task, feed: LogFeed, plan: TaskPlan, boundaries: Boundaries) -> AsyncIterator[StepResult]:
    ends = clipped(boundaries.ends, task.intake.taken, plan.end)
    # Steps that are quiet are never taken together with those that are not.
    quiet = 0 if plan.quiet_until is None else quiet_steps(ends, plan.quiet_until)
    for part in (ends[:quiet], ends[quiet:]):
        async for result in recorded(task, feed, part, boundaries.verdicts):
            yield result


class TaskReplay:
    """One task on its way through its plan."""

    def __init__(self, begun: Begun, plan: TaskPlan, sink: Sink, checkpoint: Checkpoint | None, report: Report) -> None:
        self._task = begun.task
        self._plan = plan
        self._sink = sink
        self._checkpoint = checkpoint
        self._report = report
        self._records = begun.records
        self._saved_at = begun.records

    async def run(self, feed: Feed, boundaries: Boundaries | None) -> int:
        """Replay to the end of the plan; give how many records there were. Raises what the feed and the sink raise."""
        async for result in steps_of(self._task, feed, self._plan, boundaries):
            self._records += result.records
            if not self._is_quiet(result.end):
                await self._sink.write(result.outputs)
            self._report(self._status(feed))
            if self._records - self._saved_at >= CHECKPOINT_RECORDS:
                await self._save(finished=False)
        if isinstance(feed, FileFeed):  # a topic goes on, and its service would say nothing here
            await self._sink.write(self._task.finish())
        await self._save(finished=True)
        self._report(self._status(feed))
        return self._records

    def _is_quiet(self, end: Positions) -> bool:
        until = self._plan.quiet_until
        return until is not None and all(have <= want for have, want in zip(end, until, strict=True))

    def _status(self, feed: Feed) -> Status:
        if isinstance(feed, FileFeed):
            done, total = feed.progress()
        else:
            done = sum(self._task.intake.taken) - sum(self._plan.start)
            total = sum(self._plan.end) - sum(self._plan.start)
        return Status(self._plan.partition, self._records, done, total)

    async def _save(self, *, finished: bool) -> None:
        if self._checkpoint is None:
            return
        progress = Progress(
            positions=self._task.intake.taken, records=self._records, marks=await self._sink.marks(), finished=finished
        )
        self._checkpoint.save(progress, {} if finished else self._task.changed_state())
        self._saved_at = self._records


def shown(plan: TaskPlan) -> str:
    """Say a plan's range in words."""
    spans = ", ".join(
        f"{name} {first:,} to {last:,}"
        for name, first, last in zip(Positions._fields, plan.start, plan.end, strict=True)
    )
    if plan.end.predictions == FILE_END:
        return "the whole file"
    order = "in the recorded order" if plan.recorded else "merged by event time"
    return f"task {plan.partition}: {spans}, {order}"
