"""Reads committed records of given partitions. Knows nothing of groups."""

import struct
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from gzip import BadGzipFile
from typing import Any

import cramjam
import numpy as np
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.errors import OffsetOutOfRangeError as KafkaOffsetOutOfRangeError
from aiokafka.structs import TopicPartition as KafkaTopicPartition

from service.eventlog.errors import LogError, OffsetOutOfRangeError, UnknownCodecError, UnreadableRecordError
from service.eventlog.kafka.client import bounded, connection_options, drop_connections
from service.eventlog.kafka_settings import KafkaSecrets, KafkaSettings
from service.eventlog.protocol import Chunk, TopicPartition
from service.eventlog.rotation import Rotation

UNREADABLE = (
    CorruptRecordException,
    UnsupportedCodecError,
    ValueError,
    IndexError,
    struct.error,
    EOFError,
    BadGzipFile,
    zlib.error,
    cramjam.DecompressionError,
)
"""What aiokafka's parser raises over bytes that are no records (ValueError: a header's name that is not UTF-8; the last
four: what is no output of the batch's codec). Left alone, it would raise the same for ever."""


class KafkaReader:
    """One consumer with fixed partitions. Its positions are kept here: the client's are only where it looks next."""

    def __init__(
        self, consumer: AIOKafkaConsumer, settings: KafkaSettings, positions: Mapping[TopicPartition, int]
    ) -> None:
        self._consumer = consumer
        self._limit_ms = settings.request_timeout_ms
        self._positions = dict(positions)
        self._rotation = Rotation(list(positions))
        self.closed = False
        self._ends: dict[TopicPartition, int] = {}
        self._moved: set[TopicPartition] = set()
        """Partitions where the client must be told again where to read."""

    async def fetch(
        self, *, max_records: int, wait_ms: int, only: Sequence[TopicPartition] | None = None
    ) -> list[Chunk]:
        """Give what there is, or wait up to `wait_ms` for it."""
        wanted = self._rotation.turn(only)
        if not wanted or max_records < 1:
            return []
        self._tell_client()
        ahead = {where: self._positions[where] for where in wanted}
        # Held against the client until its answer is taken: if this call is cancelled or raises, it has moved on alone.
        self._moved.update(wanted)
        async with bounded(self._limit_ms + wait_ms, "fetching"):
            try:
                records = await self._poll(wanted, max_records, wait_ms)
            except KafkaOffsetOutOfRangeError as error:
                raise await self._out_of_range(error) from error
            except UNREADABLE:
                return await self._fetch_around(ahead, max_records)
            return await self._take(ahead, records)

    async def _poll(
        self, wanted: Sequence[TopicPartition], max_records: int, wait_ms: int
    ) -> dict[KafkaTopicPartition, list[Any]]:
        # `getmany` without partitions means all: here it is never called without.
        asked = [KafkaTopicPartition(*where) for where in wanted]
        found: dict[KafkaTopicPartition, list[Any]] = await self._consumer.getmany(
            *asked, timeout_ms=wait_ms, max_records=max_records
        )
        return found

    async def _take(
        self, ahead: Mapping[TopicPartition, int], records: Mapping[KafkaTopicPartition, Sequence[Any]]
    ) -> list[Chunk]:
        chunks: list[Chunk] = []
        for where, before in ahead.items():
            native = KafkaTopicPartition(*where)
            # The client's position also passes control records, aborted transactions and what compaction removed.
            position = await self._consumer.position(native)
            found = records.get(native, ())
            # What was fetched for a position that `seek` has changed meanwhile is nobody's.
            if self._positions[where] == before:
                self._moved.discard(where)
                if found or position > before:
                    chunks.append(as_chunk(where, found, position))
        self._learn_ends(ahead)
        for chunk in chunks:
            self._positions[TopicPartition(chunk.topic, chunk.partition)] = chunk.next_position
        return chunks

    def _learn_ends(self, partitions: Iterable[TopicPartition]) -> None:
        for where in partitions:
            stable = self._consumer.last_stable_offset(KafkaTopicPartition(*where))
            if stable is not None and stable >= 0:
                self._ends[where] = stable

    async def _fetch_around(self, ahead: Mapping[TopicPartition, int], max_records: int) -> list[Chunk]:
        """Give what lies in front of an unreadable record, or name it: halve what is asked for until it can be read.

        The parser drops everything that it had read of the answer, so each try fetches again; some ten tries in all.
        A batch that only this install cannot decompress is good, and must not be passed over: that is another error.
        """
        self._learn_ends(ahead)
        for where in [where for where in ahead if not self.at_end(where)]:
            count = max_records
            while count:
                self._tell_client()
                self._moved.add(where)
                try:
                    records = await self._poll([where], count, self._limit_ms)
                except UNREADABLE as error:
                    count //= 2
                    reason: Exception = error
                else:
                    chunks = await self._take({where: self._positions[where]}, records)
                    if chunks:
                        return chunks
                    break
            else:
                if isinstance(reason, UnsupportedCodecError):
                    raise UnknownCodecError(*where, self._positions[where], str(reason)) from reason
                raise UnreadableRecordError(*where, self._positions[where], f"{type(reason).__name__}: {reason}")
        return []

    def _tell_client(self) -> None:
        for where in sorted(self._moved):
            self._consumer.seek(KafkaTopicPartition(*where), self._positions[where])
        self._moved.clear()

    async def _out_of_range(self, error: KafkaOffsetOutOfRangeError) -> LogError:
        native = next(iter(error.args[0]))
        begin = await self._consumer.beginning_offsets([native])
        end = await self._consumer.end_offsets([native])
        where = TopicPartition(*native)
        return OffsetOutOfRangeError(*where, self._positions[where], begin[native], end[native])

    async def end_offsets(self) -> dict[TopicPartition, int]:
        """Say where each partition ends for a reader of committed records: its last stable offset."""
        async with bounded(self._limit_ms, "asking for end offsets"):
            found = await self._consumer.end_offsets([KafkaTopicPartition(*where) for where in self._positions])
        self._ends.update({TopicPartition(*native): offset for native, offset in found.items()})
        return {where: self._ends[where] for where in self._positions}

    def at_end(self, partition: TopicPartition) -> bool:
        """Say whether the last stable offset that a broker told was reached."""
        return partition in self._ends and self._positions[partition] >= self._ends[partition]

    def lag(self, partition: TopicPartition) -> int:
        """Count the offsets up to the last stable one that a broker told, those of control records included."""
        return max(self._ends.get(partition, 0) - self._positions[partition], 0)

    async def begin_offsets(self) -> dict[TopicPartition, int]:
        """Say the first offset that each partition still holds."""
        async with bounded(self._limit_ms, "asking for first offsets"):
            found = await self._consumer.beginning_offsets([KafkaTopicPartition(*where) for where in self._positions])
        return {TopicPartition(*native): offset for native, offset in found.items()}

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read on from other positions."""
        self._rotation.demand(positions)
        self._positions.update(positions)
        self._moved.update(positions)

    async def close(self) -> None:
        """Let go of the connections."""
        self.closed = True
        await close_consumer(self._consumer, self._limit_ms)


async def open_reader(
    settings: KafkaSettings, secrets: KafkaSecrets, positions: Mapping[TopicPartition, int]
) -> KafkaReader:
    """Open a consumer for partitions that exist. It knows their ends from the start."""
    consumer = new_consumer(settings, secrets)
    reader = KafkaReader(consumer, settings, positions)
    try:
        async with bounded(settings.request_timeout_ms, "opening a reader"):
            await consumer.start()
            consumer._fetcher._records = _Fetched()  # noqa: SLF001  (nothing is assigned, so nothing was fetched)
            consumer.assign([KafkaTopicPartition(*where) for where in positions])
            # Without an await in between, so that the client never asks for positions that a group might have.
            reader.seek(positions)
            reader._tell_client()  # noqa: SLF001  (the same module)
            await reader.end_offsets()
    except BaseException:
        await reader.close()
        raise
    return reader


def new_consumer(settings: KafkaSettings, secrets: KafkaSecrets) -> AIOKafkaConsumer:
    """Make a consumer of committed records without a group, which never chooses a position by itself."""
    return AIOKafkaConsumer(
        **connection_options(settings, secrets),
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=settings.fetch_max_wait_ms,
        fetch_max_bytes=settings.fetch_max_bytes,
        max_partition_fetch_bytes=settings.partition_fetch_bytes,
    )


async def close_consumer(consumer: AIOKafkaConsumer, limit_ms: int) -> None:
    """Close a consumer, in a bounded time and whatever state the broker is in."""
    try:
        async with bounded(limit_ms, "closing a consumer"):
            await consumer.stop()
    except LogError:
        # There is nothing to lose in a reader, but its connections would stay open.
        await drop_connections(consumer._client, limit_ms)  # noqa: SLF001


class _Fetched(OrderedDict[KafkaTopicPartition, Any]):
    """What the client has fetched and not yet handed out: it will hand out records as they were parsed.

    Its own way is a `ConsumerRecord` of each: it copies eleven fields and measures key and value, which is a third of
    the cost of reading, and none of it is wanted here.
    """

    def __setitem__(self, partition: KafkaTopicPartition, fetched: Any) -> None:
        if isinstance(fetched, FetchResult):  # else an error
            fetched._partition_records._consumer_record = _as_parsed  # noqa: SLF001  (aiokafka has no other way)
        super().__setitem__(partition, fetched)


def _as_parsed(_partition: KafkaTopicPartition, record: Any) -> Any:
    return record


def as_chunk(where: TopicPartition, records: Sequence[Any], next_position: int) -> Chunk:
    """Turn records into columns: a list comprehension a column, seen to be the fastest way out of the objects."""
    count = len(records)
    headers = [tuple(record.headers) for record in records]
    if any(value is None for some in headers for _, value in some):
        # The protocol knows headers without a value, this house does not: to a reader both say the same.
        headers = [tuple((name, value or b"") for name, value in some) for some in headers]
    return Chunk(
        where.topic,
        where.partition,
        np.fromiter([record.offset for record in records], np.int64, count),
        np.fromiter([record.timestamp for record in records], np.int64, count),
        [record.key for record in records],
        [record.value for record in records],
        headers,
        next_position,
    )
