"""The running service, exactly-once commits included, against a bare loop that reads and parses the same records.

On Kafka the bare loop is `getmany` and `orjson.loads` on an aiokafka consumer with its defaults; on SQLite it reads
through the log itself. Rounds alternate; the median of their ratios counts. The time of the service runs from the
moment it has its (empty) state to the commit that covers the last record. Broker, service and loop share the machine;
where others do too, the ratio of CPU time is the steadier one.
"""

import asyncio
import statistics
import tempfile
from pathlib import Path

import orjson
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition

from benchmarks.events import Workload
from benchmarks.running import (
    BARE_FETCH,
    Inputs,
    Spent,
    Stopwatch,
    bare_log,
    carrier,
    committed,
    configured,
    filled,
    running,
)
from service.core.settings import CoreSettings
from service.eventlog.protocol import Log

ROUNDS = 3


async def bare_kafka(bootstrap: str, inputs: Inputs) -> Spent:
    """Read and parse everything."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([KafkaPartition(*where) for where in inputs.partitions])
        await consumer.seek_to_beginning()
        left, watch = inputs.records, Stopwatch()
        while left:
            for records in (await consumer.getmany(timeout_ms=1_000, max_records=BARE_FETCH)).values():
                left -= len([orjson.loads(record.value) for record in records])
        return watch.read()
    finally:
        await consumer.stop()


async def served(log: Log, inputs: Inputs) -> tuple[Spent, int]:
    """Run a new service over everything; gives the time and how many commits that took."""
    async with running(log, configured(inputs, CoreSettings())) as worker:
        watch = Stopwatch()
        await committed(worker, inputs)
        return watch.read(), worker.stats[0].commits_total


async def measure(kind: str, predictions: int, rounds: int = ROUNDS) -> dict[str, object]:
    """Compare on one carrier."""
    bare, service, commits = [], [], 0
    with tempfile.TemporaryDirectory() as directory:
        async with carrier(kind, Path(directory)) as (log, bootstrap):
            inputs = await filled(log, Workload(), predictions)
            for _ in range(rounds):
                bare.append(await (bare_kafka(bootstrap, inputs) if bootstrap else bare_log(log, inputs)))
                spent, commits = await served(log, inputs)
                service.append(spent)
    pairs = list(zip(bare, service, strict=True))
    return {
        "case": kind,
        "share_of_bare_loop": round(statistics.median(quick.wall_s / slow.wall_s for quick, slow in pairs), 3),
        "share_of_bare_loop_by_cpu": round(statistics.median(quick.cpu_s / slow.cpu_s for quick, slow in pairs), 3),
        "service_records_per_s": round(inputs.records / statistics.median(each.wall_s for each in service)),
        "bare_records_per_s": round(inputs.records / statistics.median(each.wall_s for each in bare)),
        "records": inputs.records,
        "commits": commits,
        "rounds": rounds,
    }


def run(scale: float, kinds: tuple[str, ...] = ("kafka", "sqlite")) -> list[dict[str, object]]:
    """Measure all carriers."""
    predictions = max(int(200_000 * scale), 1_000)
    return [asyncio.run(measure(kind, predictions)) for kind in kinds]
