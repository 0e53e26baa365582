"""Runs a scenario: worker processes that live and die, producers, a coordinator, a training pipeline."""

import asyncio
import contextvars
import random
from collections.abc import Coroutine
from typing import Any

import orjson

from service.app import make_worker
from service.core.intake import Role
from service.eventlog.errors import LogError
from service.eventlog.protocol import Chunk, NewRecord, TopicPartition
from service.runtime.topics import prepare_topics
from service.runtime.worker import Worker
from tests.simulation.actor import ACTOR, Actor, ActorFaults, CrashError, SimulatedLog
from tests.simulation.inputs import START_MS, Arrival, arrivals
from tests.simulation.reading import cut_values, evidence, messages
from tests.simulation.scenario import Scenario
from tests.simulation.sickness import poison
from tests.simulation.verifier import Evidence, ViolationError, end_of

CHECK_EVERY_S = 0.25
CALM_LIMIT_S = 600.0
"""Virtual seconds without any fault in which the service must have caught up. Waits between attempts grow to 12 s."""
EXPECTED_ERRORS = ("FencedError:", "OutcomeUnknownError:", "UnavailableError:")
"""What a task may fail of here. Anything else, an error of the state above all, is a bug."""


class World:
    """One run of one scenario on one log."""

    def __init__(self, scenario: Scenario) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._take_note)
        self.scenario = scenario
        self.config = scenario.config
        self.rng = random.Random(f"world {scenario.seed}")
        self.log = SimulatedLog(clock_ms=lambda: START_MS + int(loop.time() * 1000), faults=ActorFaults())
        self.calm = asyncio.Event()
        self.lives = 0
        self.faults = dict.fromkeys(("crash", "leave", "zombie"), 0)
        self._over = asyncio.Event()
        self._unexpected: list[str] = []
        self._producing = 0
        self._actors: list[Actor] = []
        self._workers: list[Worker] = []
        self._jobs: list[asyncio.Task[None]] = []

    async def run(self) -> list[Evidence]:
        """Live through it, and give what a consumer then finds."""
        await prepare_topics(self.log, self.config.topics, self.config.core)
        for partition in range(self.scenario.partitions):
            await self._produce(partition)
        for _ in range(self.scenario.workers):
            self._spawn(self._node())
        for job in (self._coordinate(), self._upkeep(), self._train()):
            self._spawn(job)
        try:
            await asyncio.sleep(self.scenario.disorder_until_s)
            self._calm_down()
            await self._catch_up()
            self._over.set()
            await self._join()
            return [self.evidence(partition) for partition in range(self.scenario.partitions)]
        finally:
            self._over.set()
            await self._bury()

    def _spawn(self, job: Coroutine[Any, Any, None]) -> None:
        self._jobs.append(asyncio.create_task(job))

    # ------------------------------------------------------------------------------------------ worker processes

    async def _node(self) -> None:
        """Start a worker again and again, whatever becomes of it, as a supervisor of processes does."""
        while not self._over.is_set():
            self.lives += 1
            actor = Actor(
                random.Random(f"{self.scenario.seed} life {self.lives}"),
                self.scenario.rates,
                self.config.runtime.broker_timeout_ms / 1000 * 1.2,
            )
            self._actors.append(actor)
            if self.calm.is_set():
                actor.calm()
            await self._live(actor)
            await asyncio.sleep(self.rng.uniform(0, 0.5))

    async def _live(self, actor: Actor) -> None:
        context = contextvars.copy_context()
        context.run(ACTOR.set, actor)
        stopping = asyncio.Event()
        worker = make_worker(self.config, self.log, self.scenario.partitions)
        self._workers.append(worker)
        work = asyncio.create_task(worker.run(stopping), context=context)
        end = asyncio.create_task(self._fate_of(actor, stopping))
        died = asyncio.create_task(actor.died.wait())
        over = asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait({work, died, over}, return_when=asyncio.FIRST_COMPLETED)
            if actor.died.is_set():
                self.faults["crash"] += 1
                # What a session timeout does, some time later.
                await asyncio.sleep(self.rng.uniform(0, 1.5))
                self._evict(actor)
                work.cancel()
            elif over.done():
                stopping.set()
            await _ended(work)
        finally:
            for job in (end, died, over):
                job.cancel()

    async def _fate_of(self, actor: Actor, stopping: asyncio.Event) -> None:
        """What its surroundings do to a worker, beside what happens to its calls."""
        draw = self.rng.random()
        await asyncio.sleep(self.rng.expovariate(0.7))
        if self.calm.is_set() or draw < 0.3:
            return
        if draw < 0.6:
            self.faults["leave"] += 1
            stopping.set()
            return
        self.faults["zombie"] += 1
        actor.pause()
        self._evict(actor)
        if self.rng.random() < 0.5:
            self._spawn(self._node())
        await asyncio.sleep(self.rng.uniform(0.05, 2))
        actor.resume()
        # It believes that it still owns its tasks until its next heartbeat is refused.
        await asyncio.sleep(self.rng.uniform(0, 2))
        if actor.member is not None:
            actor.member.disturb("evicted")

    def _evict(self, actor: Actor) -> None:
        if actor.member is not None:
            self.log.group(self.config.runtime.group).evict(actor.member.name)

    # -------------------------------------------------------------------------------------------- surroundings

    async def _produce(self, partition: int) -> None:
        rng = random.Random(f"{self.scenario.seed} inputs {partition}")
        records = poison(arrivals(rng, partition, self.scenario.predictions), self.scenario.sickness)
        if self.scenario.growing:
            self._producing += 1
            self._spawn(self._append_slowly(partition, records, rng))
        else:
            await self._append(partition, records)

    async def _append_slowly(self, partition: int, records: list[Arrival], rng: random.Random) -> None:
        # The inputs last somewhat longer than the disorder, so that there is work whenever something goes wrong.
        pause_s = self.scenario.disorder_until_s * 1.2 / len(records)
        start = 0
        while start < len(records):
            some = rng.choice((1, 3, 10, 30))
            await self._append(partition, records[start : start + some])
            start += some
            await asyncio.sleep(rng.expovariate(2) * pause_s * some)
            if rng.random() < 0.3:
                self._leave_gap(rng.choice(self.config.topics.inputs), partition)
            await asyncio.sleep(rng.expovariate(2) * pause_s * some)
        self._producing -= 1

    def _leave_gap(self, topic: str, partition: int) -> None:
        """Take an offset without a record, as the marker behind a producer's transaction does."""
        self.log.partition(TopicPartition(topic, partition)).skip()

    async def _append(self, partition: int, records: list[Arrival]) -> None:
        appender = await self.log.appender()
        topics = self.config.topics.inputs
        await appender.append([NewRecord(topics[role], partition, b"m", value) for role, value in records])

    async def _coordinate(self) -> None:
        """Hand out overlapping, incomplete and needless shares now and then: assignments are only hints."""
        while not self.calm.is_set():
            await asyncio.sleep(self.rng.expovariate(0.5))
            if self.rng.random() < 0.5 and not self.calm.is_set():
                if self.rng.random() < 0.5:  # an eager rebalance: everything is taken back first
                    self._revoke(self._members())
                    await asyncio.sleep(self.rng.expovariate(2))
                if not self.calm.is_set():
                    self._dictate({name: self._any_tasks() for name in self._members()})

    def _members(self) -> list[str]:
        actors = [actor.member for actor in self._actors if actor.member is not None]
        known = self.log.group(self.config.runtime.group).members if actors else {}
        return sorted(known)

    def _dictate(self, shares: dict[str, frozenset[int]]) -> None:
        if shares:
            self.log.group(self.config.runtime.group).dictate(shares)

    def _revoke(self, members: list[str]) -> None:
        if members:
            self.log.group(self.config.runtime.group).revoke(members)

    def _any_tasks(self) -> frozenset[int]:
        return frozenset(task for task in range(self.scenario.partitions) if self.rng.random() < 0.6)

    async def _upkeep(self) -> None:
        while not self._over.is_set():
            await asyncio.sleep(self.rng.expovariate(0.8))
            self.log.compact(self.config.topics.changelog)

    async def _train(self) -> None:
        """Answer triggers as a training pipeline does: what is committed is true, so it may act on it at once."""
        answered = dict.fromkeys(range(self.scenario.partitions), 0)
        while self.scenario.growing and not self.calm.is_set():
            await asyncio.sleep(0.3)
            for partition, done in answered.items():
                triggers = list(messages(self._read(self.config.topics.triggers, partition)))
                answered[partition] = len(triggers)
                wanted = [orjson.loads(message.value) for message in triggers[done:]]
                states = self.rng.choice((["running"], ["running", "completed"], ["failed"]))
                for trigger in wanted:
                    if trigger["state"] == "requested":
                        await self._append(partition, [status(trigger, state) for state in states])

    # --------------------------------------------------------------------------------------------- the end of it

    def _calm_down(self) -> None:
        self.calm.set()
        for actor in self._actors:
            actor.calm()
        members = self._members()
        shares = (frozenset(range(place, self.scenario.partitions, len(members))) for place in range(len(members)))
        self._dictate(dict(zip(members, shares, strict=True)))

    async def _catch_up(self) -> None:
        deadline = asyncio.get_running_loop().time() + CALM_LIMIT_S
        while self._producing or not all(self._finished(number) for number in range(self.scenario.partitions)):
            await asyncio.sleep(CHECK_EVERY_S)
            self._look_for_unexpected_errors()
            if asyncio.get_running_loop().time() > deadline:
                raise ViolationError(f"not caught up after {CALM_LIMIT_S} calm seconds: {self._phases()}")

    def _finished(self, partition: int) -> bool:
        cuts = list(cut_values(self._read(self.config.topics.steps, partition)))
        end = end_of(cuts[-1:])
        for role, topic in zip(Role, self.config.topics.inputs, strict=True):
            last = [chunk.offsets[-1] for chunk in self._read(topic, partition) if len(chunk.offsets)]
            if last and end[role] <= last[-1]:
                return False
        return True

    def _take_note(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Hear of exceptions that nobody took: those of dead workers are no news."""
        error = context.get("exception")
        if not isinstance(error, CrashError | LogError):
            self._unexpected.append(f"{context['message']}: {error!r}")

    def _look_for_unexpected_errors(self) -> None:
        if self._unexpected:
            raise ViolationError(self._unexpected[0])
        expected = (*EXPECTED_ERRORS, "ModelError:") if self.scenario.sickness else EXPECTED_ERRORS
        for worker in self._workers:
            for stats in worker.stats.values():
                if stats.last_error is not None and not stats.last_error.startswith(expected):
                    raise ViolationError(f"task {stats.partition} failed: {stats.last_error}")

    def _phases(self) -> list[tuple[int, str, str | None]]:
        return [
            (stats.partition, stats.phase, stats.last_error)
            for worker in self._workers
            for stats in worker.stats.values()
        ]

    async def _join(self) -> None:
        """Let every worker stop gracefully: the last commits and snapshots are part of what is judged."""
        while pending := [job for job in self._jobs if not job.done()]:
            await asyncio.wait(pending)
        for job in self._jobs:
            job.result()
        self._look_for_unexpected_errors()

    async def _bury(self) -> None:
        for actor in self._actors:
            actor.kill()
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
        others = [job for job in asyncio.all_tasks() if job is not asyncio.current_task()]
        for job in others:
            job.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    # ---------------------------------------------------------------------------------------- what is in the log

    def evidence(self, partition: int) -> Evidence:
        """Give what the log holds of a task."""
        return evidence(partition, self.scenario.partitions, self.config.topics, self._read)

    def _read(self, topic: str, partition: int) -> list[Chunk]:
        held = self.log.partition(TopicPartition(topic, partition))
        chunk = held.chunk(held.begin, max(held.end, 1))
        return [] if chunk is None else [chunk]


async def _ended(work: asyncio.Task[None]) -> None:
    """Wait for the end of a worker process. Any end that its surroundings caused is fine."""
    await asyncio.wait({work})
    error = None if work.cancelled() else work.exception()
    if error is not None and not isinstance(error, CrashError | LogError):
        raise error


def status(trigger: dict[str, Any], state: str) -> Arrival:
    """Give what a training pipeline says of a trigger."""
    said = {
        "type": "fine_tune_status",
        "trigger_id": trigger["trigger_id"],
        "model_id": trigger["model_id"],
        "event_time_ms": trigger["event_time_ms"],
        "status": state,
        "model_version": "2",
    }
    return Arrival(Role.CONTROL, orjson.dumps(said))
