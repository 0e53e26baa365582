"""The carriers, each behind the same fixture."""

import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from service.eventlog.kafka import KafkaLog
from service.eventlog.kafka_settings import KafkaSettings
from service.eventlog.memory import MemoryLog
from service.eventlog.protocol import Log, NewRecord, TopicPartition, TopicSpec
from service.eventlog.sqlite import SqliteLog

CARRIERS = ["memory", "sqlite", pytest.param("kafka", marks=pytest.mark.kafka)]
NAMES = itertools.count()


class Carrier(NamedTuple):
    """A log, the way to delete below an offset as its retention would, and names that nobody else uses."""

    log: Log
    kind: str
    drop_before: Callable[[TopicPartition, int], Awaitable[None]]

    async def topic(self, partitions: int = 1, **settings: object) -> str:
        name = f"topic-{os.getpid()}-{next(NAMES)}"
        await self.log.ensure_topics([TopicSpec(name, partitions, **settings)])
        return name

    def name(self, of: str) -> str:
        return f"{of}-{os.getpid()}-{next(NAMES)}"


def kafka_settings(bootstrap: str, **more: object) -> KafkaSettings:
    """Settings that make rebalances quick."""
    return KafkaSettings(bootstrap_servers=(bootstrap,), heartbeat_interval_ms=200, **more)


@pytest.fixture(params=CARRIERS)
async def carrier(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Carrier]:
    if request.param == "memory":
        memory = MemoryLog()

        async def drop_memory(where: TopicPartition, offset: int) -> None:
            memory.drop_before(where, offset)

        made = Carrier(memory, "memory", drop_memory)
    elif request.param == "sqlite":
        sqlite = SqliteLog(tmp_path / "log.sqlite")

        async def drop_sqlite(where: TopicPartition, offset: int) -> None:
            await sqlite.writing.run(delete_below, where, offset)

        made = Carrier(sqlite, "sqlite", drop_sqlite)
    else:
        bootstrap = request.getfixturevalue("kafka_bootstrap")
        kafka = KafkaLog(kafka_settings(bootstrap))

        async def drop_kafka(where: TopicPartition, offset: int) -> None:
            await delete_records(bootstrap, where, offset)

        made = Carrier(kafka, "kafka", drop_kafka)
    yield made
    await made.log.close()


def delete_below(db, where: TopicPartition, offset: int) -> None:
    """Do what `upkeep.expire` does, at an offset of the test's choice."""
    from service.eventlog.sqlite.append import transaction
    from service.eventlog.sqlite.schema import OFFSET_BITS

    with transaction(db):
        (part,) = db.execute("SELECT id FROM partitions WHERE topic = ? AND number = ?", where).fetchone()
        db.execute(
            "DELETE FROM records WHERE id >= ? AND id < ?", (part << OFFSET_BITS, (part << OFFSET_BITS) + offset)
        )
        db.execute("UPDATE partitions SET begin_offset = ? WHERE id = ?", (offset, part))


async def delete_records(bootstrap: str, where: TopicPartition, offset: int) -> None:
    from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
    from aiokafka.structs import TopicPartition as Native

    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_records({Native(*where): RecordsToDelete(offset)})
    finally:
        await admin.close()


def record(topic: str, value: bytes | None, partition: int = 0, key: bytes | None = b"k", **more: object) -> NewRecord:
    return NewRecord(topic, partition, key, value, **more)
