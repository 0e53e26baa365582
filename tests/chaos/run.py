"""Kill the service at random moments, many times, and judge what a reader of committed records then finds."""

import asyncio
import contextlib
import random
import signal
import sqlite3
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

import orjson

from service.core.intake import Role
from service.eventlog.protocol import Chunk, TopicPartition
from service.eventlog.sqlite import SqliteLog
from service.runtime.topics import prepare_topics
from tests.chaos.processes import Process, Zygote, kill, producing, start_from_scratch
from tests.chaos.settings import PARTITIONS, Workplace, configuration, write_configuration
from tests.simulation.reading import evidence
from tests.simulation.verifier import Evidence, ViolationError, end_of, verify

FROM_SCRATCH_EVERY = 20
"""One start in so many is a new interpreter, as a person starts one; the others are forks."""

LIFE_LIMIT_S = 20.0
"""A life that writes nothing for so long is ended all the same."""

CATCH_UP_LIMIT_S = 300.0
SAY_EVERY = 100
"""Kills between two lines about how far the run is."""
EXPECTED_EVENTS = ("task_fenced",)


class Chaos(NamedTuple):
    """What a run did."""

    kills: int
    seconds: float
    records: int
    cuts: int
    outputs: int
    recoveries: list[float]
    """Seconds from the start of a life until all tasks were locked and one had committed, of lives that came so far."""

    def __str__(self) -> str:
        median, most = statistics.median(self.recoveries), max(self.recoveries)
        return (
            f"{self.kills} kills in {self.seconds:.0f} s: {self.records} records, {self.cuts} commits, "
            f"{self.outputs} outputs, each as it must be, once\n"
            f"  from start to first commit ({len(self.recoveries)} lives): median {median:.2f} s, most {most:.2f} s"
        )


class Moment:
    """Chooses when to kill, by what the service has written: time alone would say nothing on a busy machine."""

    def __init__(self, place: Workplace, steps: str) -> None:
        self._db = sqlite3.connect(f"file:{place.log}?mode=ro", uri=True)
        self._steps = steps
        self.recoveries: list[float] = []

    def wait(self, rng: random.Random) -> None:
        """Wait for the moment: in three of four cases when this life has written a few records, and a bit."""
        if rng.random() < 0.25:
            time.sleep(rng.uniform(0, 0.3))
            return
        # A barrier for each task comes first: so some die before their first commit, and most after a few.
        began, before, wanted = time.monotonic(), self._written(), rng.randint(1, 3 * PARTITIONS)
        written, committed_at = 0, None
        while written < wanted and time.monotonic() < began + LIFE_LIMIT_S:
            time.sleep(0.002)
            written = self._written() - before
            if committed_at is None and written > PARTITIONS:
                committed_at = time.monotonic()
        if committed_at is not None:
            self.recoveries.append(committed_at - began)
        time.sleep(rng.choice((0.0, rng.uniform(0, 0.03))))

    def _written(self) -> int:
        query = "SELECT sum(end_offset) FROM partitions WHERE topic = ?"
        return int(self._db.execute(query, (self._steps,)).fetchone()[0])

    def close(self) -> None:
        self._db.close()


def run(path: Path, *, kills: int, seed: int, seconds: float, per_second: float = 400.0) -> Chaos:
    """Kill `kills` times, or for `seconds`; then let the service catch up, and verify. Raises ViolationError."""
    place = Workplace(path)
    config = configuration(place, seed)
    write_configuration(place, config)
    asyncio.run(_prepare(place, seed))
    began = time.monotonic()
    done = 0
    rng = random.Random(seed)
    with place.said.open("ab") as said, contextlib.closing(Moment(place, config.topics.steps)) as moment:
        zygote = Zygote(place, said)
        try:
            with producing(place, seed, per_second, said):
                while done < kills and time.monotonic() - began < seconds:
                    process: Process = start_from_scratch(place, said) if _by_hand(done) else zygote.start()
                    moment.wait(rng)
                    _expect(kill(process, signal.SIGKILL), -signal.SIGKILL)
                    done += 1
                    if done % SAY_EVERY == 0:
                        sys.stderr.write(f"{done} kills after {time.monotonic() - began:.0f} s\n")
            last = start_from_scratch(place, said)
            try:
                asyncio.run(_caught_up(place, seed, last))
            except BaseException:
                kill(last, signal.SIGKILL)
                raise
            _expect(kill(last, signal.SIGTERM), 0)
        finally:
            zygote.close()
    _look_for_errors(place)
    found = asyncio.run(_read(place, seed))
    source = f"tidegauge/{config.runtime.name}"
    outputs = sum(verify(each, config.core, config.topics.inputs, source) for each in found)
    records = sum(len(each.inputs[role]) for each in found for role in Role)
    cuts = sum(len(each.cuts) for each in found)
    return Chaos(done, time.monotonic() - began, records, cuts, outputs, moment.recoveries)


def _by_hand(number: int) -> bool:
    return number % FROM_SCRATCH_EVERY == FROM_SCRATCH_EVERY - 1


def _expect(code: int, expected: int) -> None:
    if code != expected:
        raise ViolationError(f"a service process ended with {code}, expected {expected}")


async def _prepare(place: Workplace, seed: int) -> None:
    config = configuration(place, seed)
    log = SqliteLog(place.log)
    await prepare_topics(log, config.topics, config.core)
    await log.close()


async def _caught_up(place: Workplace, seed: int, process: Process) -> None:
    topics = configuration(place, seed).topics
    log = SqliteLog(place.log)
    deadline = time.monotonic() + CATCH_UP_LIMIT_S
    while not all([await _stands_at_end(log, number, topics.inputs, topics.steps) for number in range(PARTITIONS)]):
        _look_for_errors(place)
        if time.monotonic() > deadline:
            raise ViolationError(f"process {process.pid} has not caught up within {CATCH_UP_LIMIT_S} s")
        await asyncio.sleep(0.2)
    await log.close()


async def _stands_at_end(log: SqliteLog, partition: int, inputs: tuple[str, ...], steps: str) -> bool:
    ends = [(await _extent(log, TopicPartition(topic, partition)))[1] for topic in inputs]
    where = TopicPartition(steps, partition)
    _, end = await _extent(log, where)
    reader = await log.reader({where: max(end - 1, 0)})
    last = [
        value
        for chunk in await reader.fetch(max_records=1, wait_ms=0)
        for key, value in zip(chunk.keys, chunk.values, strict=True)
        if key == b"cut" and value is not None
    ]
    return bool(last) and tuple(end_of(last)) == tuple(ends)


async def _extent(log: SqliteLog, where: TopicPartition) -> tuple[int, int]:
    reader = await log.reader({where: 0})
    return (await reader.begin_offsets())[where], (await reader.end_offsets())[where]


async def _read(place: Workplace, seed: int) -> list[Evidence]:
    """Read everything as any consumer would."""
    topics = configuration(place, seed).topics
    log = SqliteLog(place.log)
    outputs = (topics.alerts, topics.triggers, topics.metrics, topics.dead_letters)
    held = {
        (topic, partition): await _chunks(log, TopicPartition(topic, partition))
        for topic in (*topics.inputs, *outputs, topics.steps)
        for partition in range(PARTITIONS)
    }
    await log.close()
    return [
        evidence(number, PARTITIONS, topics, lambda topic, partition: held[topic, partition])
        for number in range(PARTITIONS)
    ]


async def _chunks(log: SqliteLog, where: TopicPartition) -> list[Chunk]:
    position, end = await _extent(log, where)
    reader = await log.reader({where: position})
    chunks: list[Chunk] = []
    while position < end:
        chunks += await reader.fetch(max_records=10_000, wait_ms=1000)
        position = chunks[-1].next_position if chunks else position
    return chunks


def _look_for_errors(place: Workplace) -> None:
    """A task that fails for good, or of an error that nobody expects, is a bug even where the outputs are right."""
    for line in place.said.read_bytes().splitlines():
        try:
            said = orjson.loads(line)
        except orjson.JSONDecodeError:
            raise ViolationError(f"a process wrote {line[:300]!r}") from None
        if said.get("event") not in EXPECTED_EVENTS:
            raise ViolationError(f"a process reported {line[:300]!r}")
