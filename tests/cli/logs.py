"""Reading and writing an embedded log from a test."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from schemas.cloudevents import to_message
from schemas.codec import decode_labels, decode_predictions
from schemas.events import Label, Prediction
from schemas.outputs import Output
from service.config import Config
from service.eventlog.protocol import Chunk, NewRecord, TopicPartition
from service.eventlog.sqlite import SqliteLog
from service.runtime.settings import TopicSettings
from service.runtime.topics import prepare_topics

T = TypeVar("T")
TOPICS = TopicSettings()


def with_log(path: Path, work: Callable[[SqliteLog], Awaitable[T]]) -> T:
    async def run() -> T:
        log = SqliteLog(path)
        try:
            return await work(log)
        finally:
            await log.close()

    return asyncio.run(run())


def chunk_of(path: Path, topic: str, partition: int = 0) -> Chunk | None:
    """Give all that a partition holds."""

    async def work(log: SqliteLog) -> Chunk | None:
        reader = await log.reader({TopicPartition(topic, partition): 0})
        chunks = await reader.fetch(max_records=100_000, wait_ms=0)
        return chunks[0] if chunks else None

    return with_log(path, work)


def predictions_of(path: Path) -> list[Prediction]:
    chunk = chunk_of(path, TOPICS.predictions)
    return [] if chunk is None else decode_predictions(chunk.values, 1_000_000).events


def labels_of(path: Path) -> list[Label]:
    chunk = chunk_of(path, TOPICS.labels)
    return [] if chunk is None else decode_labels(chunk.values, 1_000_000).events


def publish(path: Path, outputs: Sequence[tuple[str, Output, int]]) -> None:
    """Write (topic, output, timestamp) as the service does."""

    async def work(log: SqliteLog) -> None:
        await prepare_topics(log, TOPICS, Config().core)
        appender = await log.appender()
        for topic, output, timestamp_ms in outputs:
            key, value, headers = to_message(output, source="tidegauge/test")
            await appender.append([NewRecord(topic, 0, key, value, headers, timestamp_ms)])

    with_log(path, work)
