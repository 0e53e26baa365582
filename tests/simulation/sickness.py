"""A core that raises, always at the same: at some predictions, or in a model's timers from some moment on.

What the service makes of it is judged by two cores: the sick one, with the verdicts that the service recorded, must
give what came out; and a sound one must give, of all models that nothing was decided about, the same.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import orjson
import pytest

from schemas.cloudevents import Message
from service.core.intake import Role
from tests.core.raising import POISON, quiet, raise_at_poison
from tests.simulation.inputs import START_MS, Arrival
from tests.simulation.verifier import Evidence, Kinds, ViolationError, difference, read_cut


class Sickness(NamedTuple):
    """What the core raises at."""

    poisoned: frozenset[int] = frozenset()
    """Of each partition's predictions, by the place among those that arrive."""
    ticking_from_ms: Mapping[str, int] = {}
    """By model, the event time from which on its timers raise."""

    def __bool__(self) -> bool:
        return bool(self.poisoned or self.ticking_from_ms)


def draw_sickness(seed: int, partitions: int, predictions: int) -> Sickness:
    """Draw one for a seed; three in four have none."""
    rng = random.Random(f"sickness {seed}")
    if rng.random() < 0.75:
        return Sickness()
    alone = {rng.randrange(predictions) for _ in range(rng.choice((0, 1, 3)))}
    start = rng.randrange(predictions)
    in_a_row = set(range(start, start + rng.choice((0, 2, 8))))
    ticking = {
        rng.choice((f"m{partition}", f"n{partition}")): START_MS + rng.randrange(60_000)
        for partition in range(partitions)
        if rng.random() < 0.5
    }
    return Sickness(frozenset(alone | in_a_row), ticking)


def poison(records: Sequence[Arrival], sickness: Sickness) -> list[Arrival]:
    """Make of some predictions ones at which the core raises."""
    found, number = [], -1
    for record in records:
        number += record.role is Role.PREDICTIONS
        if record.role is Role.PREDICTIONS and number in sickness.poisoned and record.value is not None:
            found.append(Arrival(record.role, _poisoned(record.value)))
        else:
            found.append(record)
    return found


def _poisoned(value: bytes) -> bytes:
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
    return orjson.dumps(event | {"latency_ms": POISON}) if isinstance(event, dict) and "features" in event else value


@contextmanager
def raising(sickness: Sickness) -> Iterator[None]:
    """Let the core raise for as long as this lasts."""
    if not sickness:
        yield
        return
    with quiet(), pytest.MonkeyPatch.context() as patch:
        raise_at_poison(patch, sickness.ticking_from_ms)
        yield


def compare_others(wanted: Kinds, evidence: Evidence) -> None:
    """Check that what concerns models about which nothing was decided is, to the byte, what is wanted."""
    verdicts = [verdict for value in evidence.cuts for verdict in read_cut(value).verdicts]
    sick = {verdict.model_id for verdict in verdicts if verdict.model_id is not None}
    for name, messages, found in zip(Kinds._fields, wanted, evidence.outputs, strict=True):
        others, came = ([message for message in side if _about(message) not in sick] for side in (messages, found))
        if others != came:
            raise ViolationError(f"task {evidence.partition}: {name} of sound models: {difference(others, came)}")


def _about(message: Message) -> str | None:
    model_id: str | None = orjson.loads(message.value)["model_id"]
    return model_id
