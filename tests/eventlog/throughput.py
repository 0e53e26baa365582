"""Records a second of each carrier: `python -m tests.eventlog.throughput [host:port]`.

Values of 850 bytes with one header, in batches of 1,000.

Kafka is measured where a broker is named; broker and client share this machine's cores.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from service.eventlog.kafka import KafkaLog
from service.eventlog.kafka_settings import KafkaSettings
from service.eventlog.memory import MemoryLog
from service.eventlog.protocol import Log, NewRecord, TopicPartition, TopicSpec
from service.eventlog.sqlite import SqliteLog

PARTITIONS = 4
BATCHES = 150
PER_BATCH = 1_000
VALUE = bytes(range(256)) * 3 + bytes(82)
SMALL_COMMITS = 100


def batch(topic: str, number: int) -> list[NewRecord]:
    headers = (("content-type", b"application/json"),)
    return [NewRecord(topic, number % PARTITIONS, b"model-7", VALUE, headers) for _ in range(PER_BATCH)]


async def timed(count: int, work: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await work()
    return count / (time.perf_counter() - started)


async def measure(name: str, log: Log) -> None:
    suffix = str(time.time_ns())
    appended, committed, small = (f"{kind}-{suffix}" for kind in ("append", "commit", "small"))
    await log.ensure_topics([TopicSpec(topic, PARTITIONS) for topic in (appended, committed, small)])
    appender, writer = await log.appender(), await log.writer(f"writer-{suffix}")
    batches = {topic: [batch(topic, n) for n in range(BATCHES)] for topic in (appended, committed)}
    ones = batch(small, 0)[:SMALL_COMMITS]

    async def append() -> None:
        for records in batches[appended]:
            await appender.append(records)

    async def commit() -> None:
        for records in batches[committed]:
            await writer.commit(records)

    async def commit_one_by_one() -> None:
        for record in ones:
            await writer.commit([record])

    async def fetch() -> None:
        reader = await log.reader({TopicPartition(appended, n): 0 for n in range(PARTITIONS)})
        left = BATCHES * PER_BATCH
        while left:
            left -= sum(len(chunk.values) for chunk in await reader.fetch(max_records=5_000, wait_ms=500))
        await reader.close()

    total = BATCHES * PER_BATCH
    rates = [await timed(total, append), await timed(total, commit), await timed(total, fetch)]
    commits = await timed(SMALL_COMMITS, commit_one_by_one)
    await log.close()
    print(  # noqa: T201  (a program for people)
        f"{name}: append {rates[0] / 1e3:.0f} k/s, commit {rates[1] / 1e3:.0f} k/s, fetch {rates[2] / 1e3:.0f} k/s, "
        f"commits of one record {commits:.0f}/s"
    )


async def main(bootstrap: str | None) -> None:
    await measure("memory", MemoryLog())
    with tempfile.TemporaryDirectory() as directory:
        await measure("sqlite", SqliteLog(Path(directory) / "log.sqlite"))
    if bootstrap:
        await measure("kafka", KafkaLog(KafkaSettings(bootstrap_servers=(bootstrap,))))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))
