"""Reads partitions of a log in memory."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from service.eventlog.protocol import Chunk, TopicPartition
from service.eventlog.rotation import Rotation

if TYPE_CHECKING:
    from service.eventlog.memory import MemoryLog


class MemoryReader:
    """Takes the partitions in turn, so that a full one cannot starve the others."""

    def __init__(self, log: "MemoryLog", positions: Mapping[TopicPartition, int]) -> None:
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
            await self._log.faults.at("before", "fetch", ",".join(f"{topic}[{number}]" for topic, number in wanted))
            chunks = self._take(wanted, max_records)
            left = deadline - loop.time()
            if chunks or left <= 0 or not await self._log.wait_for_append(left):
                return chunks

    def _take(self, wanted: Sequence[TopicPartition], max_records: int) -> list[Chunk]:
        chunks: list[Chunk] = []
        ends: dict[TopicPartition, int] = {}
        for where in wanted:
            if max_records <= 0:
                break
            ends[where] = self._log.partition(where).end
            chunk = self._log.partition(where).chunk(self._positions[where], max_records)
            if chunk is not None:
                chunks.append(chunk)
                max_records -= len(chunk.values)
        # Only now: a fetch that raised told nothing.
        self._ends.update(ends)
        for chunk in chunks:
            self._positions[TopicPartition(chunk.topic, chunk.partition)] = chunk.next_position
        return chunks

    async def end_offsets(self) -> dict[TopicPartition, int]:
        """Say where each partition ends."""
        await self._log.faults.at("before", "offsets", "end")
        self._ends = {where: self._log.partition(where).end for where in self._positions}
        return dict(self._ends)

    def at_end(self, partition: TopicPartition) -> bool:
        """Say whether all was taken that the last fetch, or `end_offsets`, saw."""
        return partition in self._ends and self._positions[partition] >= self._ends[partition]

    def lag(self, partition: TopicPartition) -> int:
        """Count the offsets that the last fetch, or `end_offsets`, saw in front of the position."""
        return max(self._ends.get(partition, 0) - self._positions[partition], 0)

    async def begin_offsets(self) -> dict[TopicPartition, int]:
        """Say the first offset that each partition still holds."""
        await self._log.faults.at("before", "offsets", "begin")
        return {where: self._log.partition(where).begin for where in self._positions}

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read on from other positions."""
        self._rotation.demand(positions)
        self._positions.update(positions)

    async def close(self) -> None:
        """Let go of nothing."""
