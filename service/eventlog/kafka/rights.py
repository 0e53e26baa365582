"""What the user of a connection may do, asked without doing it (KIP-430), and how topics are set."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import GroupAuthorizationFailedError, GroupCoordinatorNotAvailableError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Bytes, Int16, Int32, Schema, String

READ, WRITE, CREATE, DESCRIBE = 3, 4, 5, 8
"""Numbers of the operations in the protocol (KIP-140)."""

UNKNOWN: Final = -(1 << 31)
"""What a broker says that was not asked, or does not tell."""

TEXT: Final = String("utf-8")
LOOK_AGAIN_S: Final = 0.1


class MetadataResponse8(Response):  # type: ignore[misc]  # aiokafka has no types
    """Brokers, topics, and what we may do with each."""

    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(("node_id", Int32), ("host", TEXT), ("port", Int32), ("rack", TEXT))),
        ("cluster_id", TEXT),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", TEXT),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline", Array(Int32)),
                    ),
                ),
                ("operations", Int32),
            ),
        ),
        ("operations", Int32),
    )


class MetadataRequest8(RequestStruct):  # type: ignore[misc]  # aiokafka has no types
    """Asks for them."""

    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = MetadataResponse8
    SCHEMA = Schema(
        ("topics", Array(TEXT)),
        ("create", Boolean),
        ("cluster_operations", Boolean),
        ("topic_operations", Boolean),
    )


class DescribeGroupsResponse3(Response):  # type: ignore[misc]  # aiokafka has no types
    """Groups, and what we may do with each."""

    API_KEY = 15
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "groups",
            Array(
                ("error_code", Int16),
                ("group", TEXT),
                ("state", TEXT),
                ("protocol_type", TEXT),
                ("protocol", TEXT),
                (
                    "members",
                    Array(
                        ("member_id", TEXT),
                        ("client_id", TEXT),
                        ("client_host", TEXT),
                        ("metadata", Bytes),
                        ("assignment", Bytes),
                    ),
                ),
                ("operations", Int32),
            ),
        ),
    )


class DescribeGroupsRequest3(RequestStruct):  # type: ignore[misc]  # aiokafka has no types
    """Asks for them."""

    API_KEY = 15
    API_VERSION = 3
    RESPONSE_TYPE = DescribeGroupsResponse3
    SCHEMA = Schema(("groups", Array(TEXT)), ("operations", Boolean))


class _MetadataQuestion(Request[MetadataRequest8]):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = list(topics)

    def build(self, request_struct_class: type[MetadataRequest8]) -> MetadataRequest8:
        return request_struct_class(self._topics, False, True, True)


class _GroupQuestion(Request[DescribeGroupsRequest3]):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 15

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, request_struct_class: type[DescribeGroupsRequest3]) -> DescribeGroupsRequest3:
        return request_struct_class([self._group], True)


class Rights(NamedTuple):
    """Which operations are allowed: a set of numbers, or None where the broker does not tell."""

    topics: dict[str, frozenset[int] | None]
    """Of topics that exist and that we may see."""
    cluster: frozenset[int] | None
    group: frozenset[int] | None


async def ask_rights(admin: AIOKafkaAdminClient, topics: Sequence[str], group: str) -> Rights:
    """Ask what we may do with topics, the cluster and a group. Raises aiokafka's errors."""
    answer = await admin._send_request(_MetadataQuestion(topics))  # noqa: SLF001  # no public way asks for rights
    found = {topic[1]: operations(topic[4]) for topic in answer.topics if topic[0] == 0}
    return Rights(found, operations(answer.operations), await _group_rights(admin, group))


async def _group_rights(admin: AIOKafkaAdminClient, group: str) -> frozenset[int] | None:
    try:
        coordinator = await _coordinator(admin, group)
    except GroupAuthorizationFailedError:
        return frozenset()
    answer = await admin._send_request_to_node(coordinator, _GroupQuestion(group))  # noqa: SLF001
    [(code, *_, allowed)] = answer.groups
    return operations(allowed) if code == 0 else frozenset()


async def _coordinator(admin: AIOKafkaAdminClient, group: str) -> int:
    while True:
        try:
            found: int = await admin.find_coordinator(group)
        except GroupCoordinatorNotAvailableError:
            # The first question of a cluster's life makes it create the topic that holds the answer.
            await asyncio.sleep(LOOK_AGAIN_S)
        else:
            return found


def operations(bits: int) -> frozenset[int] | None:
    """Turn a broker's bits into numbers."""
    return None if bits == UNKNOWN else frozenset(number for number in range(31) if bits >> number & 1)


async def ask_settings(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> dict[str, dict[str, str]]:
    """Ask how topics are set. Topics whose settings we may not see are left out. Raises aiokafka's errors."""
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics])
    return dict(_settings(answers))


def _settings(answers: Iterable[Any]) -> Iterable[tuple[str, dict[str, str]]]:
    for answer in answers:
        for code, _, _, topic, entries in answer.resources:
            if code == 0:
                yield topic, {entry[0]: entry[1] for entry in entries}
