"""Streams of records for tests of the core: a seeded model that drifts, as bytes on two topics."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from schemas.outputs import Output
from service.core.decode import decode_block
from service.core.intake import Positions, Role
from service.core.prepare import TaskTopics
from service.core.settings import CoreSettings
from service.core.task import Task

TOPICS = TaskTopics("tidegauge.control", "tidegauge.predictions", "tidegauge.labels", 0)
START_MS = 1_790_000_000_000
ALL_IDLE = frozenset(Role)


class Source(NamedTuple):
    """Records of the three inputs, in offset order."""

    control: list[bytes]
    predictions: list[bytes]
    labels: list[bytes]

    def of(self, role: Role) -> list[bytes]:
        return self[role]


def prediction(number: int, value: Any, *, model: str = "m", version: str = "1", **fields: Any) -> bytes:
    time_ms = fields.pop("event_time_ms", START_MS + number * 100)
    event = {"prediction_id": f"p{number}", "model_id": model, "model_version": version, "event_time_ms": time_ms}
    return orjson.dumps(event | {"prediction": value} | fields)


def label(number: int, value: Any, *, model: str = "m", **fields: Any) -> bytes:
    time_ms = fields.pop("event_time_ms", START_MS + number * 100 + 5000)
    event = {"prediction_id": f"p{number}", "model_id": model, "event_time_ms": time_ms, "label": value}
    return orjson.dumps(event | fields)


def drifting(
    count: int, change: int, *, seed: int = 1, models: int = 1, before: float = 0.1, after: float = 0.5
) -> Source:
    """A binary classifier whose error rate jumps at `change`, with three features of which one moves then."""
    rng = np.random.default_rng(seed)
    truth = rng.random(count) < 0.5
    wrong = rng.random(count) < np.where(np.arange(count) < change, before, after)
    features = rng.normal(size=(count, 3))
    features[change:, 2] += 2.0
    predictions, labels = [], []
    for number in range(count):
        answer = bool(truth[number] ^ wrong[number])
        values = dict(zip("abc", features[number].tolist(), strict=True)) | {"kind": "xyz"[number % 3]}
        model = f"m{number % models}"
        score = 0.8 if answer else 0.3
        predictions.append(
            prediction(number, answer, model=model, score=score, features=values, latency_ms=5.0 + number % 7)
        )
        labels.append(label(number, bool(truth[number]), model=model))
    return Source([], predictions, labels)


Stamps = tuple[Sequence[int], Sequence[int], Sequence[int]]
"""Timestamps of the records of each input."""


def event_times(values: Sequence[bytes]) -> list[int]:
    """Stamp records as if each were written when its event happened; one that tells no time has no timestamp (0)."""
    stamps: list[int] = []
    for value in values:
        try:
            time_ms = json.loads(value)["event_time_ms"]  # which reads NaN
        except (ValueError, KeyError, TypeError):
            time_ms = None
        # Beyond what a timestamp can be there is none.
        stamps.append(time_ms if isinstance(time_ms, int) and abs(time_ms) < 1 << 62 else 0)
    return stamps


class Driver:
    """Feeds a source to a task in cuts of any size."""

    def __init__(
        self,
        source: Source,
        settings: CoreSettings | None = None,
        task: Task | None = None,
        topics: TaskTopics = TOPICS,
        stamps: Stamps | None = None,
    ) -> None:
        self.source = source
        self.stamps = stamps
        self.settings = settings or CoreSettings()
        self.task = task or Task(self.settings, topics, Positions(0, 0, 0))

    def offer(self, role: Role, count: int) -> int:
        start = self.task.intake.position(role)
        values = self.source.of(role)[start : start + count]
        if values:
            offsets = np.arange(start, start + len(values))
            given = event_times(values) if self.stamps is None else self.stamps[role][start : start + len(values)]
            stamps = np.array(given, dtype=np.int64)
            self.task.intake.offer(
                role, decode_block(role, offsets, stamps, values, start + len(values), self.settings)
            )
        return len(values)

    def drain(self, max_records: int = 10_000) -> list[Output]:
        """Step for as long as something moves, with every input that has no more records idle."""
        out: list[Output] = []
        while True:
            idle = frozenset(role for role in Role if self.task.intake.position(role) >= len(self.source.of(role)))
            result = self.task.step(idle, max_records)
            if result is None:
                return out
            out += result.outputs

    def run(self, batch: int = 500) -> list[Output]:
        """Feed everything in batches of one size."""
        out: list[Output] = []
        while sum(self.offer(role, batch) for role in Role):
            out += self.drain()
        return out

    def restarted(self, entries: dict[str, bytes]) -> "Driver":
        """Go on with a new task restored from entries, at the positions where this one stands."""
        task = Task.restore(self.settings, TOPICS, self.task.intake.taken, entries)
        return Driver(self.source, self.settings, task, stamps=self.stamps)
