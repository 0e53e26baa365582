"""What every carrier keeps, whatever it is made of."""

import asyncio
import time

import pytest

from service.eventlog.errors import (
    FencedError,
    LogError,
    OffsetOutOfRangeError,
    RecordTooLargeError,
    TopicError,
)
from service.eventlog.protocol import NewRecord, TopicPartition, TopicSpec
from tests.eventlog.conftest import Carrier, record
from tests.eventlog.reading import everything, read_until, values_of


async def test_offsets_rise_and_the_position_is_the_offset_of_the_next_record(carrier: Carrier):
    topic = await carrier.topic()
    appender = await carrier.log.appender()
    for n in range(5):
        await appender.append([record(topic, b"%d" % n)])
    chunks = await read_until(await carrier.log.reader({TopicPartition(topic, 0): 2}), 3)
    assert [int(offset) for chunk in chunks for offset in chunk.offsets] == [2, 3, 4]
    assert [value for chunk in chunks for value in chunk.values] == [b"2", b"3", b"4"]
    assert chunks[-1].next_position == 5


async def test_a_transaction_becomes_visible_whole_and_in_order(carrier: Carrier):
    topic = await carrier.topic(2)
    writer = await carrier.log.writer(carrier.name("writer"))
    for start in (0, 50):
        await writer.commit([record(topic, b"%d" % n, n % 2) for n in range(start, start + 50)])
    for partition in (0, 1):
        got = await everything(carrier.log, TopicPartition(topic, partition))
        assert got == [b"%d" % n for n in range(partition, 100, 2)]


async def test_an_empty_commit_is_a_commit(carrier: Carrier):
    writer = await carrier.log.writer(carrier.name("writer"))
    await writer.commit([])
    topic = await carrier.topic()
    await writer.commit([record(topic, b"after")])
    assert await everything(carrier.log, TopicPartition(topic, 0)) == [b"after"]


async def test_opening_a_writer_fences_the_earlier_one_and_its_commit_stays_invisible(carrier: Carrier):
    topic = await carrier.topic()
    writer_id = carrier.name("writer")
    zombie = await carrier.log.writer(writer_id)
    await zombie.commit([record(topic, b"before")])
    owner = await carrier.log.writer(writer_id)
    with pytest.raises(FencedError):
        await zombie.commit([record(topic, b"zombie")])
    with pytest.raises(FencedError):
        await zombie.commit([record(topic, b"zombie again")])
    await owner.commit([record(topic, b"owner")])
    assert await everything(carrier.log, TopicPartition(topic, 0)) == [b"before", b"owner"]


async def test_writers_of_different_ids_do_not_fence_each_other(carrier: Carrier):
    topic = await carrier.topic()
    first = await carrier.log.writer(carrier.name("writer"))
    second = await carrier.log.writer(carrier.name("writer"))
    await first.commit([record(topic, b"1")])
    await second.commit([record(topic, b"2")])
    await first.commit([record(topic, b"3")])
    assert await everything(carrier.log, TopicPartition(topic, 0)) == [b"1", b"2", b"3"]


async def test_a_closed_writer_commits_no_more(carrier: Carrier):
    topic = await carrier.topic()
    writer = await carrier.log.writer(carrier.name("writer"))
    await writer.close()
    await writer.close()
    with pytest.raises(LogError):
        await writer.commit([record(topic, b"late")])
    assert await everything(carrier.log, TopicPartition(topic, 0)) == []


async def test_the_position_passes_what_is_not_a_record(carrier: Carrier):
    """On Kafka each commit leaves a control record behind; a reader at the end must see that it is there."""
    topic = await carrier.topic()
    writer = await carrier.log.writer(carrier.name("writer"))
    for n in range(3):
        await writer.commit([record(topic, b"%d" % n)])
    where = TopicPartition(topic, 0)
    reader = await carrier.log.reader({where: 0})
    end = (await reader.end_offsets())[where]
    position = 0
    async with asyncio.timeout(10):
        while position < end:
            assert not reader.at_end(where)
            for chunk in await reader.fetch(max_records=1, wait_ms=500):
                assert len(chunk.values) <= 1
                position = chunk.next_position
    assert position == end
    assert reader.at_end(where)


async def test_keys_values_headers_and_timestamps_survive(carrier: Carrier):
    topic = await carrier.topic()
    written = [
        NewRecord(topic, 0, b"key", b"value", (("ce_id", b"1"), ("ce_id", b"2"), ("\u00e4", b"")), 1_000),
        NewRecord(topic, 0, b"", b"", (), 999),
        NewRecord(topic, 0, b"tombstone", None, (), 0),
        NewRecord(topic, 0, None, bytes(range(256)), (), 1_700_000_000_123),
    ]
    appender = await carrier.log.appender()
    await appender.append(written)
    chunks = await read_until(await carrier.log.reader({TopicPartition(topic, 0): 0}), 4)
    assert [key for chunk in chunks for key in chunk.keys] == [r.key for r in written]
    assert [value for chunk in chunks for value in chunk.values] == [r.value for r in written]
    assert [headers for chunk in chunks for headers in chunk.headers] == [r.headers for r in written]
    assert [int(t) for chunk in chunks for t in chunk.timestamps_ms] == [r.timestamp_ms for r in written]


async def test_a_record_without_a_timestamp_gets_the_time_of_its_writing(carrier: Carrier):
    topic = await carrier.topic()
    before_ms = time.time_ns() // 1_000_000
    await (await carrier.log.appender()).append([record(topic, b"now")])
    after_ms = time.time_ns() // 1_000_000
    [chunk] = await read_until(await carrier.log.reader({TopicPartition(topic, 0): 0}), 1)
    assert before_ms <= int(chunk.timestamps_ms[0]) <= after_ms


async def test_a_large_record_survives(carrier: Carrier):
    topic = await carrier.topic()
    value = bytes(950_000)
    writer = await carrier.log.writer(carrier.name("writer"))
    await writer.commit([record(topic, value), record(topic, b"small"), record(topic, value)])
    assert await everything(carrier.log, TopicPartition(topic, 0)) == [value, b"small", value]


async def test_a_record_that_is_too_large_is_refused_and_the_writer_goes_on(carrier: Carrier):
    topic = await carrier.topic()
    writer = await carrier.log.writer(carrier.name("writer"))
    appender = await carrier.log.appender()
    for write in (writer.commit, appender.append):
        with pytest.raises(RecordTooLargeError, match=topic):
            await write([record(topic, b"beside it"), record(topic, bytes(10_000_000))])
        await write([record(topic, b"on")])
    assert await everything(carrier.log, TopicPartition(topic, 0)) == [b"on", b"on"]


async def test_the_limit_of_a_topic_is_its_own(carrier: Carrier):
    topic = await carrier.topic(max_message_bytes=4_000)
    writer = await carrier.log.writer(carrier.name("writer"))
    with pytest.raises(RecordTooLargeError):
        await writer.commit([record(topic, bytes(4_000))])
    await writer.commit([record(topic, bytes(1_500)) for _ in range(8)])
    assert await everything(carrier.log, TopicPartition(topic, 0)) == [bytes(1_500)] * 8


async def test_a_partition_that_does_not_exist_is_named(carrier: Carrier):
    topic = await carrier.topic(2)
    writer = await carrier.log.writer(carrier.name("writer"))
    with pytest.raises(TopicError, match=rf"{topic}\[2\]"):
        await writer.commit([record(topic, b"there", 1), record(topic, b"nowhere", 2)])
    with pytest.raises(TopicError, match="nothing-of-that-name"):
        await carrier.log.reader({TopicPartition("nothing-of-that-name", 0): 0})
    await writer.commit([record(topic, b"on", 1)])
    assert await everything(carrier.log, TopicPartition(topic, 1)) == [b"on"]


async def test_topics_are_created_once_and_keep_their_shape(carrier: Carrier):
    topic = await carrier.topic(3)
    await carrier.log.ensure_topics(
        [TopicSpec(topic, 5), TopicSpec(f"{topic}-more", 1, "compact", retention_ms=60_000)]
    )
    counts = await carrier.log.partitions([topic, f"{topic}-more", "nothing-of-that-name"])
    assert counts == {topic: 3, f"{topic}-more": 1}


async def test_a_topic_that_cannot_be_created_is_named(carrier: Carrier):
    with pytest.raises(TopicError, match="impossible"):
        await carrier.log.ensure_topics([TopicSpec("impossible", 0)])


async def test_offsets_are_found_by_time(carrier: Carrier):
    topic = await carrier.topic(2)
    appender = await carrier.log.appender()
    for stamp in (1_000, 3_000, 2_000, 4_000):
        await appender.append([record(topic, b"x", timestamp_ms=stamp)])
    first, empty = TopicPartition(topic, 0), TopicPartition(topic, 1)
    for stamp, offset in ((-1, 0), (1_000, 0), (1_001, 1), (2_500, 1), (3_001, 3), (4_001, 4)):
        found = await carrier.log.offsets_for_time([first, empty], stamp)
        assert found == {first: offset, empty: 0}, stamp


async def test_a_position_that_retention_deleted_is_an_error_that_names_what_is_left(carrier: Carrier):
    topic = await carrier.topic()
    where = TopicPartition(topic, 0)
    await (await carrier.log.appender()).append([record(topic, b"%d" % n) for n in range(10)])
    await carrier.drop_before(where, 4)
    reader = await carrier.log.reader({where: 1})
    with pytest.raises(OffsetOutOfRangeError) as caught:
        await reader.fetch(max_records=10, wait_ms=5_000)
    assert (caught.value.position, caught.value.begin, caught.value.end) == (1, 4, 10)
    assert await reader.begin_offsets() == {where: 4}
    reader.seek({where: 4})
    assert (await read_until(reader, 6))[0].values[0] == b"4"


async def test_a_position_behind_the_end_is_an_error(carrier: Carrier):
    topic = await carrier.topic()
    where = TopicPartition(topic, 0)
    await (await carrier.log.appender()).append([record(topic, b"only")])
    reader = await carrier.log.reader({where: 7})
    with pytest.raises(OffsetOutOfRangeError) as caught:
        await reader.fetch(max_records=10, wait_ms=5_000)
    assert (caught.value.position, caught.value.begin, caught.value.end) == (7, 0, 1)


async def test_only_names_the_partitions_that_are_fetched(carrier: Carrier):
    topic = await carrier.topic(3)
    parts = [TopicPartition(topic, n) for n in range(3)]
    await (await carrier.log.appender()).append([record(topic, b"%d" % n, n) for n in range(3)])
    reader = await carrier.log.reader(dict.fromkeys(parts, 0))
    assert await reader.fetch(max_records=10, wait_ms=1_000, only=[]) == []
    got: list[bytes | None] = []
    async with asyncio.timeout(10):
        while len(got) < 2:
            for chunk in await reader.fetch(max_records=10, wait_ms=500, only=[parts[0], parts[2]]):
                got += chunk.values
    assert sorted(got) == [b"0", b"2"]
    assert [chunk.values for chunk in await read_until(reader, 1)] == [[b"1"]]


async def test_a_fetch_gives_at_most_max_records_and_starves_no_partition(carrier: Carrier):
    topic = await carrier.topic(3)
    await (await carrier.log.appender()).append([record(topic, b"%d" % n, n % 3) for n in range(90)])
    reader = await carrier.log.reader({TopicPartition(topic, n): 0 for n in range(3)})
    seen: list[int] = []
    for _ in range(9):
        chunks = await reader.fetch(max_records=10, wait_ms=2_000)
        assert sum(len(chunk.values) for chunk in chunks) <= 10
        assert len({chunk.partition for chunk in chunks}) == len(chunks)
        seen += [chunk.partition for chunk in chunks if chunk.values]
    assert set(seen) == {0, 1, 2}


async def test_a_waiting_fetch_wakes_up_when_a_record_comes(carrier: Carrier):
    topic = await carrier.topic()
    where = TopicPartition(topic, 0)
    appender = await carrier.log.appender()
    await appender.append([record(topic, b"first")])
    reader = await carrier.log.reader({where: 0})
    await read_until(reader, 1)
    started = time.monotonic()
    waiting = asyncio.create_task(reader.fetch(max_records=10, wait_ms=20_000))
    await asyncio.sleep(0.1)
    await appender.append([record(topic, b"second")])
    [chunk] = await waiting
    assert chunk.values == [b"second"]
    assert time.monotonic() - started < 5


async def test_a_fetch_that_finds_nothing_waits_as_long_as_it_was_told(carrier: Carrier):
    topic = await carrier.topic()
    reader = await carrier.log.reader({TopicPartition(topic, 0): 0})
    started = time.monotonic()
    assert await reader.fetch(max_records=10, wait_ms=300) == []
    assert 0.25 <= time.monotonic() - started < 3
    assert reader.at_end(TopicPartition(topic, 0))


async def test_a_fetch_that_is_cancelled_loses_nothing(carrier: Carrier):
    topic = await carrier.topic()
    where = TopicPartition(topic, 0)
    await (await carrier.log.appender()).append([record(topic, b"%d" % n) for n in range(500)])
    reader = await carrier.log.reader({where: 0})
    got: list[bytes | None] = []
    for pause_s in (0.0, 0.0005, 0.001, 0.002, 0.005, 0.02):
        fetch = asyncio.create_task(reader.fetch(max_records=20, wait_ms=500))
        await asyncio.sleep(pause_s)
        fetch.cancel()
        await asyncio.wait([fetch])
        if not fetch.cancelled():
            got += [value for chunk in fetch.result() for value in chunk.values]
    got += [value for chunk in await read_until(reader, 500 - len(got)) for value in chunk.values]
    assert got == [b"%d" % n for n in range(500)]


async def test_seek_reads_again_and_skips(carrier: Carrier):
    topic = await carrier.topic()
    where = TopicPartition(topic, 0)
    await (await carrier.log.appender()).append([record(topic, b"%d" % n) for n in range(10)])
    reader = await carrier.log.reader({where: 0})
    await read_until(reader, 10)
    reader.seek({where: 3})
    assert not reader.at_end(where)
    assert [v for c in await read_until(reader, 7) for v in c.values] == [b"%d" % n for n in range(3, 10)]
    reader.seek({where: 9})
    assert [v for c in await read_until(reader, 1) for v in c.values] == [b"9"]
    with pytest.raises(ValueError, match="not opened for"):
        reader.seek({TopicPartition(topic, 1): 0})


async def test_two_readers_of_a_partition_do_not_disturb_each_other(carrier: Carrier):
    topic = await carrier.topic()
    where = TopicPartition(topic, 0)
    await (await carrier.log.appender()).append([record(topic, b"%d" % n) for n in range(10)])
    assert await values_of(carrier.log, where, 10) == await values_of(carrier.log, where, 10)


async def test_published_positions_can_be_asked_for(carrier: Carrier):
    topic = await carrier.topic(2)
    group = carrier.name("group")
    parts = [TopicPartition(topic, n) for n in range(2)]
    await (await carrier.log.appender()).append([record(topic, b"x", n) for n in range(2)])
    assert await carrier.log.group_positions(group, parts) == {}
    async with carrier.log.membership(group, [topic]) as member, asyncio.timeout(20):
        async for assignment in member.assignments():
            if assignment.tasks == {0, 1}:
                break
        await member.publish_positions({parts[0]: 1, TopicPartition("nothing-of-that-name", 0): 5})
    assert await carrier.log.group_positions(group, parts) == {parts[0]: 1}
