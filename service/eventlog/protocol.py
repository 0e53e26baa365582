"""The Log: where records come from and go to. Kafka, SQLite and memory carry it alike.

One law suite (`tests/eventlog`) runs over all carriers. What a carrier must keep:

* Offsets of a partition rise; a position is the offset of the next record to read.
* A Writer is the lock of its `writer_id`: opening one fences all earlier ones, whose next call raises FencedError,
  and resolves their open transaction first.
* A transaction's records become visible to readers together or not at all, in the order in which they were appended.
* Readers see committed records only, and nothing behind an open transaction of the same partition.
* After OutcomeUnknownError nobody knows whether a transaction was committed: drop the writer and open a new one.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

Headers = tuple[tuple[str, bytes], ...]


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class NewRecord(NamedTuple):
    """A record to append. `timestamp_ms` None means: now, by the carrier's clock. A None value is a tombstone.

    A timestamp may lie in the past as far as it likes, but brokers refuse one of more than an hour ahead (KIP-937).
    """

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int | None = None


class Chunk(NamedTuple):
    """Consecutive records of one partition, in columns. Offsets rise but may have gaps.

    A chunk may be empty: then only the position moved, past control records or aborted transactions.
    """

    topic: str
    partition: int
    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: list[Headers]
    next_position: int
    """Where to read on. May lie behind the last offset plus one, where control records were skipped."""


class TopicSpec(msgspec.Struct, frozen=True):
    """A topic that must exist. Settings are applied when it is created, never to one that exists."""

    name: str
    partitions: int
    cleanup: Literal["delete", "compact"] = "delete"
    retention_ms: int | None = None
    max_message_bytes: int | None = None
    replication_factor: int = -1
    """-1: the broker's default."""


class Reader(Protocol):
    """Reads given partitions from given positions. Knows nothing of groups."""

    async def fetch(
        self, *, max_records: int, wait_ms: int, only: Sequence[TopicPartition] | None = None
    ) -> list[Chunk]:
        """Give what there is (at most `max_records` in all; at most one chunk a partition), or wait up to `wait_ms`.

        `only` names the partitions that have room; None means all, an empty sequence none.
        Raises OffsetOutOfRangeError when retention deleted what is asked for or the topic is shorter than the position,
        UnreadableRecordError when the bytes at the position are no record, UnknownCodecError when this install cannot
        decompress them. A fetch that raised or was cancelled lost nothing: the next one reads on behind the last chunk
        that was given.
        """
        ...

    async def end_offsets(self) -> dict[TopicPartition, int]:
        """Say where each partition ends for a reader of committed records."""
        ...

    def at_end(self, partition: TopicPartition) -> bool:
        """Whether no committed record follows what was fetched, as far as the last fetch or `end_offsets` told."""
        ...

    def lag(self, partition: TopicPartition) -> int:
        """Count the offsets between the position and the end, as far as the last fetch or `end_offsets` told."""
        ...

    async def begin_offsets(self) -> dict[TopicPartition, int]:
        """Say the first offset that each partition still holds."""
        ...

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read on from other positions. Takes effect at the next fetch."""
        ...

    async def close(self) -> None:
        """Let go of connections. Idempotent."""
        ...


class Writer(Protocol):
    """The one transactional writer of its `writer_id`."""

    async def commit(self, records: Sequence[NewRecord]) -> None:
        """Append all records in one transaction, or none.

        Raises FencedError when another writer of the same id was opened, OutcomeUnknownError when the carrier did not
        answer in time or failed on the way. After either the writer is of no further use. RecordTooLargeError: nothing
        was written and the writer may go on.
        """
        ...

    async def close(self) -> None:
        """Let go of connections, aborting an open transaction. Idempotent; never raises."""
        ...


class Appender(Protocol):
    """Writes without transactions: producers of events, tools and tests."""

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Append in order for each partition; return when the carrier has them."""
        ...

    async def close(self) -> None:
        """Flush and let go. Idempotent."""
        ...


class Assignment(NamedTuple):
    """Which partition numbers (tasks) the group wants this worker to try. A hint: the Writer is the lock."""

    generation: int
    tasks: frozenset[int]
    settled: bool = True
    """False: all tasks are taken back while the group decides whose they are. True with no tasks: none is left over."""


class Membership(Protocol):
    """Takes part in a group that shares tasks out among workers.

    A carrier that revokes everything before it shares out anew (Kafka's eager rebalance) gives an Assignment that is
    not settled first and waits a bounded time for `released`. Keep the state: the next assignment says who owns it.
    """

    def assignments(self) -> AsyncIterator[Assignment]:
        """Give the newest assignment whenever there is one (an older one that nobody took is passed over).

        Ends when the membership is closed. Raises LogError when the group cannot be taken part in any longer.
        """
        ...

    async def released(self, generation: int) -> None:
        """Tell that all tasks not in the assignment of this generation are suspended and may move. Never raises."""
        ...

    async def publish_positions(self, positions: Mapping[TopicPartition, int]) -> None:
        """Tell lag dashboards how far the group has read. Best effort; never raises."""
        ...

    async def close(self) -> None:
        """Leave the group at once."""
        ...


class Log(Protocol):
    """One carrier."""

    async def partitions(self, topics: Sequence[str]) -> dict[str, int]:
        """Count the partitions of the topics that exist; those that do not are absent."""
        ...

    async def ensure_topics(self, specs: Sequence[TopicSpec]) -> None:
        """Create what is missing. Raises TopicError that names each topic which could not be created."""
        ...

    async def reader(self, positions: Mapping[TopicPartition, int]) -> Reader:
        """Open a reader of committed records."""
        ...

    async def offsets_for_time(
        self, partitions: Sequence[TopicPartition], timestamp_ms: int
    ) -> dict[TopicPartition, int]:
        """Give the first offset whose record timestamp is at or after `timestamp_ms`, else the end."""
        ...

    async def writer(self, writer_id: str) -> Writer:
        """Open the writer of this id, fencing all earlier ones and resolving their transactions."""
        ...

    async def appender(self) -> Appender:
        """Open a plain appender."""
        ...

    def membership(self, group: str, topics: Sequence[str]) -> AbstractAsyncContextManager[Membership]:
        """Join a group that shares out the partitions of co-partitioned topics."""
        ...

    async def group_positions(self, group: str, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Give what a group published with `publish_positions`; partitions without are absent."""
        ...

    async def close(self) -> None:
        """Close everything that was opened here. Idempotent."""
        ...
