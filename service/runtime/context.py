"""What every part of a running task knows: who it is, where its log is, how it is set."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from service.core.intake import Positions, Role
from service.core.join import Spill
from service.core.placement import Placement
from service.core.prepare import TaskTopics
from service.core.settings import CoreSettings
from service.eventlog.errors import OutcomeUnknownError
from service.eventlog.protocol import Log, TopicPartition
from service.runtime.settings import RuntimeSettings, TaskId, TopicSettings
from service.runtime.stats import TaskStats

T = TypeVar("T")


@dataclass(frozen=True)
class TaskContext:
    """One task's surroundings. Nothing here changes while it runs, but for the statistics."""

    task_id: TaskId
    carrier: Log
    topics: TopicSettings
    core: CoreSettings
    settings: RuntimeSettings
    partitions: int
    """Partitions of each input topic."""
    stats: TaskStats
    spill: Spill | None = None
    """Where the join puts rows that are too many for memory."""

    @property
    def partition(self) -> int:
        """The task's partition number."""
        return self.task_id.partition

    @property
    def inputs(self) -> dict[Role, TopicPartition]:
        """The task's share of each input topic."""
        return {
            role: TopicPartition(topic, self.partition) for role, topic in zip(Role, self.topics.inputs, strict=True)
        }

    @property
    def task_topics(self) -> TaskTopics:
        """What the core must know of names, for training windows and dead letters."""
        return TaskTopics(*self.topics.inputs, partition=self.partition)

    @cached_property
    def placement(self) -> Placement:
        """What judges whether records lie where their keys put them."""
        return Placement(self.partition, self.partitions, self.topics.rule)

    def at(self, positions: Positions) -> dict[TopicPartition, int]:
        """Name the positions by partition."""
        return {self.inputs[role]: position for role, position in zip(Role, positions, strict=True)}

    async def bounded(self, call: Awaitable[T]) -> T:
        """Await an answer of the log, at most `broker_timeout_ms`. After that its outcome is unknown."""
        try:
            async with asyncio.timeout(self.settings.broker_timeout_ms / 1000):
                return await call
        except TimeoutError as error:
            raise OutcomeUnknownError(f"the log did not answer within {self.settings.broker_timeout_ms} ms") from error
