"""Small ways to read that several tests share."""

import asyncio

from service.eventlog.protocol import Chunk, Log, Reader, TopicPartition


async def read_until(reader: Reader, count: int, *, timeout_s: float = 10.0, max_records: int = 1000) -> list[Chunk]:
    """Fetch until `count` records came; fail if they do not come in time."""
    chunks: list[Chunk] = []
    async with asyncio.timeout(timeout_s):
        while sum(len(chunk.values) for chunk in chunks) < count:
            chunks += await reader.fetch(max_records=max_records, wait_ms=200)
    return chunks


async def values_of(log: Log, where: TopicPartition, count: int) -> list[bytes | None]:
    """All values of a partition, and a look whether more come than there should be."""
    reader = await log.reader({where: 0})
    chunks = await read_until(reader, count)
    chunks += await reader.fetch(max_records=1000, wait_ms=100)
    await reader.close()
    return [value for chunk in chunks for value in chunk.values]


async def everything(log: Log, where: TopicPartition) -> list[bytes | None]:
    """All values of a partition up to its end now, however the reader learns that it is there."""
    reader = await log.reader({where: 0})
    end = (await reader.end_offsets())[where]
    values: list[bytes | None] = []
    position = 0
    async with asyncio.timeout(10):
        while position < end:
            for chunk in await reader.fetch(max_records=1000, wait_ms=200):
                values += chunk.values
                position = chunk.next_position
    assert reader.at_end(where)
    await reader.close()
    return values
