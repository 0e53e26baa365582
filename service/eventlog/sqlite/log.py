"""The embedded log as the service sees it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from service.eventlog.errors import (
    FencedError,
    LogError,
    LogLostError,
    OutcomeUnknownError,
    TopicError,
    UnavailableError,
)
from service.eventlog.protocol import Appender, Chunk, Membership, NewRecord, Reader, TopicPartition, TopicSpec, Writer
from service.eventlog.rotation import Rotation
from service.eventlog.sqlite.append import Fence, create_topics, open_epoch, write, write_positions
from service.eventlog.sqlite.connection import Connection
from service.eventlog.sqlite.fetch import (
    count_partitions,
    data_version,
    extents,
    fetch,
    offset_for_time,
    read_positions,
)
from service.eventlog.sqlite.group import SqliteMembership, lock_path
from service.eventlog.sqlite.retention_clock import Uptime, uptime
from service.eventlog.sqlite.upkeep import UPKEEP_EVERY_S, tidy
from service.eventlog.sqlite.watch import ChangeWatch


class SqliteLog:
    """A log in one file. Any number of processes of this machine may use it at the same time.

    `busy_timeout_ms`: how long a call waits for another process's transaction before it raises UnavailableError.
    `poll_interval_ms`: how soon at the latest a waiting reader learns what another process committed.
    `durable`: wait for the disk at each commit; see `schema.connect`. `clock_ms` stamps records without a timestamp;
    `uptime` says how long the machine runs, which no setting of its clock changes.
    """

    def __init__(
        self,
        path: Path,
        *,
        busy_timeout_ms: int = 5_000,
        poll_interval_ms: int = 20,
        durable: bool = False,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        uptime: Callable[[], Uptime] = uptime,
    ) -> None:
        self.path = path
        self.clock_ms = clock_ms
        self.uptime = uptime
        # Two connections, so that readers need not wait for the writers' transactions (WAL).
        self.writing = Connection(path, busy_timeout_ms=busy_timeout_ms, durable=durable)
        self.reading = Connection(path, busy_timeout_ms=busy_timeout_ms, durable=durable)
        self.watch = ChangeWatch(self._data_version, poll_interval_ms / 1000)
        self._next_upkeep = time.monotonic() + UPKEEP_EVERY_S
        self._upkeep: asyncio.Task[None] | None = None

    async def partitions(self, topics: Sequence[str]) -> dict[str, int]:
        """Count the partitions of the topics that exist."""
        return await self.reading.run(count_partitions, topics)

    async def ensure_topics(self, specs: Sequence[TopicSpec]) -> None:
        """Create what is missing. Raises TopicError where a topic would have no partition."""
        impossible = [spec.name for spec in specs if spec.partitions < 1 or not spec.name]
        if impossible:
            raise TopicError(f"topics need a name and at least one partition: {impossible}")
        await self.writing.run(create_topics, specs)

    async def reader(self, positions: Mapping[TopicPartition, int]) -> Reader:
        """Open a reader. Raises TopicError for partitions that are not there."""
        await self.reading.run(extents, list(positions))
        return SqliteReader(self, positions)

    async def offsets_for_time(
        self, partitions: Sequence[TopicPartition], timestamp_ms: int
    ) -> dict[TopicPartition, int]:
        """Give the first offset whose timestamp is at or after `timestamp_ms`, else the end."""
        return {where: await self.reading.run(offset_for_time, where, timestamp_ms) for where in partitions}

    async def writer(self, writer_id: str) -> Writer:
        """Open the writer of this id and fence all earlier ones, in whatever process."""
        return SqliteWriter(self, Fence(writer_id, await self.writing.run(open_epoch, writer_id)))

    async def appender(self) -> Appender:
        """Open a plain appender."""
        return SqliteAppender(self)

    @asynccontextmanager
    async def membership(self, group: str, topics: Sequence[str]) -> AsyncIterator[Membership]:
        """Wait for all tasks of a group."""
        counts = await self.partitions(topics)
        missing = sorted(set(topics) - set(counts))
        if missing or not counts:
            raise TopicError(f"group {group}: topics are missing: {missing}")

        async def publish(positions: Mapping[TopicPartition, int]) -> None:
            await self.writing.run(write_positions, group, positions)

        member = SqliteMembership(lock_path(self.path, group), max(counts.values()), publish)
        try:
            yield member
        finally:
            await member.close()

    async def group_positions(self, group: str, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Give what a group published."""
        return await self.reading.run(read_positions, group, partitions)

    async def close(self) -> None:
        """Close the file."""
        await self.watch.close()
        await self.writing.close()
        if self._upkeep is not None:
            await asyncio.wait([self._upkeep])
        await self.reading.close()

    async def write(self, records: Sequence[NewRecord], fence: Fence | None) -> None:
        """Append in one transaction, wake the readers, and see to retention now and then."""
        await self.writing.run(write, records, self.clock_ms(), fence)
        self.watch.touch()
        if time.monotonic() >= self._next_upkeep and (self._upkeep is None or self._upkeep.done()):
            self._next_upkeep = time.monotonic() + UPKEEP_EVERY_S
            self._upkeep = asyncio.create_task(self.tidy())

    async def tidy(self) -> None:
        """Delete what retention and compaction no longer keep, in steps between which commits may pass."""
        try:
            while await self.writing.run(tidy, self.clock_ms(), self.uptime()):
                pass
        except (UnavailableError, LogLostError):
            # Another process holds the file, or this log was closed: the next time will do. Where the log is lost,
            # whoever reads or writes is told.
            return

    async def _data_version(self) -> int:
        return await self.reading.run(data_version)


class SqliteReader:
    """Takes the partitions in turn, so that a full one cannot starve the others."""

    def __init__(self, log: SqliteLog, positions: Mapping[TopicPartition, int]) -> None:
        self._log = log
        self._positions = dict(positions)
        self._ends: dict[TopicPartition, int] = {}
        self._rotation = Rotation(list(positions))

    async def fetch(
        self, *, max_records: int, wait_ms: int, only: Sequence[TopicPartition] | None = None
    ) -> list[Chunk]:
        """Give what there is, or wait up to `wait_ms` for it."""
        wanted = self._rotation.turn(only)
        if not wanted:
            return []
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_ms / 1000
        while True:
            changes = self._log.watch.changes
            ahead = {where: self._positions[where] for where in wanted}
            chunks, ends = await self._log.reading.run(fetch, ahead, max_records)
            self._ends.update(ends)
            # What was fetched for a position that `seek` has changed meanwhile is nobody's.
            chunks = [chunk for chunk in chunks if self._is_at(ahead, chunk)]
            for chunk in chunks:
                self._positions[TopicPartition(chunk.topic, chunk.partition)] = chunk.next_position
            left = deadline - loop.time()
            if chunks or left <= 0 or not await self._log.watch.wait_beyond(changes, left):
                return chunks

    def _is_at(self, ahead: Mapping[TopicPartition, int], chunk: Chunk) -> bool:
        where = TopicPartition(chunk.topic, chunk.partition)
        return self._positions[where] == ahead[where]

    async def end_offsets(self) -> dict[TopicPartition, int]:
        """Say where each partition ends."""
        found = await self._log.reading.run(extents, list(self._positions))
        self._ends = {where: extent.end for where, extent in found.items()}
        return dict(self._ends)

    def at_end(self, partition: TopicPartition) -> bool:
        """Say whether all was taken that the last fetch, or `end_offsets`, saw."""
        return partition in self._ends and self._positions[partition] >= self._ends[partition]

    def lag(self, partition: TopicPartition) -> int:
        """Count the offsets that the last fetch, or `end_offsets`, saw in front of the position."""
        return max(self._ends.get(partition, 0) - self._positions[partition], 0)

    async def begin_offsets(self) -> dict[TopicPartition, int]:
        """Say the first offset that each partition still holds."""
        found = await self._log.reading.run(extents, list(self._positions))
        return {where: extent.begin for where, extent in found.items()}

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read on from other positions."""
        self._rotation.demand(positions)
        self._positions.update(positions)

    async def close(self) -> None:
        """Let go of nothing: the connection is the log's."""


class SqliteWriter:
    """The writer of one id, of one epoch."""

    def __init__(self, log: SqliteLog, fence: Fence) -> None:
        self._log = log
        self._fence = fence
        self._ended: LogError | None = None

    async def commit(self, records: Sequence[NewRecord]) -> None:
        """Append all records in one transaction, or none."""
        if self._ended is not None:
            raise self._ended
        # Held against this writer until the commit is confirmed: a caller who is cancelled here never knows.
        self._ended = OutcomeUnknownError(f"{self._fence.writer_id}: an earlier commit was interrupted")
        try:
            await self._log.write(records, self._fence)
        except FencedError as error:
            self._ended = error
            raise
        except UnavailableError as error:
            self._ended = OutcomeUnknownError(f"{self._fence.writer_id}: {error}")
            raise self._ended from error
        except LogError:
            self._ended = None
            raise
        self._ended = None

    async def close(self) -> None:
        """End this writer; the id stays."""
        self._ended = self._ended or FencedError(f"the writer of {self._fence.writer_id} is closed")


class SqliteAppender:
    """Appends without a lock."""

    def __init__(self, log: SqliteLog) -> None:
        self._log = log

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Append all records in one transaction, or none."""
        await self._log.write(records, None)

    async def close(self) -> None:
        """Let go of nothing: the connection is the log's."""
