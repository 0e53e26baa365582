"""The running service, exactly-once commits included, against a bare loop that reads and parses the same records.

On Kafka the bare loop is `getmany` and `orjson.loads` on an aiokafka consumer with its defaults; on SQLite it reads
through the log itself. Rounds alternate; the median of their ratios counts. The time of the service runs from the
moment it has its (empty) state to the commit that covers the last record. Broker, service and loop share the machine.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import orjson
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition

from benchmarks.events import Workload
from benchmarks.running import Inputs, carrier, committed, configured, filled, running
from service.core.settings import CoreSettings
from service.eventlog.kafka import KafkaLog
from service.eventlog.protocol import Log

ROUNDS = 3
BARE_FETCH = 1_000


async def bare_kafka(bootstrap: str, inputs: Inputs) -> float:
    """Read and parse everything; gives the seconds."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([KafkaPartition(*where) for where in inputs.partitions])
        await consumer.seek_to_beginning()
        left, began = inputs.records, time.perf_counter()
        while left:
            for records in (await consumer.getmany(timeout_ms=1_000, max_records=BARE_FETCH)).values():
                left -= len([orjson.loads(record.value) for record in records])
        return time.perf_counter() - began
    finally:
        await consumer.stop()


async def bare_log(log: Log, inputs: Inputs) -> float:
    """Read and parse everything; gives the seconds."""
    reader = await log.reader(dict.fromkeys(inputs.partitions, 0))
    left, began = inputs.records, time.perf_counter()
    while left:
        for chunk in await reader.fetch(max_records=BARE_FETCH, wait_ms=1_000):
            left -= len([orjson.loads(value) for value in chunk.values if value is not None])
    spent = time.perf_counter() - began
    await reader.close()
    return spent


async def served(log: Log, inputs: Inputs) -> tuple[float, int]:
    """Run a new service over everything; gives the seconds, and how many commits that took."""
    async with running(log, configured(inputs, CoreSettings())) as worker:
        began = time.perf_counter()
        await committed(worker, inputs)
        return time.perf_counter() - began, worker.stats[0].commits_total


async def measure(kind: str, predictions: int, rounds: int = ROUNDS) -> dict[str, object]:
    """Compare on one carrier."""
    bare, service, commits = [], [], 0
    with tempfile.TemporaryDirectory() as directory:
        async with carrier(kind, Path(directory)) as log:
            inputs = await filled(log, Workload(), predictions)
            for _ in range(rounds):
                bare.append(await _bare(log, inputs))
                spent, commits = await served(log, inputs)
                service.append(spent)
    shares = [quick / slow for quick, slow in zip(bare, service, strict=True)]
    return {
        "case": kind,
        "share_of_bare_loop": round(statistics.median(shares), 3),
        "service_records_per_s": round(inputs.records / statistics.median(service)),
        "bare_records_per_s": round(inputs.records / statistics.median(bare)),
        "records": inputs.records,
        "commits": commits,
        "rounds": rounds,
    }


async def _bare(log: Log, inputs: Inputs) -> float:
    if isinstance(log, KafkaLog):
        return await bare_kafka(log.bootstrap, inputs)
    return await bare_log(log, inputs)


def run(scale: float, kinds: tuple[str, ...] = ("kafka", "sqlite")) -> list[dict[str, object]]:
    """Measure all carriers."""
    predictions = max(int(100_000 * scale), 1_000)
    return [asyncio.run(measure(kind, predictions)) for kind in kinds]
