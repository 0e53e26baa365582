"""The records that every figure speaks of: 850-byte predictions of 20 features, and labels 1,000 events behind them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import orjson

START_MS = 1_700_000_000_000
"""In the past, because the service refuses events from the future."""
LABEL_DELAY = 1_000
"""Predictions between a prediction and its label."""
FEATURES = 20
CATEGORIES = ("card", "transfer", "cash", "cheque")
COUNTRIES = ("DE", "FR", "NL", "PL", "AT", "IT", "ES", "PT")


class Workload(NamedTuple):
    """What a stream is made of."""

    models: int = 1
    categorical: int = 2
    """How many of the features are text."""
    events_per_second: int = 1_000
    """In event time, all models together: it says how often timers fire."""
    error_rate: float = 0.1
    seed: int = 1


class Slice(NamedTuple):
    """Consecutive records of the two inputs."""

    predictions: list[bytes]
    labels: list[bytes]


def slices(workload: Workload, size: int) -> Iterator[Slice]:
    """Give an endless stream, `size` predictions at a time, with the labels that fall due beside them."""
    rng = np.random.default_rng(workload.seed)
    start = 0
    waiting: list[bytes] = []
    while True:
        numbers = range(start, start + size)
        truth = rng.random(size) < 0.5
        answers = truth ^ (rng.random(size) < workload.error_rate)
        scores = np.where(answers, rng.uniform(0.5, 1.0, size), rng.uniform(0.0, 0.5, size))
        columns = _features(rng, size, workload.categorical)
        predictions = [
            _prediction(number, workload, bool(answer), score, dict(zip(columns, row, strict=True)))
            for number, answer, score, row in zip(
                numbers, answers, scores.tolist(), zip(*columns.values(), strict=True), strict=True
            )
        ]
        waiting += [_label(number, workload, bool(actual)) for number, actual in zip(numbers, truth, strict=True)]
        due = max(0, start + size - LABEL_DELAY) - max(0, start - LABEL_DELAY)
        yield Slice(predictions, waiting[:due])
        del waiting[:due]
        start += size


def _features(rng: np.random.Generator, size: int, categorical: int) -> dict[str, list[float] | list[str]]:
    """Give the columns of the features. Numbers have 16 or 17 digits, as computed ones do."""
    columns: dict[str, list[float] | list[str]] = {}
    for number in range(FEATURES - categorical):
        columns[f"feature_{number:02d}"] = rng.normal(size=size).tolist()
    for number in range(categorical):
        names = (CATEGORIES, COUNTRIES)[number % 2]
        columns[f"category_{number:02d}"] = [names[code] for code in rng.integers(0, len(names), size).tolist()]
    return columns


def time_ms(number: int, workload: Workload) -> int:
    """Say when a prediction was made, in event time."""
    return START_MS + number * 1_000 // workload.events_per_second


def _prediction(number: int, workload: Workload, answer: bool, score: float, features: dict[str, float | str]) -> bytes:
    return orjson.dumps(
        {
            "prediction_id": f"3f2c9a41-7d5e-4b0a-a83c-{number:012d}",
            "model_id": f"fraud-scorer-{number % workload.models:05d}",
            "model_version": "2026-05-01.3",
            "event_time_ms": time_ms(number, workload),
            "prediction": answer,
            "score": score,
            "latency_ms": 4.0 + number % 17 / 4,
            "features": features,
        }
    )


def _label(number: int, workload: Workload, actual: bool) -> bytes:
    return orjson.dumps(
        {
            "prediction_id": f"3f2c9a41-7d5e-4b0a-a83c-{number:012d}",
            "model_id": f"fraud-scorer-{number % workload.models:05d}",
            "event_time_ms": time_ms(number + LABEL_DELAY, workload),
            "label": actual,
        }
    )
