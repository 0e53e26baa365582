"""A service over data at every extreme: `python -W error -m tests.runtime.odd_data` ends with 0 and says nothing.

Models differ in what is odd about them: constants, one class, nothing but missing values, numbers at the ends of what a
float holds, losses that overflow, windows without an outcome, embeddings of zeros, scores of 0 and 1.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any

from schemas.outputs import Alert
from service.config import Config
from service.core.settings import (
    CoreSettings,
    FeatureDriftSettings,
    ModelProfile,
    PerformanceSettings,
    WindowSettings,
)
from service.eventlog.memory import MemoryLog
from service.runtime.topics import prepare_topics
from tests.core.stream import START_MS, Source, label, prediction
from tests.runtime.service import consumed, fast, outputs_of, publish, running

BIG = (1.7e308, -1.7e308, 1e308, 5e-324, -5e-324, 0.0, 1e-308, 1e200, -1e200, 1.0)
COUNT = 1200
Odd = dict[str, Any]
"""Fields of a prediction, and `truth` for its label."""

MODELS: dict[str, Callable[[int, random.Random], Odd]] = {
    "constant": lambda *_: {"prediction": 1.0, "truth": 1.0, "features": {"x": 7.0, "y": "a"}, "latency_ms": 0.0},
    "zeros": lambda *_: {"prediction": 0.0, "truth": 0.0, "features": {"x": 0, "y": None}},
    "one class": lambda _, chance: {
        "prediction": "yes",
        "truth": "yes",
        "score": 1.0,
        "features": {"x": chance.random()},
    },
    "certain": lambda _, chance: {
        "prediction": chance.choice("ab"),
        "truth": chance.choice("ab"),
        "score": chance.choice([0.0, 1.0]),
    },
    "probable": lambda row, chance: {
        "prediction": (said := chance.choice("abc")),
        "truth": chance.choice("abcd"),
        "probabilities": {name: float(name == said) for name in "abc"}
        if row % 3
        else {"a": 5e-324, "b": 0.0, "c": 0.0},
    },
    "big": lambda _, chance: {
        "prediction": chance.choice(BIG),
        "truth": chance.choice(BIG),
        "features": {name: chance.choice(BIG) for name in "xyz"},
        "latency_ms": chance.choice([0.0, 5e-324, 1e308]),
    },
    "bigger": lambda row, chance: {
        "prediction": chance.choice("ab"),
        "truth": chance.choice("ab"),
        "features": {"x": chance.gauss(0, 1) if row < 600 else chance.choice(BIG), "c": 3.0 if row < 600 else -1.7e308},
    },
    "tiny": lambda _, chance: {"prediction": chance.random() * 1e-320, "truth": 0.0, "features": {"x": 5e-324}},
    "unlabelled": lambda _, chance: {"prediction": chance.choice("ab"), "score": 0.5},
    "failing": lambda *_: {"error": True, "latency_ms": 1.0},
    "vectors": lambda row, chance: {
        "prediction": "a",
        "truth": "a",
        "embeddings": {"e": [0.0] * 4 if row % 2 else [chance.choice((3e38, -3e38, 1e-45, 0.0)) for _ in range(4)]},
    },
    "gone": lambda row, _: {
        "prediction": "a",
        "truth": "b",
        "features": {"x": row % 5, "y": "z"} if row < 500 else None,
    },
}


def source() -> Source:
    """Give the records of all models, in turn."""
    chance = random.Random(5)
    predictions, labels, number = [], [], 0
    for row in range(COUNT):
        for model, make in MODELS.items():
            fields, at_ms = make(row, chance), START_MS + row * 100
            truth = fields.pop("truth", None)
            said = fields.pop("prediction", None)
            predictions.append(prediction(number, said, model=model, event_time_ms=at_ms, **fields))
            if truth is not None:
                labels.append(label(number, truth, model=model, event_time_ms=at_ms + 700))
            number += 1
    return Source([], predictions, labels)


PROFILE = ModelProfile(
    snapshot_interval_ms=5000,
    feature_drift=FeatureDriftSettings(reference_events=200, block_events=50),
    performance=PerformanceSettings(windows=(WindowSettings(last=100), WindowSettings(duration_ms=1000))),
)


async def main() -> None:
    """Run the service over it. Raises AssertionError where a model was kept away from the rest."""
    log, config = MemoryLog(), fast(Config(core=CoreSettings(default=PROFILE)))
    await prepare_topics(log, config.topics, config.core)
    await publish(log, config, source())
    async with running(log, config) as worker:
        await consumed(log, config, worker, timeout_s=300.0)
        watched = {total.model_id for total in worker.stats[0].totals()}
    alerts = [output for output, _ in await outputs_of(log, [config.topics.alerts]) if isinstance(output, Alert)]
    assert alerts
    assert not [alert for alert in alerts if alert.alertname == "ModelQuarantined"]
    letters = [output for output, _ in await outputs_of(log, [config.topics.dead_letters])]
    assert not letters, letters[0]
    assert watched == set(MODELS)


if __name__ == "__main__":
    asyncio.run(main())
