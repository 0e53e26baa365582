"""Batches of records, and how a producer is thrown away. Shared by the transactional writer and the plain appender."""

import asyncio
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation, ProducerClosed

from service.eventlog.kafka.client import bounded, connection_options, drop_connections
from service.eventlog.kafka.topics import Topics
from service.eventlog.kafka_settings import KafkaSecrets, KafkaSettings
from service.eventlog.protocol import NewRecord, TopicPartition
from service.eventlog.records import BATCH_OVERHEAD_BYTES, by_partition, record_bytes, refuse_too_large

RETRY_BACKOFF_MS = 20
"""A transaction that follows another at once is told to try again while that one completes: some 20 to 30 ms."""

DISCARD_LIMIT_MS = 1_000
"""A producer that works stops in milliseconds. One that looks for a dead broker would do so until it is cancelled, and
whoever wants to acquire the task again waits for it."""


def new_producer(settings: KafkaSettings, secrets: KafkaSecrets, **more: Any) -> AIOKafkaProducer:
    """Make an idempotent producer: retries neither lose, repeat nor reorder."""
    return AIOKafkaProducer(
        **connection_options(settings, secrets),
        acks="all",
        enable_idempotence=True,
        max_batch_size=settings.batch_bytes,
        compression_type=None if settings.compression == "none" else settings.compression,
        retry_backoff_ms=RETRY_BACKOFF_MS,
        **more,
    )


async def start(producer: AIOKafkaProducer, limit_ms: int, doing: str) -> None:
    """Connect a producer and get its identity, or close it again and raise a LogError."""
    try:
        async with bounded(limit_ms, doing):
            await producer.start()
    except BaseException:
        await discard(producer, limit_ms)
        raise


class Batch:
    """Records of one partition that travel together."""

    def __init__(self, producer: AIOKafkaProducer, where: TopicPartition, limit_bytes: int) -> None:
        self.where = where
        self.builder = producer.create_batch()
        self._room = limit_bytes - BATCH_OVERHEAD_BYTES

    def take(self, record: NewRecord) -> bool:
        """Add a record if there is room; the first always has."""
        size = record_bytes(record)
        if size > self._room and self.builder.record_count():
            return False
        self._room -= size
        # aiokafka's builder wants a list, and gives None where it thinks that it is full.
        stamp, headers = record.timestamp_ms, list(record.headers)
        return self.builder.append(timestamp=stamp, key=record.key, value=record.value, headers=headers) is not None


async def plan(
    producer: AIOKafkaProducer, topics: Topics, records: Sequence[NewRecord], batch_bytes: int
) -> list[list[Batch]]:
    """Put records into batches, a list for each partition, before anything is sent.

    Raises TopicError for partitions that do not exist and RecordTooLargeError by the limit that each topic has.
    """
    groups = by_partition(records)
    await topics.demand(groups)
    limits = await topics.message_limits({where.topic for where in groups})
    refuse_too_large(records, limits)
    return [fill(producer, where, group, min(batch_bytes, limits[where.topic])) for where, group in groups.items()]


def fill(producer: AIOKafkaProducer, where: TopicPartition, records: Sequence[NewRecord], limit: int) -> list[Batch]:
    """Put the records of one partition into as few batches as the limit allows (bytes)."""
    batches = [Batch(producer, where, limit)]
    for record in records:
        if not batches[-1].take(record):
            batches.append(Batch(producer, where, limit))
            batches[-1].take(record)
    return batches


async def send(producer: AIOKafkaProducer, plans: Sequence[Sequence[Batch]]) -> None:
    """Send all batches and wait until the broker has each. Raises the first error.

    In rounds of one batch for each partition, because a partition's second batch waits for its first. Every future is
    awaited: a batch that failed does not fail the transaction it belongs to.
    """
    # A partition that the broker refuses to a transaction ends it. aiokafka then answers every further batch with
    # IllegalOperation, leaves those that it has undelivered, and says why in this future alone.
    refused = producer._txn_manager._transaction_waiter  # noqa: SLF001
    sent: list[asyncio.Future[Any]] = []
    try:
        for round_of_batches in zip_longest(*plans):
            for batch in round_of_batches:
                if batch is not None:
                    topic, number = batch.where
                    sent.append(await producer.send_batch(batch.builder, topic, partition=number))
    except IllegalOperation:
        if refused is not None and refused.done():
            refused.result()
        raise
    delivered = asyncio.gather(*sent)
    delivered.add_done_callback(_look_at)
    try:
        if refused is not None and not delivered.done():
            await asyncio.wait({delivered, refused}, return_when=asyncio.FIRST_COMPLETED)
            if not delivered.done():
                refused.result()
        await delivered
    finally:
        delivered.cancel()


def _look_at(future: asyncio.Future[Any]) -> None:
    """Take note of how a future ended that nobody may await any more, or asyncio logs it as an error."""
    if not future.cancelled():
        future.exception()


async def discard(producer: AIOKafkaProducer, limit_ms: int) -> None:
    """Close a producer that may be broken, in a bounded time. Never raises."""
    fail_batches(producer)
    limit_ms = min(limit_ms, DISCARD_LIMIT_MS)
    try:
        async with bounded(limit_ms, "closing a producer"):
            await producer.stop()
    except Exception:  # noqa: BLE001  # it is thrown away because it is broken, and may break in any way (seen: the
        # KeyError of a batch that was on its way, should be tried again, and was failed above)
        await drop_connections(producer.client, limit_ms)


def fail_batches(producer: AIOKafkaProducer) -> None:
    """Let a producer that is thrown away go in peace. Only private members of aiokafka 0.14 do it.

    `stop` waits for batches that an idempotent producer never gives up: they are failed here, or each such producer
    would leave a task behind that waits for ever. And two futures of a failed transaction are awaited by nobody: they
    are looked at here, or each fenced writer would be logged twice as an error with its traceback.
    """
    accumulator, transactions = producer._message_accumulator, producer._txn_manager  # noqa: SLF001
    batches = [batch for queue in accumulator._batches.values() for batch in queue]  # noqa: SLF001
    accumulator.fail_all(ProducerClosed())
    waiters = [batch._drain_waiter for batch in batches]  # noqa: SLF001
    for future in [*waiters, *(batch.future for batch in batches), transactions._transaction_waiter]:  # noqa: SLF001
        if future is not None and future.done() and not future.cancelled():
            future.exception()
