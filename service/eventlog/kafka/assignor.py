"""The co-partitioned sticky assignor: what aiokafka asks of an assignor, around `sharing.share_out`.

A member sends what it held last with each join; the leader answers each member with its tasks and the number of this
sharing. One object for each membership, because it remembers. Round-robin, aiokafka's default, breaks co-partitioning;
its range assignor keeps it and is not sticky.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

from service.eventlog.sharing import NO_CLAIM, Claim, share_out

PROTOCOL_VERSION = 0  # of the consumer protocol: no owned partitions, no rack; our own data travels beside


class SharedState(msgspec.Struct, array_like=True, frozen=True):
    """What travels as user data, in both directions. A later version may add fields at the end."""

    round: int
    tasks: tuple[int, ...]
    expected_topics: tuple[str, ...] | None = None
    """Set in an answer to a member that subscribed to other topics than its group: it gets nothing."""


def decode(user_data: bytes) -> SharedState:
    """Read user data; none, or that of another program's assignor, claims nothing."""
    try:
        return msgspec.msgpack.decode(user_data, type=SharedState)
    except msgspec.DecodeError:
        return SharedState(0, ())


class CoPartitionedStickyAssignor(AbstractPartitionAssignor):  # type: ignore[misc]  # aiokafka has no types
    """Gives partition p of all topics to the same member, and as little as possible to another one than before."""

    def __init__(self) -> None:
        self.claim = NO_CLAIM
        """What this member was given last."""
        self.expected_topics: tuple[str, ...] | None = None
        """What the rest of the group reads, where that is not what this member reads."""

    @property
    def name(self) -> str:
        """Name the protocol: members without it are refused by the broker."""
        return "tidegauge-copartitioned-sticky"

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """Say, in a join, what this member reads and holds."""
        state = SharedState(self.claim.round, tuple(sorted(self.claim.tasks)))
        return ConsumerProtocolMemberMetadata(PROTOCOL_VERSION, sorted(topics), msgspec.msgpack.encode(state))

    def assign(
        self, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Share out, as the group's leader. A member that reads other topics than most gets nothing, and is told so."""
        subscriptions = {member: tuple(sorted(data.subscription)) for member, data in members.items()}
        topics = majority(subscriptions.values())
        counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
        states = {member: decode(data.user_data) for member, data in members.items()}
        claims = {
            member: Claim(state.round, frozenset(state.tasks))
            for member, state in states.items()
            if subscriptions[member] == topics
        }
        shares = share_out(claims, max(counts.values(), default=0))
        this_round = 1 + max(state.round for state in states.values())
        return {
            member: answer(counts, shares[member], this_round) if member in shares else refusal(topics, this_round)
            for member in members
        }

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Remember what this member was given."""
        state = decode(assignment.user_data)
        self.claim = Claim(state.round, frozenset(state.tasks))
        self.expected_topics = state.expected_topics


def majority(subscriptions: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Give what most members read; of several the first by name, so that every leader decides alike."""
    counted = Counter(subscriptions)
    return min(counted, key=lambda topics: (-counted[topics], topics))


def answer(counts: Mapping[str, int], tasks: frozenset[int], this_round: int) -> ConsumerProtocolMemberAssignment:
    """Give a member its tasks: of each topic the partitions of these numbers."""
    state = SharedState(this_round, tuple(sorted(tasks)))
    partitions = [(topic, [task for task in state.tasks if task < count]) for topic, count in sorted(counts.items())]
    return ConsumerProtocolMemberAssignment(PROTOCOL_VERSION, partitions, msgspec.msgpack.encode(state))


def refusal(topics: tuple[str, ...], this_round: int) -> ConsumerProtocolMemberAssignment:
    """Give a member nothing, and the reason."""
    state = SharedState(this_round, (), topics)
    return ConsumerProtocolMemberAssignment(PROTOCOL_VERSION, [], msgspec.msgpack.encode(state))
