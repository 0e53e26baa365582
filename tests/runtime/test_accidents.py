"""What must never be answered with silently wrong state: each is found, said clearly, and left to a person."""

import asyncio

import msgspec
import pytest

from service.app import make_worker
from service.cli.state_rebuild import drop_state
from service.config import Config
from service.core.intake import Positions, Role
from service.core.state import CorruptStateError, NewerStateError, decode_entry, encode_entry
from service.core.task_state import VERSIONS
from service.eventlog.errors import OffsetOutOfRangeError, TopicError
from service.eventlog.memory import MemoryLog, NoFaults
from service.eventlog.protocol import Chunk, Log, NewRecord, TopicPartition, TopicSpec
from service.runtime.changelog import ENTRY_PREFIX, HEAD_KEY, head_of, read_records
from service.runtime.inputs_check import InputLostError, MarkBook, Marks, check_inputs, explained
from service.runtime.stats import TaskStats
from service.runtime.topics import prepare_topics
from tests.core.stream import Source, drifting
from tests.eventlog.conftest import Carrier, carrier
from tests.runtime.service import consumed, fast, outputs_of, publish, running
from tests.runtime.test_service import config, output_topics
from tests.runtime.waiting import failure, until

__all__ = ["carrier", "config"]

SOURCE = drifting(400, 200)
INPUTS = {role: TopicPartition(role.name.lower(), 0) for role in Role}


async def monitored(log: Log, config: Config, source: Source = SOURCE) -> None:
    """Let a service read a source and stop gracefully."""
    await prepare_topics(log, config.topics, config.core)
    await publish(log, config, source)
    async with running(log, config) as worker:
        await consumed(log, config, worker)


async def refusal(log: Log, config: Config, partition: int = 0) -> str:
    """Start the service; give the error with which its task stays failed."""
    async with running(log, config) as worker:
        return await failure(worker, partition)


async def recreate(carrier: Carrier, topic: str) -> None:
    """Delete a topic and make it anew, empty."""
    if isinstance(carrier.log, MemoryLog):
        carrier.log.delete_topic(topic)
        await carrier.log.ensure_topics([TopicSpec(topic, 1)])
    elif carrier.kind == "sqlite":
        await carrier.log.writing.run(empty, topic)  # type: ignore[attr-defined]  # it is the embedded log
    else:
        await delete_topic(carrier, topic)


def empty(db, topic: str) -> None:
    from service.eventlog.sqlite.schema import OFFSET_BITS

    ((part,),) = db.execute("SELECT id FROM partitions WHERE topic = ?", (topic,)).fetchall()
    db.execute("DELETE FROM records WHERE id >= ? AND id < ?", (part << OFFSET_BITS, (part + 1) << OFFSET_BITS))
    db.execute("DELETE FROM time_marks WHERE partition_id = ?", (part,))
    db.execute("UPDATE partitions SET begin_offset = 0, end_offset = 0, max_timestamp_ms = -1 WHERE id = ?", (part,))


async def delete_topic(carrier: Carrier, topic: str) -> None:
    from aiokafka.admin import AIOKafkaAdminClient

    admin = AIOKafkaAdminClient(bootstrap_servers=carrier.log._settings.bootstrap_servers[0])
    await admin.start()
    try:
        await admin.delete_topics([topic])
    finally:
        await admin.close()
    async with asyncio.timeout(20):
        while await carrier.log.partitions([topic]):  # noqa: ASYNC110  # the broker tells nobody
            await asyncio.sleep(0.05)
    await carrier.log.ensure_topics([TopicSpec(topic, 1)])


# Inputs ------------------------------------------------------------------------------------------------------------


async def test_input_that_retention_deleted_before_it_was_read_stops_the_task(carrier: Carrier, config: Config) -> None:
    await monitored(carrier.log, config)
    await publish(carrier.log, config, drifting(100, 50, seed=2))
    where = TopicPartition(config.topics.predictions, 0)
    await carrier.drop_before(where, 450)
    before = await outputs_of(carrier.log, output_topics(config))
    error = await refusal(carrier.log, config)
    assert f"{where.topic}[0] begins at 450, but the task has read up to 400: retention deleted 50 records" in error
    assert "tidegauge state rebuild" in error
    assert await outputs_of(carrier.log, output_topics(config)) == before


async def test_input_that_was_read_may_be_deleted(carrier: Carrier, config: Config) -> None:
    await monitored(carrier.log, config)
    await carrier.drop_before(TopicPartition(config.topics.predictions, 0), 400)
    await carrier.drop_before(TopicPartition(config.topics.labels, 0), 250)
    await monitored(carrier.log, config, drifting(20, 10, seed=2))


async def test_a_topic_recreated_with_fewer_offsets_is_found(carrier: Carrier, config: Config) -> None:
    await monitored(carrier.log, config)
    await recreate(carrier, config.topics.labels)
    error = await refusal(carrier.log, config)
    assert f"{config.topics.labels}[0] ends at 0, but the task has read up to 400: the topic was recreated" in error


async def test_a_topic_recreated_and_filled_with_as_many_records_is_found(carrier: Carrier, config: Config) -> None:
    await monitored(carrier.log, config)
    await recreate(carrier, config.topics.predictions)
    other = drifting(500, 250, seed=3)
    await publish(carrier.log, config, Source([], other.predictions, []))
    error = await refusal(carrier.log, config)
    assert f"{config.topics.predictions}[0]: the record at 399" in error
    assert "is not the one that the task has read: the topic was recreated" in error


async def filled(*lengths: int, timestamp_ms: int = 5) -> MemoryLog:
    log = MemoryLog()
    await log.ensure_topics([TopicSpec(where.topic, 1) for where in INPUTS.values()])
    appender = await log.appender()
    for where, length in zip(INPUTS.values(), lengths, strict=True):
        records = [NewRecord(where.topic, 0, None, b"%d" % n, (), timestamp_ms) for n in range(length)]
        await appender.append(records)
    return log


async def marks_of(log: MemoryLog, positions: Positions) -> Marks:
    book = MarkBook()
    for role, where in INPUTS.items():
        for chunk in await (await log.reader({where: 0})).fetch(max_records=7, wait_ms=0):
            book.note(role, chunk)
    return book.before(positions)


async def test_records_that_must_be_read_again_to_recover_are_missed_when_they_are_gone() -> None:
    log = await filled(0, 100, 100)
    log.drop_before(INPUTS[Role.LABELS], 60)
    begun = Positions(0, 50, 50)
    with pytest.raises(InputLostError, match=r"labels\[0\] begins at 60, but the state is that of position 50"):
        await check_inputs(log, INPUTS, begun, Positions(0, 90, 90), (None, None, None))
    await check_inputs(log, INPUTS, Positions(0, 50, 60), Positions(0, 90, 90), (None, None, None))


async def test_a_topic_that_was_restored_with_its_timestamps_is_the_same() -> None:
    positions = Positions(0, 20, 20)
    marks = await marks_of(await filled(0, 20, 20), positions)
    assert [mark and mark.offset for mark in marks] == [None, 6, 6]
    await check_inputs(await filled(0, 40, 40), INPUTS, positions, positions, marks)
    with pytest.raises(InputLostError, match=r"predictions\[0\]: the record at 6 \(of 1970-01-01T00:00:00.006\)"):
        await check_inputs(await filled(0, 40, 40, timestamp_ms=6), INPUTS, positions, positions, marks)


async def test_a_mark_lies_before_what_a_snapshot_covers_and_survives_until_there_is_a_newer_one() -> None:
    log = await filled(0, 20, 0)
    reader = await log.reader({INPUTS[Role.PREDICTIONS]: 0})
    book = MarkBook()

    async def take(count: int) -> None:
        chunks: list[Chunk] = await reader.fetch(max_records=count, wait_ms=0)
        for chunk in chunks:
            book.note(Role.PREDICTIONS, chunk)

    async def mark(position: int) -> int | None:
        found = book.before(Positions(0, position, 0))[Role.PREDICTIONS]
        return None if found is None else found.offset

    await take(5)
    assert await mark(3) is None  # the chunk's last record is not taken yet
    assert await mark(5) == 4
    await take(5)
    assert await mark(7) == 4
    await take(5)
    assert await mark(15) == 14
    assert await mark(20) == 14


@pytest.mark.parametrize(
    ("position", "words"),
    [(10, "retention deleted 40 records before they were read"), (300, "the topic was recreated")],
)
def test_a_position_that_gets_lost_under_a_running_task_is_explained(position: int, words: str) -> None:
    told = str(explained(OffsetOutOfRangeError("t", 3, position, 50, 200)))
    assert told.startswith(f"t[3]: position {position} is not in the log, which holds [50, 200)")
    assert words in told
    assert "tidegauge state rebuild" in told


class Gate(NoFaults):
    """Holds fetches back once it is closed."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.held = 0

    async def at(self, moment: str, call: str, subject: str) -> None:
        if call == "fetch" and not self.open.is_set():
            self.held += 1
            await self.open.wait()


async def test_a_running_task_that_retention_overtakes_stops_and_says_so() -> None:
    config = fast(Config())
    log = MemoryLog()
    await prepare_topics(log, config.topics, config.core)
    await publish(log, config, SOURCE)
    async with running(log, config) as worker:
        await consumed(log, config, worker)
        gate = log.faults = Gate()
        gate.open.clear()
        await until(lambda: gate.held)
        await publish(log, config, drifting(50, 25, seed=2))
        log.drop_before(TopicPartition(config.topics.predictions, 0), 420)
        gate.open.set()
        error = await failure(worker)
    assert "position 400 is not in the log, which holds [420, 450): retention deleted 20 records" in error


# Partitions --------------------------------------------------------------------------------------------------------


def with_partitions(config: Config, count: int) -> Config:
    return msgspec.structs.replace(config, topics=msgspec.structs.replace(config.topics, partitions=count))


async def test_a_changed_number_of_partitions_is_refused_by_every_task_and_no_new_one_begins() -> None:
    config, log = fast(Config()), MemoryLog()
    before, after = with_partitions(config, 2), with_partitions(config, 4)
    await monitored(log, before)
    specs, records = dict(log._specs), dict(log._partitions)
    for name, spec in specs.items():  # as a broker adds partitions: the old ones keep what they hold
        log._specs[name] = msgspec.structs.replace(spec, partitions=4)
    fresh = MemoryLog()
    await prepare_topics(fresh, after.topics, after.core)
    log._partitions = {**fresh._partitions, **records}
    log._groups.clear()
    async with running(log, after) as worker:
        errors = [await failure(worker, partition) for partition in range(4)]
    assert all("was written when the inputs had 2 partitions; now they have 4" in error for error in errors)
    for partition in (2, 3):
        where = TopicPartition(config.topics.changelog, partition)
        assert head_of(await read_records(log, where), where) is None


async def test_inputs_of_different_numbers_of_partitions_are_refused_at_the_start(carrier: Carrier) -> None:
    config = fast(Config())
    names = {field: carrier.name(field) for field in ("predictions", "labels", "control", "changelog", "steps")}
    topics = msgspec.structs.replace(config.topics, **names)
    await carrier.log.ensure_topics([TopicSpec(topics.predictions, 3), TopicSpec(topics.labels, 2)])
    with pytest.raises(TopicError, match=rf"but .*{topics.labels} has 2"):
        await prepare_topics(carrier.log, topics, config.core)


async def test_partitions_that_are_added_while_the_service_runs_stop_it() -> None:
    config, log = fast(with_partitions(Config(), 2)), MemoryLog()
    await prepare_topics(log, config.topics, config.core)
    worker = make_worker(config, log, 1)
    with pytest.raises(TopicError, match="more partitions than the 1 that they had at the start"):
        await asyncio.wait_for(worker.run(asyncio.Event()), 10)
    with pytest.raises(TopicError):
        worker._make_context(7, TaskStats(7))


# Two services --------------------------------------------------------------------------------------------------------


async def test_two_services_of_one_name_on_different_topics_do_not_share_state(
    carrier: Carrier, config: Config
) -> None:
    await monitored(carrier.log, config)
    other = carrier.name("predictions")
    stranger = msgspec.structs.replace(config, topics=msgspec.structs.replace(config.topics, predictions=other))
    error = await refusal(carrier.log, stranger)
    assert config.topics.predictions in error
    assert other in error
    assert "another runtime.name" in error
    await monitored(carrier.log, config, drifting(20, 10, seed=2))  # its own state is untouched


async def test_two_services_of_different_names_on_one_changelog_do_not_share_state(
    carrier: Carrier, config: Config
) -> None:
    await monitored(carrier.log, config)
    stranger = msgspec.structs.replace(config, runtime=msgspec.structs.replace(config.runtime, name="stranger"))
    error = await refusal(carrier.log, stranger)
    assert f"belongs to the service {config.runtime.name}.{config.runtime.group}" in error
    assert "stranger" in error
    await monitored(carrier.log, config, drifting(20, 10, seed=2))


# Versions ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "kind"), [(HEAD_KEY, "head"), (ENTRY_PREFIX + b"task", "task")])
async def test_state_of_a_newer_version_is_refused_and_left_as_it_is(
    carrier: Carrier, config: Config, key: bytes, kind: str
) -> None:
    await monitored(carrier.log, config)
    where = TopicPartition(config.topics.changelog, 0)
    newer = encode_entry(kind, 99, {"what": "nobody knows yet"})
    appender = await carrier.log.appender()
    await appender.append([NewRecord(*where, key, newer)])
    offset = (await read_records(carrier.log, where))[key].offset
    error = await refusal(carrier.log, config)
    assert "NewerStateError" in error
    assert (
        f"{kind} version 99 (format 1) was written by a newer program; this one knows {VERSIONS.get(kind, 1)}" in error
    )
    assert f"{where.topic}[0]@{offset}" in error
    assert (await read_records(carrier.log, where))[key].value == newer


def test_state_of_an_older_version_is_brought_up_to_date_step_by_step() -> None:
    migrations = {
        ("counts", 1): lambda payload: {"total": payload},
        ("counts", 2): lambda payload: payload | {"late": 0},
    }
    old, middle = encode_entry("counts", 1, 7), encode_entry("counts", 2, {"total": 7})
    assert decode_entry(old, "counts", 3, "here", migrations) == (1, {"total": 7, "late": 0})
    assert decode_entry(middle, "counts", 3, "here", migrations) == (2, {"total": 7, "late": 0})
    assert decode_entry(old, "counts", 1, "here", migrations) == (1, 7)


def test_state_that_no_step_leads_on_from_is_refused_by_name() -> None:
    with pytest.raises(CorruptStateError, match="here: counts version 1 is too old: nothing leads on from 2"):
        decode_entry(encode_entry("counts", 1, 7), "counts", 3, "here", {("counts", 1): lambda payload: payload})


def test_newer_state_is_refused_whatever_the_migrations() -> None:
    with pytest.raises(NewerStateError, match="here: counts version 4"):
        decode_entry(encode_entry("counts", 4, 7), "counts", 3, "here")


async def test_a_lost_cut_is_named(carrier: Carrier, config: Config) -> None:
    """A gap in the recorded steps cannot be bridged: which order the core saw in between is not known."""
    from service.runtime.changelog import Cut, cut_record
    from service.runtime.settings import TaskId

    await monitored(carrier.log, config)
    where = TopicPartition(config.topics.changelog, 0)
    head = head_of(await read_records(carrier.log, where), where)
    assert head is not None
    task = TaskId(config.runtime.name, config.runtime.group, 0)
    appender = await carrier.log.appender()
    at = head.positions
    await appender.append([cut_record(config.topics, task, Cut(head.number + 2, at, (at,), 0))])
    error = await refusal(carrier.log, config)
    assert f"expected cut {head.number + 1}, got {head.number + 2}: cuts were lost to retention" in error
    assert f"{config.topics.steps}[0]@" in error


async def test_a_changelog_that_lost_its_snapshot_is_not_taken_for_a_new_one(carrier: Carrier, config: Config) -> None:
    await carrier.log.ensure_topics([TopicSpec(config.topics.changelog, 1)])  # by hand, and not compacted
    await monitored(carrier.log, config)
    where = TopicPartition(config.topics.changelog, 0)
    ends = await (await carrier.log.reader({where: 0})).end_offsets()
    await carrier.drop_before(where, ends[where])
    error = await refusal(carrier.log, config)
    assert f"{where.topic}[0] holds no snapshot, but {config.topics.steps}[0]@" in error
    assert "cleanup.policy=compact" in error
    await drop_state(carrier.log, config, 0)
    await monitored(carrier.log, config, drifting(20, 10, seed=2))
