"""Says how many tasks have not committed all of their inputs: `python -m tests.upgrade.behind CONFIG PARTITIONS`."""

import asyncio
import sys
from pathlib import Path

from service.app import open_log
from service.config import load_config
from service.eventlog.protocol import TopicPartition
from service.runtime.changelog import read_cuts, read_head


async def behind(file: Path, partitions: int) -> int:
    """Count them."""
    config = load_config(file)
    count = 0
    async with open_log(config.log) as log:
        for partition in range(partitions):
            head = await read_head(log, config.topics, partition)
            cuts = await read_cuts(log, config.topics, partition, head)
            inputs = [TopicPartition(topic, partition) for topic in config.topics.inputs]
            reader = await log.reader(dict.fromkeys(inputs, 0))
            ends = await reader.end_offsets()
            await reader.close()
            reached = cuts[-1].end if cuts else head.positions if head else (-1, -1, -1)
            count += tuple(reached) != tuple(ends[where] for where in inputs)
    return count


if __name__ == "__main__":
    sys.stdout.write(f"{asyncio.run(behind(Path(sys.argv[1]), int(sys.argv[2])))}\n")
