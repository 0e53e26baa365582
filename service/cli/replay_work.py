"""What the command `replay` does."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import orjson
from rich.console import Console

from schemas.cloudevents import default_source
from schemas.outputs import Output
from service.app import open_log
from service.cli.errors import UsageError
from service.cli.render import render, show
from service.cli.replay_jobs import run_jobs
from service.cli.replay_options import Given
from service.cli.replay_progress import Meter, replay_progress
from service.cli.replay_sources import Opened, opened
from service.config import Config, parse_config
from service.config import shown as shown_config
from service.eventlog.protocol import TopicSpec
from service.replay.compare import Verification, compare_runs
from service.replay.names import OUTPUTS, own_topics, prepare_directory
from service.replay.plan import TaskPlan
from service.replay.published import LeftOut, write_published
from service.replay.run import Report, shown
from service.replay.session import (
    RunInfo,
    Settings,
    file_sinks,
    finish,
    read_run,
    replay_tasks,
    state_directory,
    write_run,
)
from service.replay.sinks import CallSink, Marks, Sink, TopicSink, count_written, join_parts


class ReplayRequest(NamedTuple):
    """What is asked of `replay`."""

    given: Given
    out: Path | None
    to_topics: str | None
    resume: bool
    published: bool
    verify: bool
    jobs: int | None
    as_json: bool


class ReplaySummary(NamedTuple):
    """What came of it."""

    records: int
    elapsed_s: float
    ranges: list[str]
    outputs: dict[str, int]
    verification: Verification | None = None
    bad_rows: int = 0

    def as_json(self) -> dict[str, Any]:
        """Give it as plain data."""
        rate = self.records / self.elapsed_s if self.elapsed_s else 0.0
        return {
            "records": self.records,
            "elapsed_s": round(self.elapsed_s, 3),
            "records_per_second": round(rate),
            "ranges": self.ranges,
            "outputs": self.outputs,
            "bad_rows": self.bad_rows,
            "verification": None if self.verification is None else _told(self.verification),
        }

    def as_text(self) -> str:
        """Say it in words."""
        rate = self.records / self.elapsed_s if self.elapsed_s else 0.0
        lines = [f"{self.records:,} records in {self.elapsed_s:.1f} s, {rate:,.0f} a second", *self.ranges]
        if self.outputs:
            lines.append(", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in self.outputs.items()))
        if self.bad_rows:
            lines.append(f"{self.bad_rows:,} rows of the file could not be used")
        if self.verification is not None:
            lines.extend(self.verification.lines())
        return "".join(f"{line}\n" for line in lines)


def _told(verification: Verification) -> dict[str, Any]:
    return {
        "holds": verification.holds,
        "kinds": [kind._asdict() for kind in verification.kinds],
        "not_compared": verification.apart,
    }


async def run_replay(config: Config, request: ReplayRequest) -> ReplaySummary:
    """Do what is asked. Raises the errors that people can mend."""
    if request.published:
        return await _write_published(config, request)
    if request.out is not None:
        return await _into_files(config, request, request.out)
    if request.to_topics is not None:
        return await _into_topics(config, request, request.to_topics)
    return await _to_terminal(config, request)


# Files ----------------------------------------------------------------------------------------------------------------


async def _into_files(config: Config, request: ReplayRequest, directory: Path) -> ReplaySummary:
    prepare_directory(directory, resume=request.resume)
    meter = Meter()
    async with opened(config, request.given) as source:
        info = _begin(config, request, directory, source)
        ranges = [shown(plan) for plan in info.plan.tasks]
        with replay_progress(meter) as report:
            if not info.finished:
                records = await run_tasks(config, source, info, directory, request.jobs, report)
                info = finish(directory, info, records, source.bad_rows.count)
    verification = await _verify(config, directory, info) if request.verify else None
    return ReplaySummary(info.records, meter.elapsed_s, ranges, count_lines(directory), verification, info.bad_rows)


def _begin(config: Config, request: ReplayRequest, directory: Path, source: Opened) -> RunInfo:
    plain = shown_config(config)
    if request.resume and (directory / "run.json").exists():
        info = read_run(directory)
        if info.config != plain or info.source != _as_read(source.source):
            raise UsageError(f"{directory}: was begun with another configuration or source, and so cannot be resumed")
        return info
    info = RunInfo(source=source.source, plan=source.plan, config=plain)
    write_run(directory, info)
    return info


def _as_read(plain: dict[str, Any]) -> dict[str, Any]:
    """Give plain data as it is when it is read back: lists, where tuples went in."""
    read: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(plain))
    return read


async def run_tasks(
    config: Config, source: Opened, info: RunInfo, directory: Path, jobs: int | None, report: Report
) -> int:
    """Replay all tasks of a run, in so many processes at a time; give how many records there were."""
    settings = Settings(config.core, config.runtime, config.topics)
    state = state_directory(directory)
    if len(info.plan.tasks) > 1 and jobs != 1:
        return await run_jobs(directory, info.plan.tasks, jobs, report)
    return await replay_tasks(settings, source.origin, info.plan.tasks, file_sinks(directory, settings), state, report)


async def replay_one(directory: Path, partition: int, report: Report) -> int:
    """Replay one task of a run that was begun: what a process of its own does."""
    info = read_run(directory)
    config = parse_config(info.config)
    plan = next((plan for plan in info.plan.tasks if plan.partition == partition), None)
    if plan is None:
        raise UsageError(f"{directory}: there is no task {partition}")
    order = "auto" if plan.recorded else "event-time"
    given: Given = {"file": None, "from_": "recorded", "to": "recorded", "order": order, "warm_up": False}
    async with opened(config, given, partition) as source:
        settings = Settings(config.core, config.runtime, config.topics)
        sinks, state = file_sinks(directory, settings), state_directory(directory)
        return await replay_tasks(settings, source.origin, [plan], sinks, state, report)


def count_lines(directory: Path) -> dict[str, int]:
    """Count the outputs of a run by kind."""
    counts = {}
    for kind in OUTPUTS:
        with (directory / f"{kind}.jsonl").open("rb") as file:
            counts[kind] = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    return counts


# What was published ---------------------------------------------------------------------------------------------------


async def _write_published(config: Config, request: ReplayRequest) -> ReplaySummary:
    directory, meter = request.out or Path(), Meter()
    prepare_directory(directory, resume=False)
    async with opened(config, request.given) as source:
        plain = shown_config(config)
        info = RunInfo(kind="published", source=source.source, plan=source.plan, config=plain)
        write_run(directory, info)
    await _collect(config, directory, info)
    write_run(directory, msgspec.structs.replace(info, finished=True))
    return ReplaySummary(0, meter.elapsed_s, [], count_lines(directory))


async def _collect(config: Config, directory: Path, info: RunInfo) -> list[LeftOut]:
    partitions = [plan.partition for plan in info.plan.tasks]
    async with open_log(config.log) as log:
        name = default_source(config.runtime.name)
        left_out = await write_published(log, config.topics, name, directory, max(partitions) + 1)
    join_parts(directory, partitions)
    return [part for part in left_out if part.where.partition in partitions]


async def _verify(config: Config, directory: Path, info: RunInfo) -> Verification:
    published = directory / "published"
    published.mkdir(exist_ok=True)  # nothing else waits
    left_out = await _collect(config, published, info)
    apart = [why for part in left_out for why in part.words]
    apart += [
        f"task {plan.partition} follows no recorded steps: inputs were merged by event time, and bytes may differ"
        for plan in info.plan.tasks
        if not plan.recorded
    ]
    return Verification(compare_runs(directory, published), apart)


# Topics and terminal --------------------------------------------------------------------------------------------------


async def _into_topics(config: Config, request: ReplayRequest, prefix: str) -> ReplaySummary:
    topics = own_topics(config.topics, prefix)
    settings, meter = Settings(config.core, config.runtime, topics), Meter()
    async with opened(config, request.given) as source, open_log(config.log) as target:
        partitions = max(plan.partition for plan in source.plan.tasks) + 1
        names = [getattr(topics, kind) for kind in OUTPUTS]
        there = await target.partitions(names)
        if there and not request.resume:
            raise UsageError(f"{', '.join(sorted(there))}: exists; name another prefix, or go on with --resume")
        await target.ensure_topics([TopicSpec(name, partitions) for name in names])

        async def make(plan: TaskPlan, _: Marks | None) -> Sink:
            written = await count_written(target, topics, plan.partition)
            return TopicSink(await target.appender(), plan.partition, topics, config.runtime, written)

        with replay_progress(meter) as report:
            records = await replay_tasks(settings, source.origin, source.plan.tasks, make, None, report)
        counts = dict.fromkeys(OUTPUTS, 0)
        for plan in source.plan.tasks:
            for kind, count in (await count_written(target, topics, plan.partition)).items():
                counts[kind] += count
    ranges = [shown(plan) for plan in source.plan.tasks]
    return ReplaySummary(records, meter.elapsed_s, ranges, counts, None, source.bad_rows.count)


async def _to_terminal(config: Config, request: ReplayRequest) -> ReplaySummary:
    settings, meter, console = Settings(config.core, config.runtime, config.topics), Meter(), Console(highlight=False)

    def take(outputs: Sequence[Output]) -> None:
        for output in outputs:
            if request.as_json:
                line = {"type": type(output).__name__, "data": msgspec.to_builtins(output)}
                sys.stdout.write(orjson.dumps(line).decode() + "\n")
            else:
                show(console, render(output))

    async def make(plan: TaskPlan, marks: Marks | None) -> Sink:  # noqa: ARG001  # the terminal takes all alike
        return CallSink(take)

    async with opened(config, request.given) as source:
        records = await replay_tasks(settings, source.origin, source.plan.tasks, make, None, meter.take)
        ranges = [shown(plan) for plan in source.plan.tasks]
    return ReplaySummary(records, meter.elapsed_s, ranges, {}, None, source.bad_rows.count)
