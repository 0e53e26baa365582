"""Prints of a few kinds of versions what they are said to hold, what they take by tracemalloc, and what they are."""

import gc
import sys
import tracemalloc
from typing import Any, NamedTuple

import numpy as np

from service.core.memory import held_bytes
from service.core.settings import CoreSettings, ModelProfile
from tests.core.stream import Driver, Source, label, prediction


class Kind(NamedTuple):
    """What the events of a version are like."""

    events: int
    numbers: int = 0
    texts: int = 0
    categories: int = 0
    classes: int = 2
    dimension: int = 0
    segments: int = 0


KINDS = (
    Kind(400),
    Kind(3_000, numbers=3),
    Kind(1_200, numbers=300),
    Kind(2_000, numbers=20, texts=20, categories=30),
    Kind(1_200, texts=100, categories=100),
    Kind(2_000, numbers=3, classes=10),
    Kind(2_000, numbers=3, dimension=64, segments=5),
)


def event(number: int, kind: Kind, rng: np.random.Generator) -> bytes:
    values = rng.normal(size=kind.numbers).tolist()
    features: dict[str, Any] = {f"n{place}": value for place, value in enumerate(values)}
    if kind.texts:
        codes = rng.integers(0, kind.categories, kind.texts).tolist()
        features |= {f"t{place}": f"c{code}" for place, code in enumerate(codes)}
    more: dict[str, Any] = {}
    if kind.classes > 2:
        more["probabilities"] = {f"k{code}": 1 / kind.classes for code in range(kind.classes)}
    if kind.dimension:
        more["embeddings"] = {"text": rng.normal(size=kind.dimension).tolist()}
    if kind.segments:
        more["segments"] = {"country": f"s{number % kind.segments}"}
    return prediction(number, f"k{number % kind.classes}", features=features, latency_ms=5.0, **more)


def measure(kind: Kind) -> tuple[int, int]:
    rng = np.random.default_rng(1)
    settings = CoreSettings(default=ModelProfile(segments=("country",) if kind.segments else ()))
    driver = Driver(Source([], [], []), settings)
    for first in range(0, kind.events, 200):
        numbers = range(first, first + 200)
        # What was taken is not needed any more: only places in the log count.
        taken = [b""] * first
        events = [event(number, kind, rng) for number in numbers]
        driver.source = Source([], taken + events, taken + [label(number, "k1") for number in numbers])
        driver.run(200)
    driver.source = Source([], [], [])
    model = driver.task.models["m"]
    said = held_bytes(model.versions["1"])
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    model.versions.clear()
    gc.collect()
    return said, before - tracemalloc.get_traced_memory()[0]


if __name__ == "__main__":
    tracemalloc.start()
    for kind in KINDS:
        sys.stdout.write(" ".join(map(str, (*measure(kind), kind))) + "\n")
