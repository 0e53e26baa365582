"""A service that runs for a benchmark: its topics are filled beforehand, and it works until it has committed all."""

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import orjson

from benchmarks.broker import supplied
from benchmarks.events import Workload, slices, time_ms
from service.app import make_worker
from service.config import Config
from service.core.settings import CoreSettings
from service.eventlog.kafka import KafkaLog
from service.eventlog.kafka_settings import KafkaSettings
from service.eventlog.protocol import Log, NewRecord, TopicPartition
from service.eventlog.sqlite import SqliteLog
from service.runtime.settings import RuntimeSettings, TopicSettings
from service.runtime.topics import prepare_topics
from service.runtime.worker import Worker

APPEND = 1_000
BARE_FETCH = 1_000
"""Records that a bare loop asks for at once."""
POLL_S = 0.005
TIMEOUT_S = 1_800.0
_numbers = itertools.count()


class Stopwatch:
    """Time since it was made: of the clock on the wall, and of this process on its cores."""

    def __init__(self) -> None:
        self._began = Spent(time.perf_counter(), time.process_time())

    def read(self) -> "Spent":
        """Give the time so far."""
        return Spent(time.perf_counter() - self._began.wall_s, time.process_time() - self._began.cpu_s)


class Spent(NamedTuple):
    """Seconds."""

    wall_s: float
    cpu_s: float


class Inputs(NamedTuple):
    """Filled input topics of one partition."""

    topics: TopicSettings
    ends: tuple[int, int, int]
    """Of control, predictions, labels."""
    newest_ms: int
    """Event time of the last records."""

    @property
    def records(self) -> int:
        """All of them."""
        return sum(self.ends)

    @property
    def partitions(self) -> list[TopicPartition]:
        """The topics that hold something."""
        return [TopicPartition(topic, 0) for topic in self.topics.inputs[1:]]


def fresh_name() -> str:
    """Give a name that no earlier run on the same broker had."""
    return f"bench-{os.getpid()}-{time.time_ns():x}-{next(_numbers)}"


class Carrier(NamedTuple):
    """An open log."""

    log: Log
    bootstrap: str | None
    """host:port where it is Kafka."""


@contextlib.asynccontextmanager
async def carrier(kind: str, directory: Path) -> AsyncIterator[Carrier]:
    """Open a log: sqlite or kafka."""
    with contextlib.ExitStack() as stack:
        bootstrap = stack.enter_context(supplied()) if kind == "kafka" else None
        log: Log
        if bootstrap is None:
            log = SqliteLog(directory / "log.sqlite")
        else:
            log = KafkaLog(KafkaSettings(bootstrap_servers=(bootstrap,)))
        try:
            yield Carrier(log, bootstrap)
        finally:
            await log.close()


async def filled(log: Log, workload: Workload, predictions: int) -> Inputs:
    """Make topics and write a stream into them, as producers do."""
    topics = renamed(TopicSettings(), fresh_name(), TopicSettings().inputs)
    await prepare_topics(log, topics, CoreSettings())
    appender, written = await log.appender(), [0, 0]
    for part in itertools.islice(slices(workload, APPEND), predictions // APPEND):
        for place, topic in enumerate((topics.predictions, topics.labels)):
            await appender.append([NewRecord(topic, 0, b"m", value) for value in part[place]])
            written[place] += len(part[place])
    await appender.close()
    return Inputs(topics, (0, written[0], written[1]), time_ms(written[0] - 1, workload))


def renamed(topics: TopicSettings, prefix: str, names: tuple[str, ...]) -> TopicSettings:
    """Put a prefix before some of the topics' names."""
    fields = {field: f"{prefix}.{name}" for field, name in msgspec.structs.asdict(topics).items() if name in names}
    return msgspec.structs.replace(topics, **fields)


def configured(inputs: Inputs, core: CoreSettings, **runtime: object) -> Config:
    """Give the configuration of a service that has never run: state and outputs in topics of its own."""
    own = tuple(name for name in _names(inputs.topics) if name not in inputs.topics.inputs)
    name = fresh_name()
    pace = msgspec.structs.replace(RuntimeSettings(), name=name, group=name, **runtime)
    return Config(topics=renamed(inputs.topics, name, own), core=core, runtime=pace)


def _names(topics: TopicSettings) -> Iterator[str]:
    fields = msgspec.structs.asdict(topics)
    return (name for field, name in fields.items() if isinstance(name, str) and field != "partitioner")


@contextlib.asynccontextmanager
async def running(log: Log, config: Config) -> AsyncIterator[Worker]:
    """Run a worker that has its state; leaving stops it gracefully, snapshot and all."""
    partitions = await prepare_topics(log, config.topics, config.core)
    worker, stopping = make_worker(config, log, partitions), asyncio.Event()
    job = asyncio.create_task(worker.run(stopping))
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while not worker.ready:
                _check(worker)
                await asyncio.sleep(POLL_S)
        yield worker
    finally:
        stopping.set()
        await job


async def committed(worker: Worker, inputs: Inputs) -> None:
    """Wait until everything is committed."""
    async with asyncio.timeout(TIMEOUT_S):
        while worker.stats[0].positions is None or tuple(worker.stats[0].positions) != inputs.ends:
            _check(worker)
            await asyncio.sleep(POLL_S)


async def watched(worker: Worker, until_ms: int) -> None:
    """Wait until everything up to an event time has gone through the core, committed or not."""
    async with asyncio.timeout(TIMEOUT_S):
        while worker.stats[0].watermark_ms < until_ms:
            _check(worker)
            await asyncio.sleep(POLL_S)


async def bare_log(log: Log, inputs: Inputs) -> Spent:
    """Read and parse everything, and nothing else: what a service is compared with."""
    reader = await log.reader(dict.fromkeys(inputs.partitions, 0))
    left, watch = inputs.records, Stopwatch()
    while left:
        for chunk in await reader.fetch(max_records=BARE_FETCH, wait_ms=1_000):
            left -= len([orjson.loads(value) for value in chunk.values if value is not None])
    spent = watch.read()
    await reader.close()
    return spent


def _check(worker: Worker) -> None:
    for stats in worker.stats.values():
        if stats.last_error is not None:
            raise RuntimeError(stats.last_error)
