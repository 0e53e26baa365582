"""What only Kafka does: open and aborted transactions, bytes that are no records, quarrels of group and broker."""

import asyncio
import struct
from typing import get_args

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c
from confluent_kafka import Producer

from service.eventlog.errors import (
    FencedError,
    OutcomeUnknownError,
    TopicError,
    UnavailableError,
    UnknownCodecError,
    UnreadableRecordError,
)
from service.eventlog.kafka import KafkaLog
from service.eventlog.kafka.probe import broker_limits
from service.eventlog.kafka_settings import KafkaSettings
from service.eventlog.protocol import TopicPartition, TopicSpec
from service.runtime.worker import PERMANENT
from tests.eventlog.conftest import Carrier, kafka_settings, record
from tests.eventlog.reading import everything, read_until
from tests.eventlog.workers import settled, worker

pytestmark = pytest.mark.kafka

CODECS = get_args(KafkaSettings.__annotations__["compression"].__origin__)


@pytest.fixture
async def kafka(kafka_bootstrap: str):
    log = KafkaLog(kafka_settings(kafka_bootstrap))
    yield Carrier(log, "kafka", None)
    await log.close()


async def raw_producer(bootstrap: str, **more: object) -> AIOKafkaProducer:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transaction_timeout_ms=15_000, **more)
    await producer.start()
    return producer


async def test_nothing_is_seen_of_an_open_transaction_nor_behind_it(kafka: Carrier, kafka_bootstrap: str):
    topic = await kafka.topic()
    where = TopicPartition(topic, 0)
    holder = await raw_producer(kafka_bootstrap, transactional_id=kafka.name("raw"))
    await holder.begin_transaction()
    await holder.send_and_wait(topic, b"open", partition=0)
    await (await kafka.log.appender()).append([record(topic, b"behind")])
    reader = await kafka.log.reader({where: 0})
    assert await reader.end_offsets() == {where: 0}
    assert await reader.fetch(max_records=10, wait_ms=500) == []
    assert reader.at_end(where)
    await holder.commit_transaction()
    assert [v for c in await read_until(reader, 2) for v in c.values] == [b"open", b"behind"]
    await holder.stop()


async def test_an_aborted_transaction_is_passed_over(kafka: Carrier, kafka_bootstrap: str):
    topic = await kafka.topic()
    holder = await raw_producer(kafka_bootstrap, transactional_id=kafka.name("raw"))
    for value in (b"aborted 1", b"aborted 2"):
        await holder.begin_transaction()
        await holder.send_and_wait(topic, value, partition=0)
        await holder.abort_transaction()
    assert await everything(kafka.log, TopicPartition(topic, 0)) == []
    await holder.stop()


async def test_opening_a_writer_resolves_what_its_predecessor_left_open(kafka: Carrier, kafka_bootstrap: str):
    topic = await kafka.topic()
    writer_id = kafka.name("writer")
    dead = await raw_producer(kafka_bootstrap, transactional_id=writer_id)
    await dead.begin_transaction()
    await dead.send_and_wait(topic, b"never committed", partition=0)
    heir = await kafka.log.writer(writer_id)
    await heir.commit([record(topic, b"heir")])
    assert await everything(kafka.log, TopicPartition(topic, 0)) == [b"heir"]
    await dead.client.close()
    dead._closed = True


async def test_many_batches_of_many_partitions_keep_their_order(kafka_bootstrap: str):
    log = KafkaLog(kafka_settings(kafka_bootstrap, batch_bytes=1_024))
    carrier = Carrier(log, "kafka", None)
    topic = await carrier.topic(3)
    writer = await log.writer(carrier.name("writer"))
    await writer.commit([record(topic, b"%d" % n + bytes(100), n % 3) for n in range(300)])
    for partition in range(3):
        values = await everything(log, TopicPartition(topic, partition))
        assert [int(v.rstrip(b"\0")) for v in values] == list(range(partition, 300, 3))
    await log.close()


async def send_with_broken_header(bootstrap: str, topic: str, value: bytes) -> None:
    """Write a record whose header's name is not UTF-8, as a client in C may."""
    producer = await raw_producer(bootstrap)
    batch = producer.create_batch()
    batch.append(timestamp=1, key=b"k", value=value, headers=[("zzzz", b"x")])
    data = bytearray(batch._build())
    data[data.index(b"zzzz") : data.index(b"zzzz") + 4] = b"\xff\xfe\xfd\xfc"
    struct.pack_into(">I", data, 17, calc_crc32c(bytes(data[21:])))
    batch._buffer = bytes(data)
    await (await producer.send_batch(batch, topic, partition=0))
    await producer.stop()


async def test_bytes_that_are_no_record_are_named_after_all_that_lies_in_front_was_given(
    kafka: Carrier, kafka_bootstrap: str
):
    topic = await kafka.topic(2)
    where = TopicPartition(topic, 0)
    appender = await kafka.log.appender()
    await appender.append([record(topic, b"%d" % n) for n in range(37)])
    await send_with_broken_header(kafka_bootstrap, topic, b"poison")
    await appender.append([record(topic, b"behind"), record(topic, b"elsewhere", 1)])
    reader = await kafka.log.reader({where: 0, TopicPartition(topic, 1): 0})
    got: dict[int, list[bytes | None]] = {0: [], 1: []}

    async def read_on() -> None:
        while True:
            for chunk in await reader.fetch(max_records=1_000, wait_ms=500):
                got[chunk.partition] += chunk.values

    with pytest.raises(UnreadableRecordError) as caught:
        await asyncio.wait_for(read_on(), 20)
    assert got[0] == [b"%d" % n for n in range(37)]
    assert (caught.value.topic, caught.value.partition, caught.value.position) == (topic, 0, 37)
    reader.seek({where: 38})
    for chunk in await read_until(reader, 1 if got[1] else 2):
        got[chunk.partition] += chunk.values
    assert got == {0: [*(b"%d" % n for n in range(37)), b"behind"], 1: [b"elsewhere"]}


async def send_compressed(bootstrap: str, topic: str, codec: str, values: list[bytes]) -> None:
    """Write one batch as librdkafka does: its snappy and lz4 are framed otherwise than aiokafka's."""
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": codec, "linger.ms": 200})
    for value in values:
        producer.produce(topic, value, key=b"k", partition=0)
    assert await asyncio.to_thread(producer.flush, 20) == 0


@pytest.mark.parametrize("codec", CODECS)
async def test_every_codec_is_written_and_read(kafka_bootstrap: str, codec: str):
    log = KafkaLog(kafka_settings(kafka_bootstrap, compression=codec))
    topic = await Carrier(log, "kafka", None).topic()
    ours, theirs = ([b"%s %d " % (who, n) + bytes(100) for n in range(300)] for who in (b"ours", b"theirs"))
    appender = await log.appender()
    await appender.append([record(topic, value) for value in ours])
    await send_compressed(kafka_bootstrap, topic, codec, theirs)
    assert await everything(log, TopicPartition(topic, 0)) == ours + theirs
    await log.close()


@pytest.mark.parametrize("codec", [codec for codec in CODECS if codec not in ("none", "gzip")])
async def test_a_codec_that_the_install_lacks_is_named_after_all_that_lies_in_front_was_given(
    kafka: Carrier, kafka_bootstrap: str, codec: str, monkeypatch: pytest.MonkeyPatch
):
    topic = await kafka.topic()
    await (await kafka.log.appender()).append([record(topic, b"%d" % n) for n in range(5)])
    await send_compressed(kafka_bootstrap, topic, codec, [b"packed" + bytes(100)] * 10)
    monkeypatch.setattr("aiokafka.codec.cramjam", None)
    reader = await kafka.log.reader({TopicPartition(topic, 0): 0})
    got: list[bytes | None] = []

    async def read_on() -> None:
        while True:
            for chunk in await reader.fetch(max_records=100, wait_ms=500):
                got.extend(chunk.values)

    for _ in range(2):  # it stays where it is: the records are good
        with pytest.raises(UnknownCodecError, match=rf"position 5: .*Libraries for {codec} compression.*cramjam"):
            await asyncio.wait_for(read_on(), 20)
    assert got == [b"%d" % n for n in range(5)]
    assert UnknownCodecError in PERMANENT


async def test_a_header_without_a_value_is_an_empty_one(kafka: Carrier, kafka_bootstrap: str):
    topic = await kafka.topic()
    producer = await raw_producer(kafka_bootstrap)
    await producer.send_and_wait(topic, b"v", partition=0, headers=[("a", None), ("b", b"1")])
    await producer.stop()
    [chunk] = await read_until(await kafka.log.reader({TopicPartition(topic, 0): 0}), 1)
    assert chunk.headers == [(("a", b""), ("b", b"1"))]


async def test_a_timestamp_far_ahead_is_refused_with_the_setting_that_forbids_it(kafka: Carrier, kafka_bootstrap: str):
    topic = await kafka.topic()
    appender = await kafka.log.appender()
    if told := await broker_limits(KafkaSettings(bootstrap_servers=(kafka_bootstrap,))):
        # Before Kafka 4 it is not, and a service says so when it starts.
        assert "stamped far ahead are not refused" in told[0]
        await appender.append([record(topic, b"from the future", timestamp_ms=10_000_000_000_000)])
        return
    with pytest.raises(TopicError, match=r"message\.timestamp\.after\.max\.ms"):
        await appender.append([record(topic, b"from the future", timestamp_ms=10_000_000_000_000)])
    await appender.append([record(topic, b"on")])
    assert await everything(kafka.log, TopicPartition(topic, 0)) == [b"on"]


async def test_a_commit_that_is_cancelled_ends_its_writer_and_leaves_nothing_open(kafka: Carrier):
    topic = await kafka.topic()
    writer_id = kafka.name("writer")
    writer = await kafka.log.writer(writer_id)
    await writer.commit([record(topic, b"first")])
    # The second transaction in a row waits for the first to complete, which leaves time to cancel it.
    commit = asyncio.create_task(writer.commit([record(topic, b"cancelled")]))
    await asyncio.sleep(0.002)
    commit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit
    with pytest.raises(OutcomeUnknownError):
        await writer.commit([record(topic, b"more")])
    await (await kafka.log.writer(writer_id)).commit([record(topic, b"heir")])
    values = await everything(kafka.log, TopicPartition(topic, 0))
    assert values in ([b"first", b"heir"], [b"first", b"cancelled", b"heir"])


async def test_a_broker_that_is_not_there_is_unavailable_in_a_bounded_time():
    log = KafkaLog(KafkaSettings(bootstrap_servers=("127.0.0.1:1",), request_timeout_ms=2_000))
    where = TopicPartition("t", 0)
    group = log.membership("g", ["t"])
    async with asyncio.timeout(20):
        for call in (
            log.partitions(["t"]),
            log.ensure_topics([TopicSpec("t", 1)]),
            log.reader({where: 0}),
            log.writer("w"),
            log.appender(),
            log.offsets_for_time([where], 0),
            log.group_positions("g", [where]),
            group.__aenter__(),
        ):
            with pytest.raises(UnavailableError, match=r"127\.0\.0\.1"):
                await call
    await log.close()


async def test_two_services_of_one_name_on_different_topics_are_told_apart(kafka: Carrier):
    topic, other = await kafka.topic(), await kafka.topic()
    group = kafka.name("group")
    async with worker(kafka, group, [topic]) as first, worker(kafka, group, [topic]) as second:
        await settled([first, second], 1, evenly=True)
        async with kafka.log.membership(group, [other]) as stranger:
            with pytest.raises(TopicError, match=rf"reads {topic}, not {other}"):
                await asyncio.wait_for(anext(stranger.assignments()), 20)
            await settled([first, second], 1, evenly=True)


async def test_a_member_that_does_not_let_go_holds_a_rebalance_up_only_so_long(kafka_bootstrap: str):
    log = KafkaLog(kafka_settings(kafka_bootstrap, release_timeout_ms=500))
    carrier = Carrier(log, "kafka", None)
    topic = await carrier.topic(2)
    group = carrier.name("group")
    async with log.membership(group, [topic]) as deaf, asyncio.timeout(20):
        deafs = deaf.assignments()
        assert (await anext(deafs)).tasks == {0, 1}
        async with log.membership(group, [topic]) as newcomer:
            assert len((await anext(newcomer.assignments())).tasks) == 1
            revoked = await anext(deafs)
            while revoked.tasks == frozenset():
                revoked = await anext(deafs)
            assert len(revoked.tasks) == 1
    await log.close()


async def test_a_fenced_writer_says_so_even_in_its_first_commit(kafka: Carrier):
    topic = await kafka.topic()
    writer_id = kafka.name("writer")
    zombie = await kafka.log.writer(writer_id)
    await kafka.log.writer(writer_id)
    with pytest.raises(FencedError):
        await zombie.commit([record(topic, b"zombie")])
    assert await everything(kafka.log, TopicPartition(topic, 0)) == []
