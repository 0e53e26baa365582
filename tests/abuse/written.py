"""What a producer writes: records, and the events in them."""

import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from service.core.partitioning import partition_for
from service.runtime.settings import TOPIC_FIELDS, TopicSettings

PARTITIONS: Final = 6
COUNT: Final = 40
"""Predictions of each model, each with its label."""

TOPICS: Final = TopicSettings(partitions=PARTITIONS, **{field: f"abuse.{field}" for field in TOPIC_FIELDS})
BEGAN_MS: Final = time.time_ns() // 1_000_000 - 600_000


class Written(NamedTuple):
    """A record for a producer."""

    topic: str
    key: bytes | None
    value: Any
    """As JSON; bytes are written as they are, None is a tombstone."""
    headers: list[tuple[str, bytes | None]] | None = None
    timestamp_ms: int | None = None
    """None: the client stamps it with the moment of writing."""


def prediction(model_id: str | int, number: int, **fields: Any) -> dict[str, Any]:
    """Give a prediction; `...` leaves a field out."""
    event = {
        "prediction_id": f"p{number}",
        "model_id": model_id,
        "model_version": "1",
        "event_time_ms": BEGAN_MS + number * 100,
        "prediction": "stays" if number % 3 else "leaves",
        "features": {"fee": number * 1.5, "plan": "basic"},
    }
    return {name: value for name, value in (event | fields).items() if value is not ...}


def label(model_id: str | int, number: int, **fields: Any) -> dict[str, Any]:
    """Give its label."""
    event = {
        "prediction_id": f"p{number}",
        "model_id": model_id,
        "event_time_ms": BEGAN_MS + number * 100 + 50,
        "label": "stays" if number % 2 else "leaves",
    }
    return {name: value for name, value in (event | fields).items() if value is not ...}


def good(model_id: str, key: bytes | None = None) -> Iterator[Written]:
    """Give what a model's producers should write."""
    key = model_id.encode() if key is None else key
    for number in range(COUNT):
        yield Written(TOPICS.predictions, key, prediction(model_id, number))
        yield Written(TOPICS.labels, key, label(model_id, number))


def beside(prefix: str, model_id: str) -> str:
    """Give a name that lies in the partition of another model."""
    return next(name for name in _names(prefix) if _partition(name) == _partition(model_id))


def elsewhere(prefix: str, *model_ids: str) -> str:
    """Give a name that lies in the partition of none of these models."""
    taken = {_partition(model_id) for model_id in model_ids}
    return next(name for name in _names(prefix) if _partition(name) not in taken)


def _names(prefix: str) -> Iterator[str]:
    return (f"{prefix}-{number}" for number in range(1_000))


def _partition(model_id: str) -> int:
    return partition_for(model_id.encode(), PARTITIONS)
