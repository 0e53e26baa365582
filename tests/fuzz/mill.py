"""Makes broken records out of whole ones, thousands at a time."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from service.core.intake import Role

Int = np.ndarray[Any, np.dtype[np.int64]]

ID, TIME_MS = "@id@", 987654321
"""Where a whole record's running number and event time go."""

MODELS = ("m", "n", "x/outcomes/all/y", "a/parts/0", "a", "../..", "\u202e", "(all)", "m\n", "ß" * 100)
"""Names that must not pass for anything else, in state, in headers, in metrics."""

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 0.1, 1e308, 1e-320, -0.0, float("nan"),
    float("inf"), 7.0, 1_790_000_000, 1_790_000_000_000.0, 1.79e15, "2026-09-21T10:00:00Z", "2026-02-30T10:00:00Z",
    "2026-09-21T10:00:00", "9999-12-31T23:59:59.999-23:59", "", "a", "1", "true", "null", "\u0000", "\ud7ff", "é" * 300,
    "x" * 5000, [], [1], [[]], {}, {"": ""},
    {"a": None}, {"a": [1]}, {"a": {"b": 1}}, {f"f{number}": number for number in range(300)},
)  # fmt: skip

TOKENS = (
    b"NaN", b"-Infinity", b"1e999", b"null", b"true", b"[", b"]", b"{", b"}", b'"', b"\\", b"\\u0000", b"\\ud800",
    b"\\udc00", b"\xff", b"\xc0\x80", b"\xef\xbb\xbf", b",", b":", b"0", b"-", b".", b"e", b"//", b"\x00", b"\n" * 50,
    b'"model_id":', b'"features":{', b"9" * 40,
)  # fmt: skip

MONSTERS: tuple[bytes | None, ...] = (
    None, b"", b" ", b"null", b"0", b'""', b"[]", b"{}", b"[" * 5000, b'{"a":' * 3000, b"[" * 200 + b"]" * 200,
    b'{"features":' + b"[" * 5000, b'"' + b"\\" * 9999, b"\xff" * 1000, b"{" + b'"a":1,' * 3000 + b'"a":1}',
    b'{"model_id":"m","prediction_id":"' + b"y" * 70_000 + b'"}', b"1" * 9000, b"-" * 100, b"tru", b"\xef\xbb\xbf{}",
)  # fmt: skip


class Shares(NamedTuple):
    """How many of a hundred records are whole, and how the others are broken."""

    whole: int = 30
    odd_field: int = 22
    flipped: int = 18
    cut: int = 10
    spliced: int = 10
    inserted: int = 8
    monster: int = 2


class Mill:
    """Endless records of the three inputs, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._rng = np.random.default_rng(seed)
        self._whole = {role: [_template(event) for event in events(self._random)] for role, events in WHOLE.items()}
        self._odd = {role: [_template(event) for event in odd(self._random, events)] for role, events in WHOLE.items()}
        weights = np.array(Shares(), dtype=np.float64)
        self._weights = weights / weights.sum()
        self._next = 0

    def records(self, role: Role, count: int, now_ms: int) -> list[bytes | None]:
        """Give records whose whole ones happen about now."""
        kinds = self._rng.choice(len(Shares._fields), count, p=self._weights)
        odd_field = Shares._fields.index("odd_field")
        values: list[bytes | None] = list(self._filled(self._whole[role], count, now_ms))
        for place, value in self._replaced(kinds == odd_field, self._odd[role], now_ms):
            values[place] = value
        for name, breaker in BREAKERS.items():
            places = np.flatnonzero(kinds == Shares._fields.index(name)).tolist()
            broken = breaker(self._rng, [values[place] or b"" for place in places])
            for place, value in zip(places, broken, strict=True):
                values[place] = value
        return values

    def _filled(self, templates: Sequence[bytes], count: int, now_ms: int) -> list[bytes]:
        first, self._next = self._next, self._next + count
        which = self._rng.integers(len(templates), size=count).tolist()
        # A label is for one of the last few hundred predictions, a prediction now and then for an id that was there.
        numbers = (np.arange(first, first + count) - self._rng.integers(0, 300, count)).tolist()
        times = (now_ms + self._rng.integers(-5000, 5000, count)).tolist()
        return [
            templates[at].replace(b"@id@", b"%d" % number).replace(b"987654321", b"%d" % time_ms)
            for at, number, time_ms in zip(which, numbers, times, strict=True)
        ]

    def _replaced(
        self, mask: np.ndarray[Any, np.dtype[np.bool_]], templates: Sequence[bytes], now_ms: int
    ) -> list[tuple[int, bytes]]:
        places = np.flatnonzero(mask).tolist()
        return list(zip(places, self._filled(templates, len(places), now_ms), strict=True))


def _template(event: Any) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode(errors="surrogatepass")


def predictions(rng: random.Random) -> list[dict[str, Any]]:
    return [
        {
            "prediction_id": ID,
            "model_id": rng.choice(MODELS),
            "model_version": rng.choice("12"),
            "event_time_ms": TIME_MS,
            "prediction": rng.choice((True, False, "red", "green", 1, 2.5)),
            "features": {"x": rng.random(), "kind": rng.choice("abc"), "gone": None},
            "segments": {"country": rng.choice(("DE", "FR"))},
            "latency_ms": rng.uniform(1, 30),
            **rng.choice(({}, {"score": 0.75}, {"probabilities": {"red": 0.5, "green": 0.5}}, {"row_id": "r"})),
        }
        for _ in range(200)
    ]


def labels(rng: random.Random) -> list[dict[str, Any]]:
    return [
        {
            "prediction_id": ID,
            "model_id": rng.choice(MODELS),
            "label": rng.choice((True, False, "red", "green", 1, 2.5)),
            "event_time_ms": TIME_MS,
            **rng.choice(({}, {}, {"revision": 1}, {"row_id": "r"})),
        }
        for _ in range(200)
    ]


def controls(rng: random.Random) -> list[dict[str, Any]]:
    kinds: tuple[dict[str, Any], ...] = (
        {"type": "fine_tune", "mode": "stateless", "reason": "r"},
        {"type": "reset_monitor"},
        {"type": "accept_reference"},
        {"type": "mute_alert", "fingerprint": "f", "mute_for_ms": 1000},
        {"type": "version_deployed", "model_version": "2"},
        {"type": "fine_tune_status", "trigger_id": "t", "status": "completed", "model_version": "2"},
    )
    return [{"model_id": rng.choice(MODELS), "event_time_ms": TIME_MS} | rng.choice(kinds) for _ in range(50)]


WHOLE: dict[Role, Callable[[random.Random], list[dict[str, Any]]]] = {
    Role.CONTROL: controls,
    Role.PREDICTIONS: predictions,
    Role.LABELS: labels,
}


def odd(rng: random.Random, whole: Callable[[random.Random], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Give records of which one field has another type, another size, or is gone."""
    changed = []
    for event in whole(rng) * 5:
        field = rng.choice(list(event))
        value = rng.choice(ODD_VALUES)
        changed.append({name: old for name, old in event.items() if name != field or rng.random() < 0.8})
        if field in changed[-1]:
            changed[-1][field] = value
    return changed


def flipped(rng: np.random.Generator, values: list[bytes]) -> list[bytes]:
    """Change one byte in about fifty, at least one, in all records at once."""
    lengths = np.array([len(value) for value in values], dtype=np.int64)
    ends = np.cumsum(lengths)
    joined = np.frombuffer(bytearray(b"".join(values)), dtype=np.uint8)
    hits = np.repeat(np.arange(len(values)), np.maximum(lengths // 50, 1))
    hits = hits[lengths[hits] > 0]
    at = ends[hits] - 1 - (rng.random(len(hits)) * lengths[hits]).astype(np.int64)
    joined[at] ^= rng.integers(1, 256, len(at), dtype=np.uint8)
    whole = joined.tobytes()
    return [whole[end - length : end] for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]


def cut(rng: np.random.Generator, values: list[bytes]) -> list[bytes]:
    """Drop the end, or the beginning."""
    shares = rng.random(len(values)).tolist()
    return [
        value[: int(2 * share * len(value))] if share < 0.5 else value[int((2 * share - 1) * len(value)) :]
        for value, share in zip(values, shares, strict=True)
    ]


def spliced(rng: np.random.Generator, values: list[bytes]) -> list[bytes]:
    """Go over into the next record somewhere."""
    shares = rng.random((len(values), 2)).tolist()
    return [
        one[: int(first * len(one))] + other[int(second * len(other)) :]
        for one, other, (first, second) in zip(values, values[1:] + values[:1], shares, strict=True)
    ]


def inserted(rng: np.random.Generator, values: list[bytes]) -> list[bytes]:
    """Put something in that means something."""
    shares = rng.random(len(values)).tolist()
    which = rng.integers(len(TOKENS), size=len(values)).tolist()
    return [
        value[: int(share * len(value))] + TOKENS[token] + value[int(share * len(value)) :]
        for value, share, token in zip(values, shares, which, strict=True)
    ]


def monsters(rng: np.random.Generator, values: list[bytes]) -> list[bytes | None]:
    """Forget the record."""
    return [MONSTERS[at] for at in rng.integers(len(MONSTERS), size=len(values)).tolist()]


BREAKERS: dict[str, Callable[[np.random.Generator, list[bytes]], Sequence[bytes | None]]] = {
    "flipped": flipped,
    "cut": cut,
    "spliced": spliced,
    "inserted": inserted,
    "monster": monsters,
}
