"""What a live service has published, in the layout of a run's directory: to be compared with a replay."""

from pathlib import Path
from typing import NamedTuple

import msgspec

from service.eventlog.protocol import Chunk, Headers, Log, TopicPartition
from service.replay.names import OUTPUTS
from service.replay.sinks import part_path
from service.runtime.settings import TopicSettings


class LeftOut(NamedTuple):
    """Records of one output partition that are not among what is written."""

    where: TopicPartition
    deleted: int
    """Offsets before the first that the log still holds."""
    foreign: int
    """Records of other services."""

    @property
    def words(self) -> list[str]:
        """Say it."""
        name = f"{self.where.topic}[{self.where.partition}]"
        said = []
        if self.deleted:
            said.append(f"{name} before offset {self.deleted:,}: the log has deleted it")
        if self.foreign:
            said.append(f"{name}: {self.foreign:,} records of other services")
        return said


async def write_published(
    log: Log, topics: TopicSettings, source: str, directory: Path, partitions: int
) -> list[LeftOut]:
    """Write the values of a service's output records, task by task in order of offset; give what was left out.

    `source`: the service's CloudEvents source. Records of other services in the same topics are left out.
    """
    counts = await log.partitions([getattr(topics, kind) for kind in OUTPUTS])
    left_out = []
    for kind in OUTPUTS:
        topic = getattr(topics, kind)
        for partition in range(partitions):
            path = part_path(directory, kind, partition)
            path.parent.mkdir(exist_ok=True)
            if partition < counts.get(topic, 0):
                left_out.append(await _copy(log, TopicPartition(topic, partition), source.encode(), path))
            else:
                path.write_bytes(b"")
    return left_out


async def _copy(log: Log, where: TopicPartition, source: bytes, path: Path) -> LeftOut:
    reader = await log.reader({where: 0})
    foreign = 0
    try:
        begin, end = (await reader.begin_offsets())[where], (await reader.end_offsets())[where]
        reader.seek({where: begin})
        position = begin
        with path.open("wb") as file:
            while position < end:
                for chunk in await reader.fetch(max_records=5_000, wait_ms=1000):
                    lines = _lines(chunk, source, end)
                    file.writelines(lines)
                    foreign += sum(value is not None for value in chunk.values) - len(lines)
                    position = chunk.next_position
    finally:
        await reader.close()
    return LeftOut(where, begin, foreign)


def _lines(chunk: Chunk, source: bytes, end: int) -> list[bytes]:
    return [
        value + b"\n"
        for offset, value, headers in zip(chunk.offsets.tolist(), chunk.values, chunk.headers, strict=True)
        if value is not None and offset < end and _source(headers, value) == source
    ]


def _source(headers: Headers, value: bytes) -> bytes | None:
    texts = dict(headers)
    if texts.get("content-type", b"").startswith(b"application/cloudevents+json"):
        return msgspec.json.decode(value, type=_Envelope).source.encode()
    return texts.get("ce_source")


class _Envelope(msgspec.Struct):
    source: str = ""
