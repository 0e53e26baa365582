"""What only the embedded log does: several processes on one file, retention, compaction, versions."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.eventlog.errors import FencedError, OffsetOutOfRangeError, OutcomeUnknownError, UnavailableError
from service.eventlog.memory import MemoryLog
from service.eventlog.protocol import Log, NewRecord, TopicPartition, TopicSpec
from service.eventlog.sqlite import SqliteLog
from service.eventlog.sqlite.append import MARK_EVERY
from tests.eventlog.conftest import record
from tests.eventlog.reading import everything, read_until

WHERE = TopicPartition("t", 0)

OTHER_PROCESS = """
import asyncio, sys
from pathlib import Path
from service.eventlog.sqlite import SqliteLog
from service.eventlog.protocol import NewRecord

async def main(log):
{body}

asyncio.run(main(SqliteLog(Path(sys.argv[1]))))
"""


def other_process(path: Path, body: str) -> subprocess.Popen[str]:
    indented = "".join(f"    {line}\n" for line in body.strip().splitlines())
    command = [sys.executable, "-c", OTHER_PROCESS.format(body=indented), str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


async def said(process: subprocess.Popen[str], line: str) -> None:
    """Wait until the other process says this."""
    assert process.stdout is not None
    assert (await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 20)).strip() == line


async def log_of(path: Path, **topic: object) -> SqliteLog:
    log = SqliteLog(path / "log.sqlite")
    await log.ensure_topics([TopicSpec("t", 2, **topic)])
    return log


async def test_what_another_process_commits_wakes_a_waiting_reader(tmp_path: Path):
    log = await log_of(tmp_path)
    reader = await log.reader({WHERE: 0})
    waiting = asyncio.create_task(reader.fetch(max_records=10, wait_ms=20_000))
    body = 'a = await log.appender()\nawait a.append([NewRecord("t", 0, b"k", b"from afar")])\nawait log.close()'
    with other_process(log.path, body) as other:
        [chunk] = await waiting
        assert chunk.values == [b"from afar"]
        assert await asyncio.to_thread(other.wait, 20) == 0
    await log.close()


async def test_a_zombie_in_another_process_is_fenced(tmp_path: Path):
    log = await log_of(tmp_path)
    body = """
from service.eventlog.errors import FencedError
writer = await log.writer("w")
await writer.commit([NewRecord("t", 0, b"k", b"owner")])
print("open", flush=True)
sys.stdin.readline()
try:
    await writer.commit([NewRecord("t", 0, b"k", b"zombie")])
except FencedError:
    print("fenced", flush=True)
await log.close()
"""
    with other_process(log.path, body) as other:
        await said(other, "open")
        heir = await log.writer("w")
        await heir.commit([record("t", b"heir")])
        assert other.stdin is not None
        other.stdin.write("\n")
        other.stdin.flush()
        await said(other, "fenced")
    assert await everything(log, WHERE) == [b"owner", b"heir"]
    await log.close()


async def test_the_next_process_takes_over_when_the_first_is_killed(tmp_path: Path):
    log = await log_of(tmp_path)
    body = """
async with log.membership("g", ["t"]) as member:
    async for assignment in member.assignments():
        print(sorted(assignment.tasks), flush=True)
"""
    with other_process(log.path, body) as first:
        await said(first, "[0, 1]")
        async with log.membership("g", ["t"]) as heir:
            assignments = heir.assignments()
            assert (await asyncio.wait_for(anext(assignments), 5)).tasks == frozenset()
            first.send_signal(signal.SIGKILL)
            assert (await asyncio.wait_for(anext(assignments), 5)).tasks == {0, 1}
    await log.close()


async def test_a_file_that_another_process_locks_is_unavailable_and_says_so(tmp_path: Path):
    log = SqliteLog(tmp_path / "log.sqlite", busy_timeout_ms=50)
    await log.ensure_topics([TopicSpec("t", 1)])
    writer = await log.writer("w")
    holder = sqlite3.connect(log.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnavailableError, match="locked"):
        await (await log.appender()).append([record("t", b"x")])
    with pytest.raises(OutcomeUnknownError, match="locked"):
        await writer.commit([record("t", b"x")])
    holder.execute("ROLLBACK")
    holder.close()
    await (await log.appender()).append([record("t", b"after")])
    assert await everything(log, WHERE) == [b"after"]
    await log.close()


async def test_the_loop_is_not_blocked_while_the_file_is_locked(tmp_path: Path):
    log = SqliteLog(tmp_path / "log.sqlite", busy_timeout_ms=300)
    await log.ensure_topics([TopicSpec("t", 1)])
    holder = sqlite3.connect(log.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    append = asyncio.create_task((await log.appender()).append([record("t", b"x")]))
    longest_s, before = 0.0, time.monotonic()
    while not append.done():
        await asyncio.sleep(0.005)
        longest_s, before = max(longest_s, time.monotonic() - before), time.monotonic()
    assert isinstance(append.exception(), UnavailableError)
    assert longest_s < 0.2
    holder.close()
    await log.close()


async def test_records_survive_the_process(tmp_path: Path):
    log = await log_of(tmp_path)
    zombie = await log.writer("w")
    await zombie.commit([record("t", b"1")])
    await log.close()
    with pytest.raises(UnavailableError, match="closed"):
        await log.partitions(["t"])
    again = SqliteLog(log.path)
    assert await again.partitions(["t"]) == {"t": 2}
    await (await again.writer("w")).commit([record("t", b"2")])
    assert await everything(again, WHERE) == [b"1", b"2"]
    await again.close()


async def test_a_newer_version_and_a_strangers_file_are_refused(tmp_path: Path):
    log = await log_of(tmp_path)
    await log.close()
    with sqlite3.connect(log.path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    newer = SqliteLog(log.path)
    with pytest.raises(UnavailableError, match="version 99"):
        await newer.partitions(["t"])
    await newer.close()
    with sqlite3.connect(tmp_path / "theirs.sqlite") as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    theirs = SqliteLog(tmp_path / "theirs.sqlite")
    with pytest.raises(UnavailableError, match="another program"):
        await theirs.partitions(["t"])
    await theirs.close()


async def test_retention_drops_the_old_front_and_readers_learn_it(tmp_path: Path):
    log = SqliteLog(tmp_path / "log.sqlite", clock_ms=lambda: 10_000)
    await log.ensure_topics([TopicSpec("t", 1, retention_ms=1_000), TopicSpec("kept", 1)])
    stamps = [8_000, 8_999, 9_000, 1, 10_000]
    records = [record("t", b"%d" % n, timestamp_ms=stamp) for n, stamp in enumerate(stamps)]
    await (await log.appender()).append([*records, record("kept", b"old", timestamp_ms=1)])
    reader = await log.reader({WHERE: 0})
    await log.tidy()
    with pytest.raises(OffsetOutOfRangeError) as caught:
        await reader.fetch(max_records=10, wait_ms=0)
    assert (caught.value.begin, caught.value.end) == (2, 5)
    reader.seek({WHERE: 2})
    assert [v for c in await read_until(reader, 3) for v in c.values] == [b"2", b"3", b"4"]
    assert await everything(log, TopicPartition("kept", 0)) == [b"old"]
    await log.close()


async def test_retention_works_in_steps_until_it_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.eventlog.sqlite.upkeep.MAX_DELETED_AT_ONCE", 10)
    log = SqliteLog(tmp_path / "log.sqlite", clock_ms=lambda: 10_000)
    await log.ensure_topics([TopicSpec("t", 1, retention_ms=1_000)])
    old = [record("t", b"old", timestamp_ms=1) for _ in range(95)]
    await (await log.appender()).append([*old, record("t", b"young", timestamp_ms=9_999)])
    await log.tidy()
    reader = await log.reader({WHERE: 95})
    assert await reader.begin_offsets() == {WHERE: 95}
    assert (await read_until(reader, 1))[0].values == [b"young"]
    await log.close()


async def test_compaction_keeps_the_last_record_of_each_key_at_its_offset(tmp_path: Path):
    log = await log_of(tmp_path, cleanup="compact")
    appender = await log.appender()
    await appender.append([record("t", b"%d" % n, key=b"%d" % (n % 7)) for n in range(1_500)])
    await appender.append([record("t", b"no key", key=None), record("t", None, key=b"0")])
    await log.tidy()
    reader = await log.reader({WHERE: 0})
    chunks = await read_until(reader, 8)
    assert [int(o) for c in chunks for o in c.offsets] == [1493, 1494, 1495, 1496, 1497, 1499, 1500, 1501]
    assert chunks[-1].next_position == 1_502
    assert [v for c in chunks for v in c.values][-2:] == [b"no key", None]
    assert chunks[-1].keys[-1] == b"0"
    await log.close()


async def test_upkeep_comes_by_itself_with_the_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.eventlog.sqlite.log.UPKEEP_EVERY_S", 0.0)
    log = SqliteLog(tmp_path / "log.sqlite")
    await log.ensure_topics([TopicSpec("t", 1, retention_ms=60_000)])
    appender = await log.appender()
    await appender.append([record("t", b"old", timestamp_ms=1)])
    reader = await log.reader({WHERE: 0})
    async with asyncio.timeout(5):
        while (await reader.begin_offsets())[WHERE] == 0:
            await appender.append([record("t", b"new")])
            await asyncio.sleep(0.01)
    await log.close()


@pytest.mark.parametrize("count", [3 * MARK_EVERY + 5])
async def test_time_is_looked_up_through_the_marks(tmp_path: Path, count: int):
    log = await log_of(tmp_path)
    appender = await log.appender()
    stamps = [n * 10 + (37 * n) % 400 for n in range(count)]
    for start in range(0, count, 500):
        await appender.append([record("t", b"x", timestamp_ms=stamp) for stamp in stamps[start : start + 500]])
    for wanted in (0, 5, 1_000, 10_239, 10_240, 20_000, 30_500, stamps[-1], max(stamps), max(stamps) + 1):
        expected = next((offset for offset, stamp in enumerate(stamps) if stamp >= wanted), count)
        assert await log.offsets_for_time([WHERE], wanted) == {WHERE: expected}
    db = sqlite3.connect(log.path)
    assert db.execute("SELECT count(*) FROM time_marks").fetchone()[0] >= 2
    db.close()
    await log.close()


async def test_a_fetch_is_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.eventlog.sqlite.fetch.MAX_FETCH_BYTES", 10_000)
    monkeypatch.setattr("service.eventlog.sqlite.fetch.ROWS_AT_ONCE", 2)
    log = await log_of(tmp_path)
    await (await log.appender()).append([record("t", bytes(3_000)) for _ in range(10)])
    reader = await log.reader({WHERE: 0})
    [chunk] = await reader.fetch(max_records=100, wait_ms=0)
    assert 3 <= len(chunk.values) <= 5
    assert not reader.at_end(WHERE)
    assert len(chunk.values) + sum(len(c.values) for c in await read_until(reader, 10 - len(chunk.values))) == 10
    await log.close()


KEYS = st.none() | st.binary(max_size=3)
RECORDS = st.builds(
    NewRecord,
    st.just("t"),
    st.integers(0, 1),
    KEYS,
    st.none() | st.binary(max_size=20),
    st.lists(st.tuples(st.text(max_size=3), st.binary(max_size=3)), max_size=2).map(tuple),
    st.integers(0, 50),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(RECORDS, max_size=8)),
        st.tuples(st.just("commit"), st.lists(RECORDS, max_size=8)),
        st.tuples(st.just("open"), st.none()),
        st.tuples(st.just("fetch"), st.integers(1, 5)),
        st.tuples(st.just("seek"), st.tuples(st.integers(0, 1), st.integers(0, 20))),
        st.tuples(st.just("time"), st.integers(0, 51)),
    ),
    max_size=12,
)


async def told(log: Log, steps: list[tuple[str, object]]) -> list[object]:
    """Do the steps and write down all that can be seen."""
    story: list[object] = []
    await log.ensure_topics([TopicSpec("t", 2)])
    parts = [TopicPartition("t", n) for n in (0, 1)]
    appender, reader = await log.appender(), await log.reader(dict.fromkeys(parts, 0))
    writer = first = await log.writer("w")
    for what, how in steps:
        try:
            match what, how:
                case "append", list():
                    await appender.append(how)
                case "commit", list():
                    await writer.commit(how)
                case "open", _:
                    writer = await log.writer("w")
                case "fetch", int():
                    chunks = await reader.fetch(max_records=how, wait_ms=0)
                    story += [(c.offsets.tolist(), c.timestamps_ms.tolist(), *c[4:]) for c in chunks]
                    story.append([reader.at_end(where) for where in parts])
                case "seek", (int(number), int(position)):
                    reader.seek({parts[number]: position})
                case "time", int():
                    story.append(await log.offsets_for_time(parts, how))
        except OffsetOutOfRangeError as error:
            story.append(str(error))
            reader.seek(dict.fromkeys(parts, 0))
    if writer is not first:
        with pytest.raises(FencedError):
            await first.commit([record("t", b"zombie")])
    story.append(await reader.end_offsets())
    await log.close()
    return story


# Found once in thousands of stories: what a fetch saw before it raised is not told.
@example(
    steps=[("append", [record("t", None, partition=1, timestamp_ms=0)]), ("seek", (0, 1)), ("fetch", 1), ("fetch", 1)]
)
@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_the_embedded_log_and_the_one_in_memory_tell_the_same_story(steps, tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "log.sqlite"
    assert asyncio.run(told(SqliteLog(path), steps)) == asyncio.run(told(MemoryLog(), steps))
