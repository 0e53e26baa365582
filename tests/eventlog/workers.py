"""Workers that follow their assignments."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.eventlog.protocol import Membership
from tests.eventlog.conftest import Carrier


class Worker:
    """Follows its assignments and lets go at once when it is asked to."""

    def __init__(self, member: Membership) -> None:
        self.member = member
        self.history: list[frozenset[int]] = []
        self.following = asyncio.create_task(self.follow())

    @property
    def tasks(self) -> frozenset[int]:
        return self.history[-1] if self.history else frozenset()

    async def follow(self) -> None:
        generation = 0
        async for assignment in self.member.assignments():
            assert assignment.generation > generation
            generation = assignment.generation
            self.history.append(assignment.tasks)
            await self.member.released(generation)


@asynccontextmanager
async def worker(carrier: Carrier, group: str, topics: list[str]) -> AsyncIterator[Worker]:
    async with carrier.log.membership(group, topics) as member:
        made = Worker(member)
        yield made
    # The iteration ends when the membership is closed, by itself.
    await asyncio.wait_for(made.following, 5)


async def settled(workers: list[Worker], task_count: int, *, evenly: bool) -> None:
    """Wait until the workers hold all tasks, each held once."""
    async with asyncio.timeout(30):
        while True:
            sizes = sorted(len(w.tasks) for w in workers)
            whole = frozenset().union(*(w.tasks for w in workers)) == frozenset(range(task_count))
            if whole and sum(sizes) == task_count and (not evenly or sizes[-1] - sizes[0] <= 1):
                return
            await asyncio.sleep(0.02)
