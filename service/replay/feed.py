"""From a log into a replayed task's intake, never beyond the end of the range."""

from collections import deque
from typing import Final, Protocol

import numpy as np

from service.core.decode import decode_block, rejected_block
from service.core.intake import Block, Intake, Positions, Role
from service.core.placement import Placement
from service.core.settings import CoreSettings
from service.eventlog.errors import UnavailableError, UnreadableRecordError
from service.eventlog.protocol import Chunk, Log, Reader, TopicPartition
from service.runtime.reading import unreadable

DECODE_RECORDS: Final = 1_000
"""Records decoded at once: larger batches leave the cache (measured: 2.2 us a record at 200 to 1,000, 3.8 at 5,000)."""

OFFER_RECORDS: Final = 2_000
"""Decoded records of an input that wait at least, for as long as it has more: the two together make a good batch."""

FETCH_RECORDS: Final = 5_000
MAX_BARREN_FETCHES: Final = 30
"""Fetches of a second each that may give nothing although the range is known to go on; then the log is at fault."""


class Feed(Protocol):
    """Gives a task its records."""

    async def offer(self, intake: Intake, end: Positions) -> None:
        """Hand on a block or more of every input of which nothing waits and that is not at its end."""
        ...

    def finished(self, intake: Intake, role: Role, end: Positions) -> bool:
        """Whether an input has nothing more before `end`, or nothing that could come before what was offered."""
        ...

    async def close(self) -> None:
        """Let go."""
        ...


class LogFeed:
    """Reads one task's partitions from where the task stands."""

    def __init__(
        self, reader: Reader, inputs: dict[Role, TopicPartition], settings: CoreSettings, placement: Placement
    ) -> None:
        self._placement = placement
        self._reader = reader
        self._inputs = inputs
        self._roles = {partition: role for role, partition in inputs.items()}
        self._settings = settings
        self._raw: dict[Role, deque[Chunk]] = {role: deque() for role in Role}
        self._rejected: dict[Role, deque[Block]] = {role: deque() for role in Role}
        self._barren = 0

    def finished(self, intake: Intake, role: Role, end: Positions) -> bool:
        """Whether all before `end` was offered."""
        return intake.position(role) >= end[role]

    async def offer(self, intake: Intake, end: Positions) -> None:
        """Fill every input up to OFFER_RECORDS, as far as the log gives them. Raises LogError."""
        while wanted := [role for role in Role if self._lacks(intake, role, end)]:
            await self._fetch([role for role in wanted if not self._raw[role] and not self._rejected[role]])
            for role in wanted:
                self._hand_on(intake, role, end[role])

    def _lacks(self, intake: Intake, role: Role, end: Positions) -> bool:
        return not self.finished(intake, role, end) and intake.buffered(role)[0] < OFFER_RECORDS

    async def offer_all(self, intake: Intake, end: Positions) -> None:
        """Offer everything before `end`. Raises LogError."""
        while wanted := [role for role in Role if not self.finished(intake, role, end)]:
            await self._fetch([role for role in wanted if not self._raw[role] and not self._rejected[role]])
            for role in wanted:
                self._hand_on(intake, role, end[role])

    async def close(self) -> None:
        """Close the reader."""
        await self._reader.close()

    async def _fetch(self, roles: list[Role]) -> None:
        if not roles:
            return
        only = [self._inputs[role] for role in roles]
        try:
            chunks = await self._reader.fetch(max_records=FETCH_RECORDS, wait_ms=1000, only=only)
        except UnreadableRecordError as error:
            where = TopicPartition(error.topic, error.partition)
            self._rejected[self._roles[where]].append(rejected_block(error.position, unreadable(error)))
            self._reader.seek({where: error.position + 1})
            return
        for chunk in chunks:
            self._raw[self._roles[TopicPartition(chunk.topic, chunk.partition)]].append(chunk)
        self._barren = 0 if chunks else self._barren + 1
        if self._barren >= MAX_BARREN_FETCHES:
            raise UnavailableError(f"{', '.join(map(str, only))}: the log gives nothing, though the range goes on")

    def _hand_on(self, intake: Intake, role: Role, end: int) -> None:
        if self._raw[role]:
            chunk = self._raw[role].popleft()
            stop = min(int(np.searchsorted(chunk.offsets, end)), DECODE_RECORDS)
            if stop < len(chunk.offsets):
                self._raw[role].appendleft(_part(chunk, stop, len(chunk.offsets), chunk.next_position))
                chunk = _part(chunk, 0, stop, min(end, int(chunk.offsets[stop])))
            block = decode_block(
                role,
                chunk.offsets,
                chunk.timestamps_ms,
                chunk.values,
                chunk.next_position,
                self._settings,
                chunk.keys,
                self._placement,
            )
            intake.offer(role, block)
        elif self._rejected[role]:
            behind = int(self._rejected[role][0].offsets[0]) >= end
            intake.offer(role, _nothing(end) if behind else self._rejected[role].popleft())


def _nothing(position: int) -> Block:
    """Move an input's position on, past offsets that hold no record."""
    none = np.empty(0, dtype=np.int64)
    return Block(none, none, none, [], position, 0)


def _part(chunk: Chunk, start: int, stop: int, next_position: int) -> Chunk:
    part = slice(start, stop)
    return Chunk(
        chunk.topic,
        chunk.partition,
        chunk.offsets[part],
        chunk.timestamps_ms[part],
        chunk.keys[part],
        chunk.values[part],
        chunk.headers[part],
        next_position,
    )


async def open_feed(
    log: Log, topics: tuple[str, str, str], placement: Placement, at: Positions, core: CoreSettings
) -> LogFeed:
    """Open a feed of the inputs of the task whose partition `placement` judges."""
    inputs = {role: TopicPartition(topic, placement.partition) for role, topic in zip(Role, topics, strict=True)}
    reader = await log.reader({inputs[role]: at[role] for role in Role})
    return LogFeed(reader, inputs, core, placement)
