"""Appends seeded inputs at a steady rate until it is asked to stop.

Rounds of the simulator's inputs, one after the other, for each partition. It goes on where the log ends, so it may be
killed as well: one append is one transaction.
"""

import asyncio
import random
import signal
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from service.config import load_config
from service.eventlog.errors import UnavailableError
from service.eventlog.protocol import Appender, NewRecord, TopicPartition
from service.eventlog.sqlite import SqliteLog
from service.runtime.settings import TopicSettings
from tests.simulation.inputs import KINDS, arrivals, time_of

ROUND = 500
"""Predictions of a round: in each one the model drifts and recovers."""


def endless(seed: int, partition: int, topics: TopicSettings) -> Iterator[NewRecord]:
    """Give the records of a partition in the order in which they are appended."""
    kind = KINDS[(seed + partition) % len(KINDS)]
    for number in count():
        first = number * ROUND
        rng = random.Random(f"{seed} {partition} {number}")
        for role, value in arrivals(rng, partition, ROUND, first, kind):
            # The record's own time is made up as well, so that whatever the calendar says, no event is from the future.
            yield NewRecord(topics.inputs[role], partition, b"m", value, (), time_of(first + ROUND))


async def skip_what_is_there(
    log: SqliteLog, topics: TopicSettings, partition: int, records: Iterator[NewRecord]
) -> None:
    """Pass over what an earlier life has appended."""
    where = [TopicPartition(topic, partition) for topic in topics.inputs]
    reader = await log.reader(dict.fromkeys(where, 0))
    held = sum((await reader.end_offsets()).values())
    await reader.close()
    for _ in range(held):
        next(records)


async def produce(config_file: Path, seed: int, per_second: float) -> None:
    """Append until SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    config = load_config(config_file)
    log = SqliteLog(Path(config.log.sqlite.path))
    streams = [endless(seed, partition, config.topics) for partition in range(config.topics.partitions)]
    for partition, records in enumerate(streams):
        await skip_what_is_there(log, config.topics, partition, records)
    appender = await log.appender()
    rng = random.Random()  # how many at once need not be repeatable: the records are
    while not stopping.is_set():
        size = rng.choice((1, 3, 20, 60))
        records = rng.choice(streams)
        batch = [next(records) for _ in range(size)]
        await until_appended(appender, batch)
        await asyncio.sleep(size / per_second)
    await log.close()


async def until_appended(appender: Appender, batch: list[NewRecord]) -> None:
    """Try until the file is free: the embedded log refuses, and has then written nothing."""
    while True:
        try:
            return await appender.append(batch)
        except UnavailableError:
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(produce(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
