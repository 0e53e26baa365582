"""A running service for tests: a carrier with topics, a worker, and what it put out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import msgspec
import orjson

from schemas.cloudevents import from_message
from schemas.outputs import Output
from service.app import make_worker
from service.config import Config
from service.core.intake import Role
from service.eventlog.protocol import Log, NewRecord, TopicPartition
from service.runtime.topics import prepare_topics
from service.runtime.worker import Worker
from tests.core.stream import Source, event_times


async def publish(log: Log, config: Config, source: Source, partition: int = 0) -> None:
    """Write a source to the input topics."""
    appender = await log.appender()
    for role, topic in zip(Role, config.topics.inputs, strict=True):
        stamped = zip(source.of(role), event_times(source.of(role)), strict=True)
        records = [NewRecord(topic, partition, _key(value), value, (), time_ms or None) for value, time_ms in stamped]
        await appender.append(records)
    await appender.close()


def _key(value: bytes) -> bytes:
    """Give the model that a record names; of one that is broken nobody asks."""
    try:
        return str(orjson.loads(value)["model_id"]).encode()
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return b"m"


@contextlib.asynccontextmanager
async def running(log: Log, config: Config) -> AsyncIterator[Worker]:
    """Run a worker; leaving stops it gracefully."""
    partitions = await prepare_topics(log, config.topics, config.core)
    worker, stopping = make_worker(config, log, partitions), asyncio.Event()
    job = asyncio.create_task(worker.run(stopping))
    try:
        yield worker
    finally:
        stopping.set()
        await job


async def consumed(log: Log, config: Config, worker: Worker, timeout_s: float = 20.0) -> None:
    """Wait until a worker has committed all that the inputs hold."""
    async with asyncio.timeout(timeout_s):
        while True:
            await asyncio.sleep(0.02)
            for stats in worker.stats.values():
                assert stats.last_error is None, stats.last_error
            if worker.ready and await _at_end(log, config, worker):
                return


async def _at_end(log: Log, config: Config, worker: Worker) -> bool:
    for partition, stats in worker.stats.items():
        inputs = [TopicPartition(topic, partition) for topic in config.topics.inputs]
        reader = await log.reader(dict.fromkeys(inputs, 0))
        ends = await reader.end_offsets()
        await reader.close()
        # Kafka's markers of transactions count as offsets, but the inputs of these tests are written without any.
        if stats.positions is None or tuple(stats.positions) != tuple(ends[where] for where in inputs):
            return False
    return True


async def outputs_of(log: Log, topics: Sequence[str], partitions: int = 1) -> list[tuple[Output, bytes]]:
    """Read the output topics as any consumer would: events and their bytes, topic by topic."""
    found = []
    for topic in topics:
        for partition in range(partitions):
            found += await _read_all(log, TopicPartition(topic, partition))
    return found


async def _read_all(log: Log, where: TopicPartition) -> list[tuple[Output, bytes]]:
    reader = await log.reader({where: 0})
    found: list[tuple[Output, bytes]] = []
    begin, end = (await reader.begin_offsets())[where], (await reader.end_offsets())[where]
    reader.seek({where: begin})
    position = begin
    while position < end:
        for chunk in await reader.fetch(max_records=10_000, wait_ms=200):
            for value, headers in zip(chunk.values, chunk.headers, strict=True):
                if value is not None:
                    found.append((from_message(headers, value), value))
            position = chunk.next_position
    await reader.close()
    return found


def fast(config: Config, **runtime: object) -> Config:
    """Give a configuration that commits often."""
    quick = {
        "commit_interval_ms": 20,
        "snapshot_interval_ms": 100,
        "poll_ms": 10,
        "restart_backoff_ms": 10,
        "idle_grace_ms": 30,
    } | runtime
    return msgspec.structs.replace(config, runtime=msgspec.structs.replace(config.runtime, **quick))
