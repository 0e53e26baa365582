"""What only the log in memory does: faults on demand."""

import asyncio

import pytest

from service.eventlog.errors import LogError, OutcomeUnknownError, TopicError, UnavailableError
from service.eventlog.memory import CommitFate, MemoryLog, NoFaults
from service.eventlog.protocol import TopicPartition, TopicSpec
from tests.eventlog.conftest import record
from tests.eventlog.reading import everything

WHERE = TopicPartition("t", 0)


class Crash(Exception):  # noqa: N818  (an event, not an error)
    """The process that called died here."""


class CrashAt(NoFaults):
    def __init__(self, moment, call):
        self.moment, self.call = moment, call

    async def at(self, moment, call, subject):
        if (moment, call) == (self.moment, self.call):
            raise Crash


class Fated(NoFaults):
    def __init__(self, fate):
        self._fate = fate

    def fate(self, writer_id):
        return self._fate


async def log_of(faults=None, **more) -> MemoryLog:
    log = MemoryLog(clock_ms=lambda: 1_000, **more)
    await log.ensure_topics([TopicSpec("t", 2)])
    log.faults = faults or NoFaults()
    return log


@pytest.mark.parametrize(("fate", "applied"), [(CommitFate.REPLY_LOST, [b"v"]), (CommitFate.LOST, [])])
async def test_a_lost_reply_is_not_a_lost_commit_and_the_writer_cannot_tell(fate, applied):
    log = await log_of(Fated(fate))
    writer = await log.writer("w")
    with pytest.raises(OutcomeUnknownError):
        await writer.commit([record("t", b"v")])
    log.faults = NoFaults()
    with pytest.raises(OutcomeUnknownError):
        await writer.commit([record("t", b"more")])
    assert await everything(log, WHERE) == applied


@pytest.mark.parametrize(("moment", "applied"), [("before", []), ("after", [b"v"])])
async def test_a_crash_before_a_commit_leaves_nothing_and_one_after_it_leaves_all(moment, applied):
    log = await log_of(CrashAt(moment, "commit"))
    writer = await log.writer("w")
    with pytest.raises(Crash):
        await writer.commit([record("t", b"v")])
    log.faults = NoFaults()
    assert await everything(log, WHERE) == applied
    with pytest.raises(OutcomeUnknownError):
        await writer.commit([record("t", b"of a process that is dead")])


async def test_a_commit_that_was_on_its_way_when_the_next_owner_came_is_fenced():
    gate = asyncio.Event()

    class Slow(NoFaults):
        async def at(self, moment, call, subject):
            if (moment, call) == ("before", "commit"):
                await gate.wait()

    log = await log_of(Slow())
    zombie = await log.writer("w")
    late = asyncio.create_task(zombie.commit([record("t", b"late")]))
    await asyncio.sleep(0)
    await log.writer("w")
    gate.set()
    with pytest.raises(LogError, match="another writer"):
        await late
    assert await everything(log, WHERE) == []


async def test_at_its_limit_the_log_refuses_and_drops_nothing():
    log = await log_of(max_bytes=1_000)
    appender = await log.appender()
    await appender.append([record("t", bytes(500))])
    with pytest.raises(UnavailableError, match="full"):
        await appender.append([record("t", bytes(500))])
    log.drop_before(WHERE, 1)
    await appender.append([record("t", bytes(500))])
    assert await everything_from(log, 1) == [bytes(500)]


async def everything_from(log, position):
    reader = await log.reader({WHERE: position})
    return [value for chunk in await reader.fetch(max_records=100, wait_ms=0) for value in chunk.values]


async def test_compaction_keeps_the_last_record_of_each_key_at_its_offset():
    log = await log_of()
    appender = await log.appender()
    keys = [b"a", b"b", None, b"a", b"b", b"a"]
    await appender.append([record("t", b"%d" % n, key=key) for n, key in enumerate(keys)])
    log.compact("t")
    reader = await log.reader({WHERE: 0})
    [chunk] = await reader.fetch(max_records=100, wait_ms=0)
    assert (chunk.offsets.tolist(), chunk.values) == ([2, 4, 5], [b"2", b"4", b"5"])
    reader.seek({WHERE: 3})
    [chunk] = await reader.fetch(max_records=1, wait_ms=0)
    assert (chunk.offsets.tolist(), chunk.next_position) == ([4], 5)


async def test_a_topic_that_is_deleted_and_made_again_begins_anew():
    log = await log_of()
    await (await log.appender()).append([record("t", b"old")])
    log.delete_topic("t")
    with pytest.raises(TopicError):
        await log.reader({WHERE: 0})
    await log.ensure_topics([TopicSpec("t", 1)])
    assert await everything(log, WHERE) == []


async def test_shares_can_be_dictated_and_an_evicted_member_is_not_told():
    log = await log_of()
    async with log.membership("g", ["t"]) as one, log.membership("g", ["t"]) as two:
        group = log.group("g")
        group.dictate({"member-1": frozenset({0, 1}), "member-2": frozenset({1})})
        ones, twos = one.assignments(), two.assignments()
        assert (await anext(ones)).tasks == {0, 1}
        assert (await anext(twos)).tasks == {1}
        group.evict("member-1")
        assert (await anext(twos)).tasks == {0, 1}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(ones)
        two.disturb("the broker refused the heartbeat")
        with pytest.raises(UnavailableError, match="refused the heartbeat"):
            await anext(twos)
