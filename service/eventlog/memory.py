"""A log in memory: the deterministic double for tests and the simulator, with faults on demand. Ships with the service.

Nothing here happens by itself: no retention, no compaction, no rebalance without a join or a leave. What happens when
is decided by the caller, and by `Faults`, which is asked at each await and at each commit.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from typing import Literal, Protocol

from service.eventlog.errors import FencedError, LogError, OutcomeUnknownError, TopicError, UnavailableError
from service.eventlog.memory_group import MemoryGroup, MemoryMembership
from service.eventlog.memory_partition import MemoryPartition
from service.eventlog.memory_reader import MemoryReader
from service.eventlog.protocol import Appender, Membership, NewRecord, Reader, TopicPartition, TopicSpec, Writer
from service.eventlog.records import DEFAULT_MAX_MESSAGE_BYTES, by_partition, record_bytes, refuse_too_large

Call = Literal["fetch", "offsets", "topics", "open writer", "commit", "append"]
Moment = Literal["before", "after"]

DEFAULT_MAX_BYTES = 1 << 30
"""What a memory log holds at most, keys, values and headers together. At the limit append raises UnavailableError."""


class CommitFate(Enum):
    """What becomes of a commit that nothing else prevents."""

    CONFIRMED = "applied, and the writer learns it"
    REPLY_LOST = "applied, and the writer gets OutcomeUnknownError"
    LOST = "not applied, and the writer gets OutcomeUnknownError"
    LATE = "applied LATE_S later unless the writer is fenced by then, and the writer gets OutcomeUnknownError now"


LATE_S = 0.05
"""How long a late commit is under way. Who opens the next writer meanwhile aborts it, as InitProducerId does."""


class Faults(Protocol):
    """Decides what goes wrong. `subject` is the writer's id, or what is read or written."""

    async def at(self, moment: Moment, call: Call, subject: str) -> None:
        """Be called at every await of the log. May wait, and may raise: that is a crash of the caller there.

        After "after commit" the records are in the log, whatever is raised.
        """
        ...

    def fate(self, writer_id: str) -> CommitFate:
        """Say what becomes of this commit. Not asked where the writer is fenced."""
        ...


class NoFaults:
    """Lets everything succeed at once."""

    async def at(self, moment: Moment, call: Call, subject: str) -> None:
        """Do nothing."""

    def fate(self, writer_id: str) -> CommitFate:  # noqa: ARG002  (the protocol's signature)
        """Confirm each commit."""
        return CommitFate.CONFIRMED


class MemoryLog:
    """A log that lives as long as this object. Several workers of one process may share it."""

    def __init__(
        self,
        *,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        faults: Faults | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        self.faults: Faults = faults or NoFaults()
        """May be replaced at any time."""
        self._clock_ms = clock_ms
        self._max_bytes = max_bytes
        self._bytes = 0
        self._specs: dict[str, TopicSpec] = {}
        self._partitions: dict[TopicPartition, MemoryPartition] = {}
        self._epochs: dict[str, int] = {}
        self._groups: dict[str, MemoryGroup] = {}
        self._appended = asyncio.Event()

    # What every carrier does ------------------------------------------------------------------------------------------

    async def partitions(self, topics: Sequence[str]) -> dict[str, int]:
        """Count the partitions of the topics that exist."""
        await self.faults.at("before", "topics", ",".join(topics))
        return {topic: self._specs[topic].partitions for topic in topics if topic in self._specs}

    async def ensure_topics(self, specs: Sequence[TopicSpec]) -> None:
        """Create what is missing. Raises TopicError where a topic would have no partition."""
        await self.faults.at("before", "topics", ",".join(spec.name for spec in specs))
        impossible = [spec.name for spec in specs if spec.partitions < 1 or not spec.name]
        if impossible:
            raise TopicError(f"topics need a name and at least one partition: {impossible}")
        for spec in specs:
            if spec.name not in self._specs:
                self._specs[spec.name] = spec
                for number in range(spec.partitions):
                    self._partitions[TopicPartition(spec.name, number)] = MemoryPartition(spec.name, number)

    async def reader(self, positions: Mapping[TopicPartition, int]) -> Reader:
        """Open a reader. Raises TopicError for partitions that are not there."""
        self._demand(positions)
        return MemoryReader(self, positions)

    async def offsets_for_time(
        self, partitions: Sequence[TopicPartition], timestamp_ms: int
    ) -> dict[TopicPartition, int]:
        """Give the first offset whose timestamp is at or after `timestamp_ms`, else the end."""
        await self.faults.at("before", "offsets", str(timestamp_ms))
        self._demand(partitions)
        return {where: self._partitions[where].offset_for_time(timestamp_ms) for where in partitions}

    async def writer(self, writer_id: str) -> Writer:
        """Open the writer of this id and fence all earlier ones."""
        await self.faults.at("before", "open writer", writer_id)
        epoch = self._epochs[writer_id] = self._epochs.get(writer_id, 0) + 1
        await self.faults.at("after", "open writer", writer_id)
        return MemoryWriter(self, writer_id, epoch)

    async def appender(self) -> Appender:
        """Open a plain appender."""
        return MemoryAppender(self)

    @asynccontextmanager
    async def membership(self, group: str, topics: Sequence[str]) -> AsyncIterator[Membership]:
        """Join a group. All members learn their new shares at once, as hints: nobody waits for anybody."""
        counts = await self.partitions(topics)
        missing = sorted(set(topics) - set(counts))
        if missing or not counts:
            raise TopicError(f"group {group}: topics are missing: {missing}")
        shared = self._groups.setdefault(group, MemoryGroup(max(counts.values())))
        member = MemoryMembership(shared)
        shared.join(member)
        try:
            yield member
        finally:
            await member.close()

    async def group_positions(self, group: str, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Give what a group published."""
        known = self._groups[group].positions if group in self._groups else {}
        return {where: known[where] for where in partitions if where in known}

    async def close(self) -> None:
        """Let go of nothing: records stay until this object is gone, as a broker's do."""

    # What tests and simulators do beside ------------------------------------------------------------------------------

    def group(self, group: str) -> MemoryGroup:
        """Give a group that somebody joined, to dictate shares or to evict a member."""
        return self._groups[group]

    def drop_before(self, where: TopicPartition, offset: int) -> None:
        """Do what retention does: drop the records of a partition below an offset."""
        self._bytes -= self._partitions[where].drop_before(offset)

    def compact(self, topic: str) -> None:
        """Keep only the last record of each key in a topic. Records without a key stay."""
        for where, partition in self._partitions.items():
            if where.topic == topic:
                self._bytes -= partition.compact()

    def delete_topic(self, topic: str) -> None:
        """Delete a topic; it may be created again, and then begins at offset 0."""
        spec = self._specs.pop(topic)
        for number in range(spec.partitions):
            self._bytes -= self._partitions.pop(TopicPartition(topic, number)).weight

    # What the reader, the writer and the appender of this package call ------------------------------------------------

    def partition(self, where: TopicPartition) -> MemoryPartition:
        """Give a partition's records. Raises TopicError where it is not there."""
        self._demand([where])
        return self._partitions[where]

    async def wait_for_append(self, timeout_s: float) -> bool:
        """Wait until something is appended anywhere; say whether it was."""
        waiting = asyncio.ensure_future(self._appended.wait())
        done, _ = await asyncio.wait([waiting], timeout=timeout_s)
        waiting.cancel()
        return bool(done)

    def write(self, records: Sequence[NewRecord]) -> None:
        """Append all records, or raise and append none."""
        groups = by_partition(records)
        self._demand(groups)
        default = DEFAULT_MAX_MESSAGE_BYTES
        refuse_too_large(records, {name: spec.max_message_bytes or default for name, spec in self._specs.items()})
        weight = sum(map(record_bytes, records))
        if self._bytes + weight > self._max_bytes:
            raise UnavailableError(f"the memory log is full: it holds {self._bytes} bytes of {self._max_bytes}")
        self._bytes += weight
        now_ms = self._clock_ms()
        for where, group in groups.items():
            self._partitions[where].append(group, now_ms)
        # Waiters hold the old event; those who come later wait on the new one.
        self._appended.set()
        self._appended = asyncio.Event()

    def commit(self, writer_id: str, epoch: int, records: Sequence[NewRecord]) -> None:
        """Append under the lock of `writer_id`, as fate will have it."""
        if self._epochs[writer_id] != epoch:
            raise FencedError(f"another writer of {writer_id} was opened")
        fate = self.faults.fate(writer_id)
        if fate is CommitFate.LATE:
            asyncio.get_running_loop().call_later(LATE_S, self._arrive, writer_id, epoch, records)
        elif fate is not CommitFate.LOST:
            self.write(records)
        if fate is not CommitFate.CONFIRMED:
            raise OutcomeUnknownError(f"{writer_id}: the commit was not answered")

    def _arrive(self, writer_id: str, epoch: int, records: Sequence[NewRecord]) -> None:
        if self._epochs[writer_id] == epoch:
            self.write(records)

    def _demand(self, partitions: Mapping[TopicPartition, object] | Sequence[TopicPartition]) -> None:
        missing = sorted(where for where in partitions if where not in self._partitions)
        if missing:
            raise TopicError(f"no such partitions: {', '.join(f'{topic}[{number}]' for topic, number in missing)}")


class MemoryWriter:
    """The writer of one id, of one epoch."""

    def __init__(self, log: MemoryLog, writer_id: str, epoch: int) -> None:
        self._log = log
        self._writer_id = writer_id
        self._epoch = epoch
        self._ended: LogError | None = None

    async def commit(self, records: Sequence[NewRecord]) -> None:
        """Append all records at one moment, or none."""
        if self._ended is not None:
            raise self._ended
        # Held against this writer until the commit is confirmed: a caller who is cancelled here never knows.
        interrupted = self._ended = OutcomeUnknownError(f"{self._writer_id}: an earlier commit was interrupted")
        await self._log.faults.at("before", "commit", self._writer_id)
        try:
            self._log.commit(self._writer_id, self._epoch, records)
        except (FencedError, OutcomeUnknownError) as error:
            self._ended = error
            raise
        except LogError:
            self._ended = None
            raise
        await self._log.faults.at("after", "commit", self._writer_id)
        if self._ended is interrupted:
            self._ended = None

    async def close(self) -> None:
        """End this writer; the id stays."""
        self._ended = self._ended or FencedError(f"the writer of {self._writer_id} is closed")


class MemoryAppender:
    """Appends without a lock."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Append all records, or none."""
        await self._log.faults.at("before", "append", "")
        self._log.write(records)
        await self._log.faults.at("after", "append", "")

    async def close(self) -> None:
        """Let go of nothing."""
