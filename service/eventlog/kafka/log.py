"""The Kafka carrier as the service sees it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition as KafkaTopicPartition

from service.eventlog.errors import TopicError
from service.eventlog.kafka.client import bounded
from service.eventlog.kafka.membership import KafkaMembership
from service.eventlog.kafka.reader import KafkaReader, close_consumer, new_consumer, open_reader
from service.eventlog.kafka.rights import Rights
from service.eventlog.kafka.topics import Topics
from service.eventlog.kafka.writer import KafkaAppender, KafkaWriter, open_writer
from service.eventlog.kafka_settings import KafkaSecrets, KafkaSettings
from service.eventlog.protocol import Appender, Membership, Reader, TopicPartition, TopicSpec, Writer


class KafkaLog:
    """A Kafka cluster. Opens connections when they are first needed.

    Every call may raise UnavailableError (no answer in time; try again) and AccessDeniedError (do not).
    """

    def __init__(self, settings: KafkaSettings, secrets: KafkaSecrets | None = None) -> None:
        self._settings = settings
        self._secrets = secrets or KafkaSecrets()
        self._topics = Topics(settings, self._secrets)
        self._lookup: AIOKafkaConsumer | None = None
        self._opening_lookup = asyncio.Lock()
        self._opened: list[KafkaReader | KafkaWriter | KafkaAppender] = []

    async def partitions(self, topics: Sequence[str]) -> dict[str, int]:
        """Count the partitions of the topics that exist, now."""
        return await self._topics.partitions(topics)

    async def ensure_topics(self, specs: Sequence[TopicSpec]) -> None:
        """Create what is missing. Raises TopicError that names each topic which could not be created, and why."""
        await self._topics.ensure(specs)

    async def reader(self, positions: Mapping[TopicPartition, int]) -> Reader:
        """Open a reader of committed records. Raises TopicError for partitions that are not there."""
        await self._topics.demand(positions)
        reader = await open_reader(self._settings, self._secrets, positions)
        self._remember(reader)
        return reader

    async def offsets_for_time(
        self, partitions: Sequence[TopicPartition], timestamp_ms: int
    ) -> dict[TopicPartition, int]:
        """Give the first offset whose timestamp is at or after `timestamp_ms`, else the end."""
        await self._topics.demand(partitions)
        native = [KafkaTopicPartition(*where) for where in partitions]
        async with bounded(self._settings.request_timeout_ms, "asking for offsets by time"):
            consumer = await self._lookup_consumer()
            # Kafka's negative times are its words for the first and the last offset.
            found = await consumer.offsets_for_times(dict.fromkeys(native, max(timestamp_ms, 0)))
            ends = await consumer.end_offsets(native)
        return {TopicPartition(*where): found[where].offset if found[where] else ends[where] for where in native}

    async def writer(self, writer_id: str) -> Writer:
        """Open the writer of this id, fencing all earlier ones and resolving their transactions."""
        writer = await open_writer(self._settings, self._secrets, self._topics, writer_id)
        self._remember(writer)
        return writer

    async def appender(self) -> Appender:
        """Open a plain appender."""
        appender = KafkaAppender(self._settings, self._secrets, self._topics)
        await appender.open()
        self._remember(appender)
        return appender

    @asynccontextmanager
    async def membership(self, group: str, topics: Sequence[str]) -> AsyncIterator[Membership]:
        """Join a group that shares out the partitions of co-partitioned topics."""
        missing = sorted(set(topics) - set(await self.partitions(topics)))
        if missing or not topics:
            raise TopicError(f"group {group}: topics are missing: {missing}")
        member = KafkaMembership(self._settings, self._secrets, group, topics)
        await member.open()
        try:
            yield member
        finally:
            await member.close()

    async def group_positions(self, group: str, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Give the offsets that a group committed."""
        return await self._topics.group_positions(group, partitions)

    async def rights(self, topics: Sequence[str], group: str) -> Rights:
        """Ask what this user may do with topics, the cluster and a group, without doing it."""
        return await self._topics.rights(topics, group)

    async def topic_settings(self, topics: Sequence[str]) -> dict[str, dict[str, str]]:
        """Give the settings of topics by name, as the broker writes them; without those that we may not see."""
        return await self._topics.settings(topics)

    async def close(self) -> None:
        """Close what was opened here. Memberships end with their own `async with`."""
        await asyncio.gather(*(opened.close() for opened in self._opened))
        await self._topics.close()
        if self._lookup is not None:
            consumer, self._lookup = self._lookup, None
            await close_consumer(consumer, self._settings.request_timeout_ms)

    def _remember(self, opened: KafkaReader | KafkaWriter | KafkaAppender) -> None:
        # A task opens new ones at each acquisition; those that it closed since are forgotten here.
        self._opened = [*(one for one in self._opened if not one.closed), opened]

    async def _lookup_consumer(self) -> AIOKafkaConsumer:
        async with self._opening_lookup:
            if self._lookup is None:
                consumer = new_consumer(self._settings, self._secrets)
                try:
                    await consumer.start()
                except BaseException:
                    await close_consumer(consumer, self._settings.request_timeout_ms)
                    raise
                self._lookup = consumer
            return self._lookup
