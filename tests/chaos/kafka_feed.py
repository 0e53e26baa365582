"""Producers that append to the inputs whatever happens to the broker. Like real ones they may repeat themselves."""

import asyncio
import random
from collections.abc import Callable, Sequence

from aiokafka import AIOKafkaProducer

from service.core.intake import Positions, Role
from service.eventlog.errors import LogError
from service.eventlog.kafka.client import bounded
from service.eventlog.kafka.producing import discard
from tests.simulation.inputs import Arrival

APPEND_LIMIT_MS = 20_000
TRANSACTION_MS = 4_000
TRANSACTIONAL = 0.15
"""Share of appends in a transaction: its marker is an offset without a record."""
ABORTED = 0.3
"""Share of those that are aborted and done again: a run of offsets without records."""


class Feed:
    """Appends to the inputs of one task, at the pace at which the run goes on."""

    def __init__(
        self,
        bootstrap: str,
        topics: tuple[str, str, str],
        partition: int,
        arrivals: Sequence[Arrival],
        expected_s: Callable[[], float],
    ) -> None:
        self._bootstrap = bootstrap
        self._topics = topics
        self._partition = partition
        self._waiting = list(reversed(arrivals))
        self._expected_s = expected_s
        self._rng = random.Random(f"feed {partition} {len(arrivals)}")
        self._producers: dict[bool, AIOKafkaProducer] = {}
        self._appended = asyncio.Condition()
        self.appends = 0
        self.ends = Positions(0, 0, 0)
        """Behind the last record of each input that the broker has confirmed."""

    def insert(self, arrivals: Sequence[Arrival]) -> None:
        """Append these next."""
        self._waiting.extend(reversed(arrivals))

    async def run(self, ending: asyncio.Event) -> None:
        """Append until told to end; then all that is left, at once."""
        try:
            while self._waiting or not ending.is_set():
                count = len(self._waiting) if ending.is_set() else self._rng.choice((1, 3, 10))
                part = [self._waiting.pop() for _ in range(min(count, len(self._waiting), 500))]
                await self._append(part)
                pause_s = self._expected_s() * max(len(part), 1) / (len(self._waiting) + 1)
                if not ending.is_set():
                    await asyncio.sleep(min(pause_s, 0.5))
        finally:
            for producer in self._producers.values():
                await discard(producer, 1_000)

    async def next_append(self) -> None:
        """Wait until something was appended that was not under way before."""
        async with self._appended:
            goal = self.appends + 2
            await self._appended.wait_for(lambda: self.appends >= goal)

    async def _append(self, part: list[Arrival]) -> None:
        done = False
        while not done:
            done = await self._tried(part, transactional=self._rng.random() < TRANSACTIONAL)
            await asyncio.sleep(0 if done else 0.1)
        async with self._appended:
            self.appends += 1
            self._appended.notify_all()

    async def _tried(self, part: list[Arrival], *, transactional: bool) -> bool:
        """Append, or not, or nobody knows."""
        try:
            async with bounded(APPEND_LIMIT_MS, "appending"):
                producer = await self._producer(transactional=transactional)
                if not transactional:
                    self._note(await self._send(producer, part))
                    return True
                await producer.begin_transaction()
                found = await self._send(producer, part)
                if self._rng.random() < ABORTED:
                    await producer.abort_transaction()
                    return False
                await producer.commit_transaction()
                self._note(found)
                return True
        except LogError:
            producer = self._producers.pop(transactional, None)
            if producer is not None:
                await discard(producer, 1_000)
            return False

    async def _producer(self, *, transactional: bool) -> AIOKafkaProducer:
        if transactional not in self._producers:
            more = {"transactional_id": f"feed-{self._partition}", "transaction_timeout_ms": TRANSACTION_MS}
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap, enable_idempotence=True, **(more if transactional else {})
            )
            self._producers[transactional] = producer
            await producer.start()
        return self._producers[transactional]

    async def _send(self, producer: AIOKafkaProducer, part: list[Arrival]) -> Positions:
        ends = list(self.ends)
        sent = [
            await producer.send(self._topics[role], value, key=b"m", partition=self._partition) for role, value in part
        ]
        for (role, _), told in zip(part, await asyncio.gather(*sent), strict=True):
            ends[role] = max(ends[role], told.offset + 1)
        return Positions(*ends)

    def _note(self, ends: Positions) -> None:
        self.ends = Positions(*map(max, self.ends, ends))


def roles_behind(ends: Positions, reached: Positions) -> list[str]:
    """Name the inputs that are not read up to their ends."""
    return [role.name for role in Role if reached[role] < ends[role]]
