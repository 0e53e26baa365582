"""Takes part in a consumer group for the sake of its assignments alone. Its partitions are always paused."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.structs import TopicPartition as KafkaTopicPartition

from service.eventlog.errors import LogError, TopicError
from service.eventlog.kafka.assignor import CoPartitionedStickyAssignor
from service.eventlog.kafka.client import BROKER_ERRORS, bounded, connection_options, in_our_words
from service.eventlog.kafka.reader import close_consumer
from service.eventlog.kafka_settings import KafkaSecrets, KafkaSettings
from service.eventlog.mailbox import AssignmentMailbox
from service.eventlog.protocol import Assignment, TopicPartition

POLL_MS = 500
"""A member that does not poll for max_poll_interval_ms (5 minutes) has to leave; this is its pulse."""

PUBLISH_LIMIT_MS = 2_000
"""Publishing positions is for dashboards: a commit must not wait longer for it."""


class KafkaMembership:
    """One member of a group."""

    def __init__(self, settings: KafkaSettings, secrets: KafkaSecrets, group: str, topics: Sequence[str]) -> None:
        self._settings = settings
        self._group = group
        self._topics = tuple(sorted(topics))
        self._assignor = CoPartitionedStickyAssignor()
        self._mailbox = AssignmentMailbox()
        self._released_generation = 0
        self._released = asyncio.Event()
        self._closed = False
        self._polling: asyncio.Task[None] | None = None
        # A broker answers a request to join when the group is complete, which the rebalance's time limit bounds.
        join_timeout_ms = settings.rebalance_timeout_ms + settings.request_timeout_ms
        self._consumer = AIOKafkaConsumer(
            **{**connection_options(settings, secrets), "request_timeout_ms": join_timeout_ms},
            group_id=group,
            enable_auto_commit=False,
            # Nothing is ever read here, but without a rule the client would complain of partitions without a position.
            auto_offset_reset="earliest",
            partition_assignment_strategy=(self._assignor,),
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=settings.heartbeat_interval_ms,
            rebalance_timeout_ms=settings.rebalance_timeout_ms,
        )

    async def open(self) -> None:
        """Connect and ask to join. The first assignment comes when the group has met."""
        try:
            async with bounded(self._settings.request_timeout_ms, f"joining group {self._group}"):
                await self._consumer.start()
        except BaseException:
            await close_consumer(self._consumer, self._settings.request_timeout_ms)
            raise
        # After `start`, which otherwise waits for the assignment, however long others hold the rebalance up.
        self._consumer.subscribe(self._topics, listener=Listener(self))
        self._polling = asyncio.create_task(self._poll())

    async def _poll(self) -> None:
        """Show that this member is alive. `getmany` is told when to return and is not cancelled."""
        while not self._closed:
            try:
                # Records can arrive in the moment before the callback pauses; nobody misses them here.
                await self._consumer.getmany(timeout_ms=POLL_MS)
            except BROKER_ERRORS as error:
                if not self._closed:
                    self._mailbox.fail(in_our_words(error, f"taking part in group {self._group}"))
                return

    # Called back by aiokafka, which swallows exceptions ---------------------------------------------------------------

    async def revoked(self) -> None:
        """Wait until the worker let go of everything, so that the next owner need not fence it in mid-work.

        Heartbeats go on meanwhile. If it takes too long the rebalance goes on without it: the writers are the lock.
        """
        if not self._assignor.claim.tasks or self._closed:
            return
        generation = self._mailbox.revoke()
        try:
            async with asyncio.timeout(self._settings.release_timeout_ms / 1000):
                while self._released_generation < generation and not self._closed:
                    await self._released.wait()
                    self._released.clear()
        except TimeoutError:
            return

    def assigned(self, partitions: Iterable[KafkaTopicPartition]) -> None:
        """Pause first, before anything is awaited; then tell the worker. No heartbeats are sent while this runs."""
        partitions = list(partitions)
        self._consumer.pause(*partitions)
        expected = self._assignor.expected_topics
        if expected is not None:
            text = f"group {self._group} reads {', '.join(expected)}, not {', '.join(self._topics)}"
            self._mailbox.fail(TopicError(f"{text}: two services share one name"))
        else:
            self._mailbox.put(frozenset(partition.partition for partition in partitions))

    # Called by the worker ---------------------------------------------------------------------------------------------

    def assignments(self) -> AsyncIterator[Assignment]:
        """Give the newest assignment whenever there is one."""
        return self._mailbox.assignments()

    async def released(self, generation: int) -> None:
        """Let the rebalance go on that waits for this generation."""
        self._released_generation = max(self._released_generation, generation)
        self._released.set()

    async def publish_positions(self, positions: Mapping[TopicPartition, int]) -> None:
        """Commit group offsets, of the partitions that are assigned, for lag dashboards alone."""
        native = {KafkaTopicPartition(*where): position for where, position in positions.items()}
        mine = {where: native[where] for where in self._consumer.assignment() if where in native}
        if not mine or self._closed:
            return
        try:
            async with bounded(PUBLISH_LIMIT_MS, "publishing positions"):
                await self._consumer.commit(mine)
        except LogError:
            # Best effort by contract: the next commit publishes newer ones.
            return

    async def close(self) -> None:
        """Leave the group at once."""
        if self._closed:
            return
        self._closed = True
        self._released.set()
        self._mailbox.close()
        await close_consumer(self._consumer, self._settings.request_timeout_ms)
        if self._polling is not None:
            # A `getmany` that waits for an assignment is not woken by `stop`. The consumer is gone: cancelling is safe.
            self._polling.cancel()
            await asyncio.wait([self._polling])


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Passes aiokafka's callbacks on."""

    def __init__(self, membership: KafkaMembership) -> None:
        self._membership = membership

    async def on_partitions_revoked(self, revoked: Iterable[KafkaTopicPartition]) -> None:  # noqa: ARG002
        """Let go, before a rebalance, of everything: aiokafka rebalances eagerly."""
        await self._membership.revoked()

    def on_partitions_assigned(self, assigned: Iterable[KafkaTopicPartition]) -> None:
        """Take what a rebalance gave."""
        self._membership.assigned(assigned)
