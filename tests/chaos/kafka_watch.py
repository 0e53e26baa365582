"""What anybody may see from outside: the committed records, read by a plain aiokafka consumer."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from service.core.intake import Positions
from service.eventlog.kafka.reader import close_consumer
from service.eventlog.protocol import Chunk
from service.runtime.settings import TopicSettings
from tests.chaos.kafka_feed import roles_behind
from tests.simulation.verifier import ViolationError, end_of

READ_LIMIT_S = 60.0
"""To read all that a run wrote, and for the last open transaction to be aborted by the broker."""
CLOSE_LIMIT_MS = 1_000


def consumer_of(bootstrap: str, isolation: str = "read_committed") -> AIOKafkaConsumer:
    """Give a consumer without a group."""
    return AIOKafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level=isolation, auto_offset_reset="earliest", enable_auto_commit=False
    )


class Watch:
    """Follows how far each task has committed, and hands on the triggers that it publishes."""

    def __init__(
        self, bootstrap: str, topics: TopicSettings, partitions: int, on_trigger: Callable[[int, bytes], None]
    ) -> None:
        self._bootstrap = bootstrap
        self._topics = topics
        self._on_trigger = on_trigger
        self._moved = asyncio.Condition()
        self._next = {
            TopicPartition(topic, partition): 0
            for topic in (topics.steps, topics.triggers)
            for partition in range(partitions)
        }
        self.reached = dict.fromkeys(range(partitions), Positions(0, 0, 0))

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            consumer = consumer_of(self._bootstrap)
            try:
                await consumer.start()
                consumer.assign(list(self._next))
                for where, position in self._next.items():
                    consumer.seek(where, position)
                while True:
                    await self._take(await consumer.getmany(timeout_ms=100))
            except (KafkaError, OSError):
                await asyncio.sleep(0.2)
            finally:
                await close_consumer(consumer, CLOSE_LIMIT_MS)

    async def _take(self, found: Mapping[TopicPartition, Sequence[Any]]) -> None:
        for where, records in found.items():
            self._next[where] = records[-1].offset + 1
            if where.topic == self._topics.triggers:
                for record in records:
                    self._on_trigger(where.partition, record.value)
            elif cuts := [record.value for record in records if record.key == b"cut"]:
                self.reached[where.partition] = end_of(cuts)
        async with self._moved:
            self._moved.notify_all()

    async def covered(self, ends: Mapping[int, Positions], limit_s: float) -> None:
        """Wait until every task has committed up to here. Raises ViolationError when it takes too long."""

        def behind() -> dict[int, list[str]]:
            found = {partition: roles_behind(end, self.reached[partition]) for partition, end in ends.items()}
            return {partition: roles for partition, roles in found.items() if roles}

        try:
            async with asyncio.timeout(limit_s), self._moved:
                await self._moved.wait_for(lambda: not behind())
        except TimeoutError:
            stands = {partition: (self.reached[partition], ends[partition]) for partition in behind()}
            raise ViolationError(f"tasks still behind after {limit_s:.0f} s (reached, wanted): {stands}") from None


async def read_all(bootstrap: str, topics: Iterable[str], partitions: int) -> dict[TopicPartition, list[Chunk]]:
    """Read partitions from their first to their very last offset, open transactions included.

    A reader of committed records that does not come to the end in time shows a transaction that nobody ended:
    ViolationError.
    """
    wanted = [TopicPartition(topic, partition) for topic in topics for partition in range(partitions)]
    ends = await _ends(bootstrap, wanted)
    chunks: dict[TopicPartition, list[Chunk]] = {where: [] for where in wanted}
    consumer = consumer_of(bootstrap)
    await consumer.start()
    try:
        consumer.assign(wanted)
        async with asyncio.timeout(READ_LIMIT_S):
            while behind := [where for where in wanted if await consumer.position(where) < ends[where]]:
                for where, records in (await consumer.getmany(*behind, timeout_ms=200)).items():
                    chunks[where].append(_chunk(where, records))
    except TimeoutError:
        raise ViolationError(f"records behind a transaction that nobody ended: {behind}") from None
    finally:
        await close_consumer(consumer, CLOSE_LIMIT_MS)
    return chunks


async def _ends(bootstrap: str, wanted: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """Give the high watermarks: behind the last record, committed or not."""
    consumer = consumer_of(bootstrap, "read_uncommitted")
    await consumer.start()
    try:
        ends: dict[TopicPartition, int] = await consumer.end_offsets(wanted)
    finally:
        await close_consumer(consumer, CLOSE_LIMIT_MS)
    return ends


def _chunk(where: TopicPartition, records: Sequence[Any]) -> Chunk:
    return Chunk(
        where.topic,
        where.partition,
        np.array([record.offset for record in records], np.int64),
        np.array([record.timestamp for record in records], np.int64),
        [record.key for record in records],
        [record.value for record in records],
        [tuple(record.headers) for record in records],
        records[-1].offset + 1,
    )
