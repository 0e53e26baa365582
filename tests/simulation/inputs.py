"""Seeded inputs with everything that real ones have: drift, late and early labels, duplicates, corrections, rubbish."""

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from service.core.intake import Role

START_MS = 1_790_000_000_000
EVENT_EVERY_MS = 400
"""Event time between two predictions of a partition."""

RUBBISH = (None, b"", b"{", b"[1, 2]", b"\xff\xfe", b'{"prediction_id": 7}', b'{"event_time_ms": NaN}')


class Arrival(NamedTuple):
    """One record on its way to an input topic."""

    role: Role
    value: bytes | None


Kind = Callable[[random.Random, float], tuple[Any, dict[str, Any]]]
"""Gives the truth of a prediction, and the fields of its answer, which is wrong with the given probability."""


def _binary(rng: random.Random, wrong: float) -> tuple[Any, dict[str, Any]]:
    truth = rng.random() < 0.5
    answer = truth ^ (rng.random() < wrong)
    return truth, {"prediction": answer, "score": 0.8 if answer else 0.25}


def _classes(rng: random.Random, wrong: float) -> tuple[Any, dict[str, Any]]:
    colours = ("red", "green", "blue", f"shade {rng.randint(0, 30)}")
    truth = rng.choice(colours)
    answer = rng.choice(colours) if rng.random() < wrong else truth
    return truth, {"prediction": answer, "probabilities": {answer: 0.75, "red" if answer != "red" else "green": 0.25}}


def _number(rng: random.Random, wrong: float) -> tuple[Any, dict[str, Any]]:
    truth = rng.gauss(10.0, 2.0)
    return truth, {"prediction": truth + rng.gauss(5.0 if rng.random() < wrong else 0.0, 0.5)}


KINDS: tuple[Kind, ...] = (_binary, _classes, _number)


def arrivals(rng: random.Random, partition: int, count: int, first: int = 0, kind: Kind | None = None) -> list[Arrival]:
    """Give `count` predictions of a partition with labels, commands and rubbish, in the order in which they arrive.

    `first`: number of the first prediction. `kind`: what the models answer; drawn where it is not given.
    """
    kind = kind or rng.choice(KINDS)
    end = first + count
    keyed = [
        entry
        for number in range(first, end)
        for entry in _prediction_and_label(rng, partition, number, (number - first) / count, kind)
    ]
    rubbish = [Arrival(rng.choice(list(Role)), rng.choice(RUBBISH)) for _ in range(count // 25)]
    keyed += [(rng.uniform(first, end), arrival) for arrival in rubbish]
    keyed += [
        (at, command(rng, f"m{partition}", at)) for at in (rng.uniform(first, end) for _ in range(rng.randint(0, 3)))
    ]
    keyed = _delayed(rng, keyed, first)
    keyed.sort(key=lambda entry: entry[0])
    return [arrival for _, arrival in keyed]


def _delayed(rng: random.Random, keyed: list[tuple[float, Arrival]], first: int) -> list[tuple[float, Arrival]]:
    """Let one topic fall behind the other now and then: then the order in which they are taken is not that of time."""
    spans = [max(int(key - first), 0) // 20 for key, _ in keyed]
    lags = {role: [rng.choice((0, 3, 10, 25)) for _ in range(max(spans) + 1)] for role in Role}
    return [(key + lags[arrival.role][span], arrival) for (key, arrival), span in zip(keyed, spans, strict=True)]


def _prediction_and_label(
    rng: random.Random, partition: int, number: int, progress: float, kind: Kind
) -> list[tuple[float, Arrival]]:
    truth, answer = kind(rng, 0.55 if 0.45 < progress < 0.8 else 0.08)
    # One in eight is late; one in a hundred is from so far in the future that it is refused.
    late_ms = rng.choice((0, 0, 0, 0, 0, 0, 0, 5_000)) if rng.random() > 0.01 else -(10**8)
    event = {
        "prediction_id": f"p{number}",
        "model_id": f"m{partition}" if rng.random() < 0.9 else f"n{partition}",
        "model_version": "2" if progress > 0.5 + 0.4 * rng.random() else "1",  # rolled out step by step
        "event_time_ms": time_of(number) - late_ms,
        "features": {"x": rng.gauss(2.0 if 0.45 < progress < 0.8 else 0.0, 1.0), "kind": rng.choice("abc")},
        "segments": {"country": rng.choice(("DE", "FR"))},
        "latency_ms": rng.uniform(1, 30),
        **(answer if rng.random() < 0.97 else {"error": True}),
    }
    entries = [(number + rng.uniform(0, 3), Arrival(Role.PREDICTIONS, orjson.dumps(event)))]
    if rng.random() < 0.04:
        entries.append((number + rng.uniform(0, 12), entries[0][1]))
    if rng.random() < 0.93:
        entries += _labels(rng, event, number, truth)
    return entries


def _labels(rng: random.Random, event: dict[str, Any], number: int, truth: Any) -> list[tuple[float, Arrival]]:
    # A label may come before its prediction, long after it, twice, or again with another answer.
    delay = rng.choice((-4.0, 1.0, 8.0, 30.0))
    said = {
        "prediction_id": event["prediction_id"],
        "model_id": event["model_id"],
        "label": truth,
        "event_time_ms": max(time_of(number + delay), START_MS),
    }
    entries = [(number + delay + rng.uniform(0, 2), Arrival(Role.LABELS, orjson.dumps(said)))]
    if rng.random() < 0.04:
        entries.append((number + delay + 10, entries[0][1]))
    if rng.random() < 0.04:
        corrected = said | {"label": rng.choice((truth, True, "red", 0.5)), "revision": 1}
        entries.append((number + delay + 15, Arrival(Role.LABELS, orjson.dumps(corrected))))
    return entries


def command(rng: random.Random, model_id: str, at: float) -> Arrival:
    """Give a command of any kind."""
    common = {"model_id": model_id, "event_time_ms": time_of(at)}
    return Arrival(
        Role.CONTROL,
        orjson.dumps(
            common
            | rng.choice(
                (
                    {"type": "fine_tune", "mode": "stateless"},
                    {"type": "reset_monitor"},
                    {"type": "accept_reference"},
                    {"type": "version_deployed", "model_version": "1"},
                    {"type": "fine_tune_status", "trigger_id": "unheard-of", "status": "running"},
                )
            )
        ),
    )


def time_of(number: float) -> int:
    """Say when the prediction of this number was made."""
    return START_MS + int(number * EVENT_EVERY_MS)
