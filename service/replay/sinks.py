"""Where a replay's outputs go: files, topics of its own, or whoever asked.

A sink is told of outputs as the records that the live service would have written, so the bytes are the same.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from schemas.outputs import Output
from service.eventlog.protocol import Appender, Log, NewRecord, TopicPartition
from service.replay.names import OUTPUTS
from service.runtime.outbox import Outbox
from service.runtime.settings import RuntimeSettings, TopicSettings

Marks = dict[str, int]
"""By kind, how much was written: what a checkpoint keeps of a sink."""


class Sink(Protocol):
    """Takes what one task puts out, in order."""

    async def write(self, outputs: Sequence[Output]) -> None:
        """Take the outputs of a step."""
        ...

    async def marks(self) -> Marks:
        """Make durable what was written, and say how much that is."""
        ...

    async def close(self) -> None:
        """Flush and let go. Idempotent."""
        ...


class FileSink:
    """One file of JSON lines for each kind of output: each line is the value of the live record.

    `marks`: lengths of the files at a checkpoint, to which they are cut; None begins anew.
    """

    def __init__(
        self,
        directory: Path,
        partition: int,
        topics: TopicSettings,
        runtime: RuntimeSettings,
        marks: Marks | None = None,
    ) -> None:
        self._encoding = _Encoding(topics, runtime, partition)
        self._files: dict[str, BinaryIO] = {}
        for kind in OUTPUTS:
            path = part_path(directory, kind, partition)
            path.parent.mkdir(parents=True, exist_ok=True)
            file = self._files[kind] = path.open("wb" if marks is None else "r+b")
            if marks is not None:
                file.truncate(marks[kind])
                file.seek(marks[kind])

    async def write(self, outputs: Sequence[Output]) -> None:
        """Append."""
        for kind, record in self._encoding.records(outputs):
            self._files[kind].write((record.value or b"") + b"\n")

    async def marks(self) -> Marks:
        """Wait for the disk; give the files' lengths."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        return {kind: file.tell() for kind, file in self._files.items()}

    async def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()


def part_path(directory: Path, kind: str, partition: int) -> Path:
    """Name the file of one task's outputs of a kind, while the run is under way."""
    return directory / "parts" / f"{kind}-{partition:05d}.jsonl"


def join_parts(directory: Path, partitions: Sequence[int]) -> None:
    """Put the tasks' files together, in order of their partitions: <kind>.jsonl."""
    for kind in OUTPUTS:
        parts = [part_path(directory, kind, partition) for partition in sorted(partitions)]
        whole = directory / f"{kind}.jsonl"
        if len(parts) == 1:
            parts[0].replace(whole)
            continue
        joined = whole.with_suffix(".joining")
        with joined.open("wb") as target:
            for part in parts:
                with part.open("rb") as source:
                    while block := source.read(1 << 20):
                        target.write(block)
        joined.replace(whole)
        for part in parts:
            part.unlink()
    (directory / "parts").rmdir()


class TopicSink:
    """Topics of the replay's own. What a run that was interrupted has written already is not written again."""

    def __init__(
        self, appender: Appender, partition: int, topics: TopicSettings, runtime: RuntimeSettings, there: Marks
    ) -> None:
        self._appender = appender
        self._encoding = _Encoding(topics, runtime, partition)
        self._there = dict(there)

    async def write(self, outputs: Sequence[Output]) -> None:
        """Append, in the carrier's own time. Raises LogError."""
        records = []
        for kind, record in self._encoding.records(outputs):
            if self._there[kind] > 0:
                self._there[kind] -= 1  # the replay is deterministic, so it is the same record
            else:
                records.append(record)
        if records:
            await self._appender.append(records)

    async def marks(self) -> Marks:
        """Give nothing: what is there is counted when it is needed."""
        return {}

    async def close(self) -> None:
        """Flush."""
        await self._appender.close()


async def count_written(log: Log, topics: TopicSettings, partition: int) -> Marks:
    """Count the records of the replay's own topics by reading them: transactions leave gaps between offsets."""
    counts = {}
    for kind in OUTPUTS:
        where = TopicPartition(getattr(topics, kind), partition)
        reader = await log.reader({where: 0})
        try:
            position, end = (await reader.begin_offsets())[where], (await reader.end_offsets())[where]
            reader.seek({where: position})
            counts[kind] = 0
            while position < end:
                for chunk in await reader.fetch(max_records=10_000, wait_ms=1000):
                    counts[kind] += len(chunk.offsets)
                    position = chunk.next_position
        finally:
            await reader.close()
    return counts


class CallSink:
    """Hands outputs to a function: a terminal, a score."""

    def __init__(self, take: Callable[[Sequence[Output]], None]) -> None:
        self._take = take

    async def write(self, outputs: Sequence[Output]) -> None:
        """Hand on."""
        self._take(outputs)

    async def marks(self) -> Marks:
        """Give nothing."""
        return {}

    async def close(self) -> None:
        """Do nothing."""


class _Encoding:
    """Outputs to records, exactly as the live service makes them."""

    def __init__(self, topics: TopicSettings, runtime: RuntimeSettings, partition: int) -> None:
        self._outbox = Outbox(topics, runtime, partition)
        self._kinds = {getattr(topics, kind): kind for kind in OUTPUTS}

    def records(self, outputs: Sequence[Output]) -> list[tuple[str, NewRecord]]:
        self._outbox.add(outputs)
        records = [(self._kinds[record.topic], record) for record in self._outbox.peek()]
        self._outbox.clear()
        return records
