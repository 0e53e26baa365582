"""A live service to be replayed: streams that come while workers come, go and fail."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import msgspec

from schemas.cloudevents import default_source
from service.config import Config
from service.core.intake import Role
from service.eventlog.memory import CommitFate
from service.eventlog.protocol import Log, NewRecord
from service.replay.names import OUTPUTS
from service.replay.plan import Edge, Order, make_plan
from service.replay.published import write_published
from service.replay.run import Origin
from service.replay.session import RunInfo, Settings, file_sinks, finish, replay_tasks, state_directory, write_run
from service.replay.sinks import join_parts
from tests.core.stream import Source, label, prediction

START_MS = 1_790_000_000_000


class CrashError(Exception):
    """What a worker is dropped by."""


class Storm:
    """Crashes at log calls and replies that are lost, chosen by a seed."""

    def __init__(self, seed: int, odds: float = 0.02) -> None:
        self._random = random.Random(seed)
        self._odds = odds
        self.crashes = 0
        self.calm = False

    async def at(self, moment: str, call: str, subject: str) -> None:
        await asyncio.sleep(0)
        if call in ("commit", "fetch") and not self.calm and self._random.random() < self._odds:
            self.crashes += 1
            raise CrashError(f"{moment} {call}")

    def fate(self, writer_id: str) -> CommitFate:
        if self.calm:
            return CommitFate.CONFIRMED
        weights = [0.9, 0.05, 0.05]
        return self._random.choices([CommitFate.CONFIRMED, CommitFate.REPLY_LOST, CommitFate.LOST], weights)[0]


async def trickle(log: Log, config: Config, sources: Sequence[Source], seed: int, part: int = 200) -> None:
    """Write sources, one a partition, a few records at a time: now of one input, now of another."""
    chance = random.Random(seed)
    appender = await log.appender()
    waiting = {(partition, role): list(source.of(role)) for partition, source in enumerate(sources) for role in Role}
    while any(waiting.values()):
        partition, role = chance.choice([key for key, values in waiting.items() if values])
        values = waiting[partition, role]
        taken = values[: chance.randint(1, part)]
        del values[: len(taken)]
        topic = config.topics.inputs[role]
        await appender.append([NewRecord(topic, partition, b"m", value) for value in taken])
        await asyncio.sleep(chance.random() * 0.02)
    await appender.close()


def messy(count: int, seed: int) -> Source:
    """A stream with late events, duplicates, corrections, labels without predictions, damaged records and commands."""
    chance = random.Random(seed)
    predictions, labels, control = [], [], []
    for number in range(count):
        late = chance.choice([0, 0, 0, 4000])
        wrong = chance.random() < (0.1 if number < count // 2 else 0.6)
        features = {"x": chance.gauss(0.0 if number < count // 2 else 2.0, 1.0), "kind": chance.choice("ab")}
        at_ms = START_MS + number * 100 - late
        predictions.append(prediction(number, wrong, event_time_ms=at_ms, features=features, score=0.4))
        labels.append(label(number, False, event_time_ms=at_ms + chance.randint(0, 20_000)))
        if chance.random() < 0.02:
            predictions.append(chance.choice([b"{", b"[]", prediction(number, wrong)]))
            labels.append(label(number + 10**6, True, event_time_ms=at_ms))
            labels.append(label(number, True, revision=1, event_time_ms=at_ms + 30_000))
    mute = {"type": "reset_monitor", "model_id": "m", "event_time_ms": START_MS + count * 15}
    control.append(msgspec.json.encode(mute))
    return Source(control, predictions, labels)


async def replayed(
    log: Log, config: Config, directory: Path, *, order: Order = "auto", start: str = "recorded", warm_up: bool = False
) -> RunInfo:
    """Replay what the live service consumed into files."""
    edge = Edge(start)  # type: ignore[arg-type]
    plan, boundaries = await make_plan(log, config.topics, edge, Edge("recorded"), order, warm_up=warm_up)
    directory.mkdir(exist_ok=True)  # noqa: ASYNC240  # a test may wait
    info = RunInfo(source={"carrier": "test"}, plan=plan, config={})
    write_run(directory, info)
    settings = Settings(config.core, config.runtime, config.topics)
    records = await replay_tasks(
        settings,
        Origin(config.topics.inputs, log, boundaries),
        plan.tasks,
        file_sinks(directory, settings),
        state_directory(directory),
        lambda _: None,
    )
    return finish(directory, info, records)


async def published(log: Log, config: Config, directory: Path, partitions: int) -> None:
    """Write down what the live service put out."""
    directory.mkdir(exist_ok=True)  # noqa: ASYNC240  # a test may wait
    await write_published(log, config.topics, default_source(config.runtime.name), directory, partitions)
    join_parts(directory, range(partitions))


def contents(directory: Path) -> dict[str, bytes]:
    """The outputs of a run."""
    return {kind: (directory / f"{kind}.jsonl").read_bytes() for kind in OUTPUTS}
