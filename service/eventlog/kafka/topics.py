"""Topics: which there are, what they take, and how those that are missing are made."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaError, for_code
from aiokafka.structs import TopicPartition as KafkaTopicPartition

from service.eventlog.errors import TopicError
from service.eventlog.kafka.client import bounded, connection_options, why_not_connected
from service.eventlog.kafka.rights import Rights, ask_rights, ask_settings
from service.eventlog.kafka_settings import KafkaSecrets, KafkaSettings
from service.eventlog.protocol import TopicPartition, TopicSpec
from service.eventlog.records import DEFAULT_MAX_MESSAGE_BYTES

ALREADY_EXISTS = 36  # somebody else was faster: as good as made by us
LOOK_AGAIN_S = 0.05


class Topics:
    """Asks the cluster about topics, and remembers what does not change under a running service."""

    def __init__(self, settings: KafkaSettings, secrets: KafkaSecrets) -> None:
        self._settings = settings
        self._secrets = secrets
        self._admin: AIOKafkaAdminClient | None = None
        self._opening = asyncio.Lock()
        self._counts: dict[str, int] = {}
        self._limits: dict[str, int] = {}

    async def partitions(self, topics: Sequence[str]) -> dict[str, int]:
        """Count the partitions of the topics that exist, now."""
        if not topics:
            return {}
        described = await self._describe(topics)
        found = {topic["topic"]: len(topic["partitions"]) for topic in described if topic["error_code"] == 0}
        self._counts.update(found)
        return found

    async def demand(self, partitions: Iterable[TopicPartition]) -> None:
        """Raise TopicError if one of these does not exist."""
        wanted = set(partitions)
        unknown = {topic for topic, number in wanted if number >= self._counts.get(topic, 0)}
        if unknown:
            await self.partitions(sorted(unknown))
        missing = sorted(where for where in wanted if not 0 <= where.partition < self._counts.get(where.topic, 0))
        if missing:
            raise TopicError(f"no such partitions: {', '.join(f'{topic}[{number}]' for topic, number in missing)}")

    async def message_limits(self, topics: Iterable[str]) -> dict[str, int]:
        """Give the largest batch that each topic takes, in bytes. Where we may not ask: Kafka's default."""
        wanted = set(topics)
        unknown = sorted(wanted - set(self._limits))
        if unknown:
            resources = [
                ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": ""}) for topic in unknown
            ]
            async with bounded(self._settings.request_timeout_ms, "asking for topic settings"):
                admin = await self._client()
                answers = await admin.describe_configs(resources)
            self._limits.update(dict.fromkeys(unknown, DEFAULT_MAX_MESSAGE_BYTES))
            self._limits.update(max_message_bytes(answers))
        return {topic: self._limits[topic] for topic in wanted}

    async def ensure(self, specs: Sequence[TopicSpec]) -> None:
        """Create what is missing and wait until it can be used. Raises TopicError that names each that failed."""
        there = await self.partitions([spec.name for spec in specs])
        missing = [spec for spec in specs if spec.name not in there]
        if not missing:
            return
        limit_ms = self._settings.request_timeout_ms
        async with bounded(2 * limit_ms, "creating topics"):
            admin = await self._client()
            answer = await admin.create_topics([new_topic(spec) for spec in missing], timeout_ms=limit_ms)
            refuse_failures(answer.topic_errors)
            await self._wait_for_leaders([spec.name for spec in missing])

    async def _wait_for_leaders(self, topics: Sequence[str]) -> None:
        """Wait until topics that were just created can be used."""
        while True:
            if all(map(has_leaders, await self._describe(topics))):
                return
            await asyncio.sleep(LOOK_AGAIN_S)

    async def group_positions(self, group: str, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Give the offsets that a group committed."""
        wanted = [KafkaTopicPartition(*where) for where in partitions]
        async with bounded(self._settings.request_timeout_ms, f"asking for the positions of group {group}"):
            answer = await self._committed(group, wanted)
        return {TopicPartition(*where): found.offset for where, found in answer.items() if found.offset >= 0}

    async def rights(self, topics: Sequence[str], group: str) -> Rights:
        """Ask what this user may do with topics, the cluster and a group, without doing it."""
        async with bounded(self._settings.request_timeout_ms, "asking for rights"):
            return await ask_rights(await self._client(), topics, group)

    async def settings(self, topics: Sequence[str]) -> dict[str, dict[str, str]]:
        """Ask how topics are set. Those whose settings we may not see are left out."""
        async with bounded(self._settings.request_timeout_ms, "asking for topic settings"):
            return await ask_settings(await self._client(), topics)

    async def close(self) -> None:
        """Close the connection."""
        if self._admin is not None:
            admin, self._admin = self._admin, None
            await admin.close()

    async def _describe(self, topics: Sequence[str]) -> list[dict[str, Any]]:
        async with bounded(self._settings.request_timeout_ms, "asking for topics"):
            admin = await self._client()
            described: list[dict[str, Any]] = await admin.describe_topics(list(topics))
        return described

    async def _committed(self, group: str, partitions: list[KafkaTopicPartition]) -> dict[KafkaTopicPartition, Any]:
        admin = await self._client()
        while True:
            try:
                found: dict[KafkaTopicPartition, Any] = await admin.list_consumer_group_offsets(
                    group, partitions=partitions
                )
            except KafkaError as error:
                # The first question of a cluster's life makes it create the topic that holds the answer.
                if not error.retriable:
                    raise
                await asyncio.sleep(LOOK_AGAIN_S)
            else:
                return found

    async def _client(self) -> AIOKafkaAdminClient:
        async with self._opening:
            if self._admin is None:
                admin = AIOKafkaAdminClient(**connection_options(self._settings, self._secrets))
                try:
                    await admin.start()
                except KafkaConnectionError as error:
                    await admin.close()
                    raise await why_not_connected(self._settings, self._secrets) from error
                except BaseException:
                    await admin.close()
                    raise
                self._admin = admin
            return self._admin


def has_leaders(described: Mapping[str, Any]) -> bool:
    """Say whether each partition of a topic that was described has a broker who serves it."""
    return described["error_code"] == 0 and all(part["leader"] >= 0 for part in described["partitions"])


def new_topic(spec: TopicSpec) -> NewTopic:
    """Put a topic's settings in the broker's words."""
    configs: dict[str, str] = {"cleanup.policy": spec.cleanup}
    if spec.retention_ms is not None:
        configs["retention.ms"] = str(spec.retention_ms)
    if spec.max_message_bytes is not None:
        configs["max.message.bytes"] = str(spec.max_message_bytes)
    # The empty assignments let aiokafka accept the -1 that means "the broker's default" (KIP-464).
    assignments: dict[int, list[int]] | None = {} if spec.replication_factor == -1 else None
    return NewTopic(spec.name, spec.partitions, spec.replication_factor, assignments, configs)


def refuse_failures(topic_errors: Iterable[Sequence[Any]]) -> None:
    """Raise one TopicError for all topics that could not be created."""
    failures: list[str] = []
    for topic, code, *message in topic_errors:
        if code not in {0, ALREADY_EXISTS}:
            explained = f" ({message[0]})" if message and message[0] else ""
            failures.append(f"{topic}: {for_code(code).__name__}{explained}")
    if failures:
        raise TopicError(f"topics could not be created: {'; '.join(sorted(failures))}")


def max_message_bytes(answers: Iterable[Any]) -> dict[str, int]:
    """Find the one setting that was asked for in the answers to DescribeConfigs. Topics with an error are left out."""
    return {
        topic: int(entry[1])
        for answer in answers
        for code, _, _, topic, entries in answer.resources
        for entry in entries
        if code == 0 and entry[0] == "max.message.bytes"
    }
