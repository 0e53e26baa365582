"""One chaos run on a real broker: what is done, when it is over, and what must then be found."""

import asyncio
import random
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import orjson

from service.core.intake import Positions, Role
from service.eventlog.errors import LogError
from service.eventlog.kafka import KafkaLog
from service.runtime.settings import TaskId
from service.runtime.topics import prepare_topics
from tests.chaos.kafka_broker import ChaosBroker
from tests.chaos.kafka_feed import Feed
from tests.chaos.kafka_nodes import Fleet, Node, UnexpectedError, service_command, tally
from tests.chaos.kafka_setting import SESSION_MS, Kind, Setting, draw_setting
from tests.chaos.kafka_watch import Watch, read_all
from tests.simulation.inputs import arrivals
from tests.simulation.reading import evidence
from tests.simulation.verifier import verify
from tests.simulation.world import EXPECTED_ERRORS, status

PREDICTIONS_A_SECOND = 20
"""Of each task. Chaos asks for many commits, not for many records."""
FAULT_S = 6.0
"""What a fault takes, for the pace of the producers. It was 3 to 8 s."""
RECOVERY_LIMIT_S = 120.0
DRAIN_LIMIT_S = 180.0
RIVAL_PATIENCE = 50
"""Looks at the workers' logs, five a second, before a lock is taken again."""
SAY_EVERY = 20
"""Faults between two lines about how far the run is."""
HASTE = 0.25
"""Share of faults that are followed by the next one before the tasks have recovered."""


class Recovery(NamedTuple):
    """How long all tasks took from a fault to a commit of records that were appended behind it."""

    kind: str
    seconds: float
    alone: bool
    """Whether nothing else happened meanwhile."""


class Report(NamedTuple):
    """What a run did and found. It is only made where every law held."""

    seed: int
    seconds: float
    partitions: int
    faults: dict[str, int]
    lives: int
    own_ends: list[str]
    recoveries: list[Recovery]
    log: dict[str, int]
    """How often the workers said what."""
    records: int
    cuts: int
    outputs: int
    """Outputs that were compared byte for byte."""


class ChaosRun:
    """Lives through the faults of one seed."""

    def __init__(
        self, setting: Setting, broker: ChaosBroker, bootstrap: str, directory: Path, mutant: str | None
    ) -> None:
        self._setting = setting
        self._rng = random.Random(f"director {setting.seed}")
        self._broker = broker
        self._bootstrap = bootstrap
        config = directory / "config.yaml"  # YAML holds JSON
        config.write_bytes(orjson.dumps(msgspec.to_builtins(setting.config)))
        self._fleet = Fleet(service_command(config, mutant=mutant), directory)
        self._topics = setting.config.topics
        self._watch = Watch(bootstrap, self._topics, setting.partitions, self._train)
        self._feeds = [self._feed(partition) for partition in range(setting.partitions)]
        self._left = len(setting.faults)
        self._done: Counter[str] = Counter()
        self._recoveries: list[Recovery] = []
        self._pending: set[asyncio.Task[None]] = set()
        self._acts: dict[Kind, Callable[[], Awaitable[None]]] = {
            "kill": self._kill,
            "zombie": self._zombie,
            "rival": self._rival,
            "broker_kill": self._kill_broker,
            "broker_pause": self._pause_broker,
            "leave": self._leave,
            "join": self._join,
        }

    def _feed(self, partition: int) -> Feed:
        rng = random.Random(f"{self._setting.seed} inputs {partition}")
        count = int((len(self._setting.faults) + 1) * FAULT_S * PREDICTIONS_A_SECOND)
        return Feed(
            self._bootstrap, self._topics.inputs, partition, arrivals(rng, partition, count), lambda: self._expected_s
        )

    @property
    def _expected_s(self) -> float:
        return (self._left + 1) * FAULT_S

    async def run(self) -> Report:
        """Live through it and judge it. Raises ViolationError or UnexpectedError."""
        began = asyncio.get_running_loop().time()
        await self._prepare()
        ending = asyncio.Event()
        feeding = [asyncio.create_task(feed.run(ending)) for feed in self._feeds]
        watching = asyncio.create_task(self._watch.run())
        course = asyncio.create_task(self._course(began, ending, feeding))
        jobs: set[asyncio.Task[Any]] = {course, watching, *feeding}
        try:
            while not course.done():
                ended, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
                jobs -= ended
                for job in ended:  # whatever fails first is what went wrong
                    job.result()
            return course.result()
        finally:
            jobs |= self._pending
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            await self._fleet.bury()

    async def _course(self, began: float, ending: asyncio.Event, feeding: list[asyncio.Task[None]]) -> Report:
        for _ in range(self._setting.workers):
            await self._fleet.start()
        await self._recovered("start", began)
        await self._disturb()
        ending.set()
        await asyncio.gather(*feeding)
        await self._drain()
        await self._fleet.stop()
        return await self._judge(began)

    async def _prepare(self) -> None:
        log = KafkaLog(self._setting.config.log.kafka)
        await prepare_topics(log, self._topics, self._setting.config.core)
        await log.close()

    # ------------------------------------------------------------------------------------------------- faults

    async def _disturb(self) -> None:
        for kind in self._setting.faults:
            await asyncio.sleep(self._rng.uniform(0, 1))
            began = asyncio.get_running_loop().time()
            await self._acts[kind]()
            self._done[kind] += 1
            self._left -= 1
            if self._left and self._left % SAY_EVERY == 0:
                sys.stderr.write(f"{sum(self._done.values())} faults, {self._left} to come\n")
            self._measure(kind, began)
            if self._rng.random() >= HASTE:
                await asyncio.gather(*self._pending)
                self._pending.clear()
        await asyncio.gather(*self._pending)
        self._pending.clear()

    def _measure(self, kind: str, since: float) -> None:
        self._pending.add(asyncio.create_task(self._recovered(kind, since)))

    async def _recovered(self, kind: str, since: float) -> None:
        """Wait until every task has committed records that were appended after this call."""
        left = self._left
        try:
            async with asyncio.timeout(RECOVERY_LIMIT_S):
                await asyncio.gather(*(feed.next_append() for feed in self._feeds))
        except TimeoutError:
            raise UnexpectedError(f"the test's own producers are stuck: {self._ends()}") from None
        await self._watch.covered(self._ends(), RECOVERY_LIMIT_S)
        seconds = asyncio.get_running_loop().time() - since
        self._recoveries.append(Recovery(kind, seconds, alone=left == self._left))

    def _ends(self) -> dict[int, Positions]:
        return {partition: feed.ends for partition, feed in enumerate(self._feeds)}

    def _someone(self) -> Node:
        """Choose a worker. One that has no tasks yet would not be missed."""
        awake = self._fleet.awake
        return self._rng.choice([node for node in awake if node.tasks()] or awake)

    async def _kill(self) -> None:
        """Kill -9; a supervisor of processes starts another one at once, or later."""
        await self._someone().kill()
        await asyncio.sleep(self._rng.choice((0.0, 0.5, 2.0)))
        await self._fleet.start()

    async def _zombie(self) -> None:
        """Freeze a worker until the others have its tasks (or, now and then, not quite), and let it go on."""
        if len(self._fleet.awake) < 2:
            await self._fleet.start()
        node = self._someone()
        began = asyncio.get_running_loop().time()
        node.freeze()
        if self._rng.random() < 0.7:
            await self._recovered("takeover", began)
        else:
            await asyncio.sleep(self._rng.uniform(0.2, 2.0) * SESSION_MS / 1000)
        node.thaw()

    async def _rival(self) -> None:
        """Take the lock of a task from its owner, who is told by nobody but the refusal of its next commit.

        What a zombie comes to is a race between that refusal and the group, which a busy machine may decide either way.
        Here it is waited for: an owner who was just acquiring its task has fenced the rival instead, and so is tried
        again.
        """
        config = self._setting.config
        task = TaskId(config.runtime.name, config.runtime.group, self._rng.randrange(self._setting.partitions))
        before = self._fleet.count("task_fenced")
        async with asyncio.timeout(RECOVERY_LIMIT_S):
            while self._fleet.count("task_fenced") == before:
                await self._take_lock(task.writer_id)
                for _ in range(RIVAL_PATIENCE):
                    if self._fleet.count("task_fenced") == before:
                        await asyncio.sleep(0.2)

    async def _take_lock(self, writer_id: str) -> None:
        log = KafkaLog(self._setting.config.log.kafka)
        try:
            await (await log.writer(writer_id)).close()
        except LogError:  # the broker is not back yet
            await asyncio.sleep(1)
        finally:
            await log.close()

    async def _kill_broker(self) -> None:
        await self._broker.kill()
        await asyncio.sleep(self._rng.choice((0.0, 1.0, 4.0)))
        await self._broker.start()
        self._measure("broker is back", asyncio.get_running_loop().time())

    async def _pause_broker(self) -> None:
        """Freeze the broker for longer than a commit may take, or for shorter: answers come late, or too late."""
        self._broker.signal(signal.SIGSTOP)
        await asyncio.sleep(self._rng.choice((1.0, 3.5, 6.0)))
        self._broker.signal(signal.SIGCONT)

    async def _leave(self) -> None:
        """Stop a worker gracefully. Where it was the last one, another comes."""
        await self._someone().stop()
        if not self._fleet.awake:
            await self._fleet.start()

    async def _join(self) -> None:
        """Add a worker. Where there are many already, one leaves instead."""
        if len(self._fleet.awake) < self._setting.most_workers:
            await (await self._fleet.start()).joined()
        else:
            await self._leave()

    def _train(self, partition: int, trigger: bytes) -> None:
        """Answer a trigger as a training pipeline does: what is committed is true, so it may act on it at once."""
        told = orjson.loads(trigger)
        if told["state"] == "requested":
            states = self._rng.choice((["running"], ["running", "completed"], ["failed"]))
            self._feeds[partition].insert([status(told, state) for state in states])

    # ------------------------------------------------------------------------------------------------ the end

    async def _drain(self) -> None:
        """Wait until all that the inputs hold is taken. Nobody appends any more."""
        found = await read_all(self._bootstrap, self._topics.inputs, self._setting.partitions)
        ends = {}
        for partition in range(self._setting.partitions):
            of_role = [
                max((int(chunk.offsets[-1]) + 1 for chunk in chunks), default=0)
                for topic in self._topics.inputs
                for where, chunks in found.items()
                if where == (topic, partition)
            ]
            ends[partition] = Positions(*of_role)
        await self._watch.covered(ends, DRAIN_LIMIT_S)

    async def _judge(self, began: float) -> Report:
        topics, config = self._topics, self._setting.config
        outputs = (topics.alerts, topics.triggers, topics.metrics, topics.dead_letters)
        found = await read_all(self._bootstrap, (*topics.inputs, *outputs, topics.steps), self._setting.partitions)
        source = f"tidegauge/{config.runtime.name}"
        compared = records = cuts = 0
        for partition in range(self._setting.partitions):
            shown = evidence(partition, self._setting.partitions, topics, lambda topic, number: found[topic, number])  # type: ignore[index]
            compared += verify(shown, config.core, topics.inputs, source)
            records += sum(len(shown.inputs[role]) for role in Role)
            cuts += len(shown.cuts)
        return Report(
            seed=self._setting.seed,
            seconds=asyncio.get_running_loop().time() - began,
            partitions=self._setting.partitions,
            faults=dict(self._done),
            lives=self._fleet.lives,
            own_ends=self._fleet.own_ends,
            recoveries=self._recoveries,
            log=dict(tally(self._fleet, EXPECTED_ERRORS)),
            records=records,
            cuts=cuts,
            outputs=compared,
        )


async def live_through(seed: int, faults: int, directory: Path, *, mutant: str | None = None) -> Report:
    """Run a seed on a broker of its own, with the service or a mutant. Raises ViolationError or UnexpectedError."""
    broker = ChaosBroker(directory / "broker")
    bootstrap = await broker.start()
    try:
        return await ChaosRun(draw_setting(seed, faults, bootstrap), broker, bootstrap, directory, mutant).run()
    finally:
        await broker.stop()
