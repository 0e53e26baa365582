"""Several workers of one group: whoever comes and goes, every record counts once."""

import asyncio
import contextlib

import msgspec

from schemas.codec import encode
from service.config import Config
from service.core.prepare import TaskTopics
from service.eventlog.protocol import Log
from service.runtime.topics import prepare_topics
from service.runtime.worker import Worker
from tests.core.stream import Driver, drifting
from tests.eventlog.conftest import Carrier, carrier
from tests.runtime.service import consumed, outputs_of, publish, running
from tests.runtime.test_service import config, output_topics

__all__ = ["carrier", "config"]

PARTITIONS = 4
SOURCES = [drifting(1200, 600, seed=seed) for seed in range(PARTITIONS)]


async def prepared(log: Log, config: Config) -> Config:
    # One model lives in all of them here, which is nothing to be told of.
    topics = msgspec.structs.replace(config.topics, partitions=PARTITIONS, partitioner="any")
    several = msgspec.structs.replace(config, topics=topics)
    await prepare_topics(log, several.topics, several.core)
    return several


def expected(config: Config) -> list[bytes]:
    found = []
    for partition, source in enumerate(SOURCES):
        driver = Driver(source, config.core, topics=TaskTopics(*config.topics.inputs, partition=partition))
        found += [encode(output) for output in driver.run(batch=100_000)]
    return sorted(found)


async def settled(workers: list[Worker]) -> None:
    """Wait until the workers share all tasks."""
    async with asyncio.timeout(60):
        while True:
            shares = [{partition for partition, stats in w.stats.items() if stats.ready} for w in workers]
            if sum(map(len, shares)) == PARTITIONS and set().union(*shares) == set(range(PARTITIONS)):
                return
            await asyncio.sleep(0.02)


async def test_workers_that_come_and_go_change_no_byte(carrier: Carrier, config: Config) -> None:
    log, config = carrier.log, await prepared(carrier.log, config)
    for partition, source in enumerate(SOURCES):  # before anybody reads, so that arrival chooses no order
        await publish(log, config, source, partition)
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(running(log, config))
        if carrier.kind == "sqlite":  # one worker owns everything; the next waits until it has gone
            await consumed(log, config, first)
        else:
            async with running(log, config) as second:
                await settled([first, second])
            await settled([first])
            async with running(log, config) as third:
                await settled([first, third])
                await consumed(log, config, third)
            await settled([first])
            await consumed(log, config, first)
    got = [value for _, value in await outputs_of(log, output_topics(config), PARTITIONS)]
    assert sorted(got) == expected(config)
