"""Replays into files and topics: where they may write, how they are resumed, what they read."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import orjson
import pytest

from service.config import Config
from service.core.intake import Positions
from service.eventlog.memory import MemoryLog
from service.eventlog.protocol import Appender, NewRecord, TopicPartition, TopicSpec
from service.replay import run as run_module
from service.replay.boundaries import BoundariesError, read_boundaries
from service.replay.file_feed import FILE_END, FileRequest
from service.replay.mapping import ColumnMapping
from service.replay.names import OUTPUTS, TargetError, own_topics, prepare_directory
from service.replay.plan import Edge, RangeError, TaskPlan, make_plan, read_edge
from service.replay.run import Origin
from service.replay.session import Settings, file_sinks, replay_tasks, state_directory
from service.replay.sinks import Sink, TopicSink, count_written, join_parts
from service.runtime.changelog import Cut, cut_record
from service.runtime.settings import TaskId
from service.runtime.topics import prepare_topics
from tests.core.stream import START_MS
from tests.replay.live import contents, messy, published, replayed, trickle
from tests.replay.test_law import CONFIG, configuration
from tests.runtime.service import consumed, running

SOURCES = [messy(1200, 3), messy(700, 4)]
SETTINGS = Settings(CONFIG.core, CONFIG.runtime, CONFIG.topics)
PLAIN = configuration()


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    """A log that a live service has worked off."""
    made = MemoryLog(clock_ms=lambda: START_MS + 10**9)

    async def live() -> None:
        await prepare_topics(made, CONFIG.topics, CONFIG.core)
        async with running(made, CONFIG) as worker:
            await trickle(made, CONFIG, SOURCES, seed=1, part=400)
            await consumed(made, CONFIG, worker)

    asyncio.run(live())
    return made


class PlugPulledError(Exception):
    """The plug was pulled."""


class Fragile:
    """A sink that fails after so many writes."""

    def __init__(self, inner: Sink, writes: int) -> None:
        self._inner, self._left = inner, writes

    async def write(self, outputs) -> None:
        self._left -= 1
        if self._left < 0:
            raise PlugPulledError
        await self._inner.write(outputs)

    async def marks(self):
        return await self._inner.marks()

    async def close(self) -> None:
        await self._inner.close()


async def test_a_replay_that_is_interrupted_again_and_again_ends_with_the_same_bytes(
    log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await replayed(log, CONFIG, tmp_path / "whole")
    monkeypatch.setattr(run_module, "CHECKPOINT_RECORDS", 300)
    plan, boundaries = await make_plan(log, CONFIG.topics, Edge("recorded"), Edge("recorded"), "auto", warm_up=False)
    made = file_sinks(tmp_path, SETTINGS)

    async def fragile(task, marks):
        return Fragile(await made(task, marks), 8)

    origin, interruptions, records = Origin(CONFIG.topics.inputs, log, boundaries), 0, None
    monkeypatch.setattr("service.replay.course.BATCH_RECORDS", 150)
    while records is None:
        try:
            records = await replay_tasks(
                SETTINGS, origin, plan.tasks, fragile, state_directory(tmp_path), lambda _: None
            )
        except PlugPulledError:
            interruptions += 1
            assert interruptions < 200
    join_parts(tmp_path, [0, 1])
    assert interruptions > 3
    assert contents(tmp_path) == contents(tmp_path / "whole")


def parts(directory: Path, kind: str) -> list[bytes]:
    return [(directory / "parts" / f"{kind}-{number:05d}.jsonl").read_bytes() for number in (0, 1)]


async def test_with_a_warm_up_a_later_range_gives_the_end_of_what_the_live_service_published(
    log: MemoryLog, tmp_path: Path
) -> None:
    whole, boundaries = await make_plan(log, CONFIG.topics, Edge("recorded"), Edge("recorded"), "auto", warm_up=False)
    later = {task.partition: Positions(*(offset // 2 for offset in task.end)) for task in whole.tasks}
    edge = Edge("offsets", offsets=later)
    plan, _ = await make_plan(log, CONFIG.topics, edge, Edge("recorded"), "auto", warm_up=True)
    assert [task.quiet_until for task in plan.tasks] == [later[0], later[1]]
    origin = Origin(CONFIG.topics.inputs, log, boundaries)
    for name, tasks in (("whole", whole.tasks), ("later", plan.tasks)):
        await replay_tasks(SETTINGS, origin, tasks, file_sinks(tmp_path / name, SETTINGS), None, lambda _: None)
    for kind in OUTPUTS:
        for full, end in zip(parts(tmp_path / "whole", kind), parts(tmp_path / "later", kind), strict=True):
            assert full.endswith(end)
            assert kind != "metrics" or 0 < len(end) < len(full)


async def test_a_replay_into_topics_of_its_own_writes_each_output_once_however_often_it_is_resumed(
    log: MemoryLog, tmp_path: Path
) -> None:
    topics = own_topics(CONFIG.topics, "again")
    target = MemoryLog()
    await target.ensure_topics([TopicSpec(getattr(topics, kind), 2) for kind in OUTPUTS])
    plan, boundaries = await make_plan(log, CONFIG.topics, Edge("recorded"), Edge("recorded"), "auto", warm_up=False)
    for writes in (4, 9, 10**6):

        async def make(task, marks, writes=writes):
            there = await count_written(target, topics, task.partition)
            sink = TopicSink(await target.appender(), task.partition, topics, CONFIG.runtime, there)
            return Fragile(sink, writes)

        settings = msgspec.structs.replace(SETTINGS, topics=topics)
        try:
            await replay_tasks(
                settings, Origin(CONFIG.topics.inputs, log, boundaries), plan.tasks, make, None, lambda _: None
            )
        except PlugPulledError:
            assert writes < 10
    await published(target, msgspec.structs.replace(CONFIG, topics=topics), tmp_path / "topics", 2)
    await replayed(log, CONFIG, tmp_path / "files")
    assert contents(tmp_path / "topics") == contents(tmp_path / "files")


def test_a_replay_never_writes_to_a_live_topic() -> None:
    live = msgspec.structs.replace(CONFIG.topics, alerts="fraud.alerts")
    with pytest.raises(TargetError, match=r"fraud\.alerts belongs to the live service"):
        own_topics(live, "fraud")
    assert own_topics(live, "fraud.replay").alerts == "fraud.replay.alerts"


def test_a_replay_takes_no_directory_that_holds_anything_else(tmp_path: Path) -> None:
    prepare_directory(tmp_path / "new", resume=False)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "love.txt").write_text("dear")
    with pytest.raises(TargetError, match=r"holds love\.txt"):
        prepare_directory(tmp_path / "letters", resume=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(TargetError, match="holds a run already"):
        prepare_directory(tmp_path / "run", resume=False)
    prepare_directory(tmp_path / "run", resume=True)
    with pytest.raises(TargetError, match="is a file"):
        prepare_directory(tmp_path / "letters" / "love.txt", resume=False)


# Ranges ---------------------------------------------------------------------------------------------------------------


def test_edges_are_read_as_people_write_them() -> None:
    assert read_edge("recorded") == Edge("recorded")
    assert read_edge("group:fraud") == Edge("group", group="fraud")
    assert read_edge("2026-05-01T00:00:00Z") == Edge("time", time_ms=1_777_593_600_000)
    assert read_edge("2026-05-01T02:00:00+02:00") == read_edge("1777593600000")
    assert read_edge("offsets:0=1/2/3;1=0/5/6").offsets == {0: Positions(1, 2, 3), 1: Positions(0, 5, 6)}
    for wrong in ("yesterday", "offsets:0=1/2", "group:", ""):
        with pytest.raises(RangeError, match="expected"):
            read_edge(wrong)


async def test_a_range_that_retention_has_cut_into_is_refused_with_the_first_offset_that_is_left() -> None:
    made = MemoryLog(clock_ms=lambda: START_MS)
    await prepare_topics(made, CONFIG.topics, CONFIG.core)
    await trickle(made, CONFIG, SOURCES, seed=1, part=2000)
    made.drop_before(TopicPartition(CONFIG.topics.predictions, 1), 10)
    edge = Edge("offsets", offsets={0: Positions(0, 0, 0), 1: Positions(0, 3, 0)})
    with pytest.raises(RangeError, match=r"predictions\[1\]: the range begins at offset 3, .* before 10"):
        await make_plan(made, CONFIG.topics, edge, Edge("latest"), "auto", warm_up=False)
    plan, _ = await make_plan(made, CONFIG.topics, Edge("earliest"), Edge("latest"), "auto", warm_up=False)
    assert plan.tasks[1].start.predictions == 10
    with pytest.raises(RangeError, match="no order was recorded"):
        await make_plan(made, CONFIG.topics, edge, Edge("latest"), "recorded", warm_up=False)


async def test_ranges_by_time_and_by_group_position_are_those_of_the_log(log: MemoryLog) -> None:
    plan, _ = await make_plan(
        log, CONFIG.topics, Edge("earliest"), Edge("time", time_ms=START_MS + 10**9), "event-time", warm_up=False
    )
    assert all(task.end == Positions(0, 0, 0) for task in plan.tasks)
    inputs = {TopicPartition(topic, number): 40 + number for topic in CONFIG.topics.inputs for number in (0, 1)}
    async with log.membership("somebody", CONFIG.topics.inputs) as member:
        await member.publish_positions(inputs | {TopicPartition(CONFIG.topics.control, 0): 1})
    edge = Edge("group", group="somebody")
    plan, _ = await make_plan(log, CONFIG.topics, Edge("earliest"), edge, "auto", warm_up=False, only=0)
    assert [task.end for task in plan.tasks] == [Positions(1, 40, 40)]
    with pytest.raises(RangeError, match="group 'nobody' has no committed positions"):
        await make_plan(log, CONFIG.topics, Edge("group", group="nobody"), Edge("latest"), "auto", warm_up=False)


# Recorded steps -------------------------------------------------------------------------------------------------------


async def write_cuts(made: MemoryLog, cuts: list[Cut]) -> None:
    await made.ensure_topics([TopicSpec(CONFIG.topics.steps, 1)])
    appender = await made.appender()
    await appender.append([cut_record(CONFIG.topics, TaskId("t", "g", 0), cut) for cut in cuts])


def cut(number: int, start: int, *ends: int) -> Cut:
    return Cut(number, Positions(0, start, 0), tuple(Positions(0, end, 0) for end in ends), 0)


async def test_a_lost_commit_is_an_error_that_names_it() -> None:
    made = MemoryLog()
    await write_cuts(made, [cut(1, 0, 5), cut(3, 9, 12)])
    with pytest.raises(BoundariesError, match=r"commit 3 begins at .*, but commit 1 ended"):
        await read_boundaries(made, CONFIG.topics, 0)


async def test_of_a_task_that_was_begun_anew_the_last_run_counts() -> None:
    made = MemoryLog()
    await write_cuts(made, [cut(1, 0, 5, 7), cut(2, 7, 9), cut(1, 4, 6), cut(2, 6, 8)])
    found = await read_boundaries(made, CONFIG.topics, 0)
    assert found is not None
    assert (found.start.predictions, found.ends[:, 1].tolist()) == (4, [6, 8])
    assert await read_boundaries(made, CONFIG.topics, 1) is None


# Files ----------------------------------------------------------------------------------------------------------------


async def run_file(path: Path, directory: Path, config: Config, **options: object) -> list[object]:
    mapping = ColumnMapping(model_id="m", prediction="said", label="truth", time="at")
    refused: list[object] = []
    request = FileRequest(path=str(path), mapping=mapping, **options)
    plan = TaskPlan(partition=0, start=Positions(0, 0, 0), end=Positions(0, FILE_END, FILE_END))
    settings = Settings(config.core, config.runtime, config.topics)
    directory.mkdir()  # noqa: ASYNC240  # a test may wait
    origin = Origin(config.topics.inputs, file=request, refuse=refused.append)
    await replay_tasks(settings, origin, [plan], file_sinks(directory, settings), None, lambda _: None)
    join_parts(directory, [0])
    return refused


class Timely(MemoryLog):
    """A log into which each event is written when it happens."""

    async def appender(self) -> "Stamping":
        return Stamping(await super().appender())


class Stamping:
    def __init__(self, appender: Appender) -> None:
        self._appender = appender

    async def append(self, records: Sequence[NewRecord]) -> None:
        times = [orjson.loads(record.value or b"{}").get("event_time_ms") for record in records]
        stamped = [record._replace(timestamp_ms=time) for record, time in zip(records, times, strict=True)]
        await self._appender.append(stamped)

    async def close(self) -> None:
        await self._appender.close()


def write_csv(path: Path, rows: int) -> None:
    lines = ["at,said,truth,x"]
    for number in range(rows):
        wrong = number % 10 == 0 if number < rows // 2 else number % 2 == 0
        lines.append(f"{START_MS + number * 1000},{'a' if wrong else 'b'},b,{number % 17 + (9 if wrong else 0)}")
    lines[5] = "not,a,row"
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("delay", [{"label_delay_events": 70}, {"label_delay_ms": 45_000}], ids=["events", "time"])
async def test_a_file_replays_to_the_bytes_of_the_topics_that_it_is_produced_into(
    tmp_path: Path, delay: dict[str, int]
) -> None:
    from service.cli.produce import ProduceRequest, produce
    from service.replay.sources import Source

    write_csv(tmp_path / "rows.csv", 2500)
    refused = await run_file(tmp_path / "rows.csv", tmp_path / "file", PLAIN, **delay)
    assert len(refused) == 1
    made = Timely(clock_ms=lambda: START_MS + 10**9)
    topics = msgspec.structs.replace(CONFIG.topics, partitions=1)
    config = msgspec.structs.replace(PLAIN, topics=topics)
    await prepare_topics(made, topics, config.core)
    mapping = ColumnMapping(model_id="m", prediction="said", label="truth", time="at")
    request = ProduceRequest(source=Source(tmp_path / "rows.csv"), mapping=mapping, **delay)
    await produce(request, await made.appender(), topics, 1, lambda *_: None)
    await replayed(made, config, tmp_path / "topics")
    topics_said, file_said = contents(tmp_path / "topics"), contents(tmp_path / "file")
    covered, metrics = topics_said.pop("metrics"), file_said.pop("metrics")
    assert topics_said == file_said
    # A file has an end, and with it a snapshot of the rows behind the last one; a topic goes on.
    assert metrics.startswith(covered)
    (last,) = metrics.removeprefix(covered).splitlines()
    told = orjson.loads(last)
    assert told["predictions_total"] == 2499
    assert told["outcomes_total"] == 2499
    assert told["interval_start_ms"] == orjson.loads(covered.splitlines()[-1])["event_time_ms"]
    assert contents(tmp_path / "file")["alerts"]
