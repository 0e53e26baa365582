"""What a live service has published, in the layout of a run's directory: to be compared with a replay."""

from pathlib import Path

import msgspec

from service.eventlog.protocol import Chunk, Headers, Log, TopicPartition
from service.replay.names import OUTPUTS
from service.replay.sinks import part_path
from service.runtime.settings import TopicSettings


async def write_published(log: Log, topics: TopicSettings, source: str, directory: Path, partitions: int) -> int:
    """Write the values of a service's output records, task by task in order of offset; give how many.

    `source`: the service's CloudEvents source. Records of other services in the same topics are left out.
    """
    counts = await log.partitions([getattr(topics, kind) for kind in OUTPUTS])
    total = 0
    for kind in OUTPUTS:
        topic = getattr(topics, kind)
        for partition in range(partitions):
            path = part_path(directory, kind, partition)
            path.parent.mkdir(exist_ok=True)
            if partition < counts.get(topic, 0):
                total += await _copy(log, TopicPartition(topic, partition), source.encode(), path)
            else:
                path.write_bytes(b"")
    return total


async def _copy(log: Log, where: TopicPartition, source: bytes, path: Path) -> int:
    reader = await log.reader({where: 0})
    total = 0
    try:
        position, end = (await reader.begin_offsets())[where], (await reader.end_offsets())[where]
        reader.seek({where: position})
        with path.open("wb") as file:
            while position < end:
                for chunk in await reader.fetch(max_records=5_000, wait_ms=1000):
                    lines = _lines(chunk, source, end)
                    file.writelines(lines)
                    total += len(lines)
                    position = chunk.next_position
    finally:
        await reader.close()
    return total


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
