"""What may happen to a worker at each await of a call to the log.

Whose call it is, a context variable tells: tasks inherit it from the worker that starts them.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar

from service.eventlog.errors import UnavailableError
from service.eventlog.memory import Call, CommitFate, MemoryLog, Moment
from service.eventlog.memory_group import MemoryMembership
from service.eventlog.protocol import Membership
from tests.simulation.scenario import Rates


class CrashError(BaseException):
    """The process is dead: nothing of it goes on. Not an Exception, so that no code under test can survive it."""


class Actor:
    """One life of one worker process."""

    def __init__(self, rng: random.Random, rates: Rates, hang_s: float) -> None:
        self.died = asyncio.Event()
        self.member: MemoryMembership | None = None
        self._rng = rng
        self._rates = rates
        self._hang_s = hang_s
        self._going = asyncio.Event()
        self._going.set()

    def kill(self) -> None:
        """End it: whatever it waits for, it never gets."""
        self.died.set()
        self._going.set()

    def pause(self) -> None:
        """Stop its calls where they are, as SIGSTOP or a lost network does."""
        self._going.clear()

    def resume(self) -> None:
        """Let them go on."""
        self._going.set()

    def calm(self) -> None:
        """Let nothing go wrong any more."""
        self._rates = Rates(*[0.0] * len(self._rates))
        self._going.set()

    async def live(self, moment: Moment) -> None:
        """Pass one await of the log, or not."""
        self._check()
        await asyncio.sleep(self._rng.choice((0.0, 0.0, 0.001, self._rng.expovariate(200))))
        await self._going.wait()
        if self._rng.random() < self._rates.crash:
            self.kill()
        self._check()
        if self._rng.random() < self._rates.hang:
            await asyncio.sleep(self._hang_s)
            self._check()
        if moment == "before" and self._rng.random() < self._rates.refuse:
            raise UnavailableError("the simulated broker does not answer")

    def fate(self) -> CommitFate:
        """Say what becomes of a commit."""
        draw, rates = self._rng.random(), self._rates
        for fate, rate in (
            (CommitFate.REPLY_LOST, rates.reply_lost),
            (CommitFate.LOST, rates.lost),
            (CommitFate.LATE, rates.late),
        ):
            draw -= rate
            if draw < 0:
                return fate
        return CommitFate.CONFIRMED

    def _check(self) -> None:
        if self.died.is_set():
            raise CrashError


ACTOR: ContextVar[Actor | None] = ContextVar("ACTOR", default=None)


class ActorFaults:
    """Asks whoever calls. Who is no actor (producers, the simulator) has no bad luck."""

    async def at(self, moment: Moment, call: Call, subject: str) -> None:
        actor = ACTOR.get()
        if actor is not None:
            await actor.live(moment)

    def fate(self, writer_id: str) -> CommitFate:
        actor = ACTOR.get()
        return CommitFate.CONFIRMED if actor is None else actor.fate()


class SimulatedLog(MemoryLog):
    """A memory log that tells each actor its membership, so that a coordinator can evict it."""

    @asynccontextmanager
    async def membership(self, group: str, topics: Sequence[str]) -> AsyncIterator[Membership]:
        async with super().membership(group, topics) as member:
            actor = ACTOR.get()
            if actor is not None and isinstance(member, MemoryMembership):
                actor.member = member
            yield member
