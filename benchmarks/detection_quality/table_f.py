"""Table F: false incidents of a model with 5, 50 and 500 features, at the same budget."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection_quality.running import side_by_side
from detectors.calibration import FIXED, thresholds
from detectors.distances import distance
from detectors.feature_drift import FeatureDriftTest
from detectors.histogram import Counts, ReferenceHistogram

TITLE = "F. False incidents with 5, 50 and 500 features at one budget"
FEATURES = (5, 50, 500)
REFERENCE = 1_000
BLOCK = 200
BUDGET = 20_000.0
"""One false incident in 20,000 events: 100 blocks."""
EVENTS = {5: 2_000_000, 50: 1_000_000, 500: 200_000}
REFERENCES = 5
"""The events are spread over so many references: one unlucky reference would decide everything."""
SHIFTS = (0.2, 0.5, 1.0)
DELAY_RUNS = 20
DELAY_BLOCKS = 50
SEED = 606

Marks = NDArray[np.bool_]
Watch = Callable[[Counts], Marks]


class Way(NamedTuple):
    """A way of watching features: given a reference, it marks the features that drift in each block."""

    label: str
    make: Callable[[ReferenceHistogram], Watch]


def together(reference: ReferenceHistogram) -> Watch:
    """Ours: e-detectors, one budget for all features by e-BH. A found feature begins anew."""
    test = FeatureDriftTest(reference, expected_events_between_false_incidents=BUDGET, block_events=BLOCK)

    def watch(counts: Counts) -> Marks:
        drifted = test.update(counts).drifted
        if drifted.any():
            test.restart(np.ones(len(drifted), dtype=np.bool_))
        return drifted

    return watch


def tested(alpha: Callable[[int], float]) -> Callable[[ReferenceHistogram], Watch]:
    """A two-sample test of each feature in each block, as batch monitors do: Kolmogorov-Smirnov on the bins."""

    def make(reference: ReferenceHistogram) -> Watch:
        level = alpha(len(reference.counts))

        def watch(counts: Counts) -> Marks:
            limits = thresholds("ks", reference.counts, counts, reference, level)
            return np.asarray(distance("ks", reference.counts, counts, reference) >= limits)

        return watch

    return make


def fixed(reference: ReferenceHistogram) -> Watch:
    """Compare the population stability index with the customary limit, .1."""
    limit = FIXED["psi"][0]
    return lambda counts: np.asarray(distance("psi", reference.counts, counts, reference) >= limit)


WAYS = [
    Way("ours: e-detectors with e-BH, one budget", together),
    Way("KS, each feature at 5 % a block", tested(lambda features: 0.05)),  # noqa: ARG005 - it does not correct
    Way("KS, Bonferroni: 1 % of blocks for all features", tested(lambda features: BLOCK / BUDGET / features)),
    Way("PSI above .1", fixed),
]


def measure(*, quick: bool = False, scale: float = 1.0) -> dict[str, Any]:
    """Count incidents on stable features, and the delay when one of them shifts."""
    jobs = [(place, features) for place in range(len(WAYS)) for features in FEATURES]
    found = side_by_side(functools.partial(_measured, scale=0.02 if quick else scale), jobs)
    rows: list[dict[str, Any]] = [{"way": way.label, "cells": {}} for way in WAYS]
    for (place, features), cell in zip(jobs, found, strict=True):
        rows[place]["cells"][str(features)] = cell
    return {"title": TITLE, "rows": rows}


def _measured(job: tuple[int, int], *, scale: float) -> dict[str, Any]:
    place, features = job
    way = WAYS[place]
    blocks = max(2, round(EVENTS[features] * scale) // REFERENCES // BLOCK)
    incidents = sum(_incidents(way, features, blocks, number) for number in range(REFERENCES))
    runs = max(3, round(DELAY_RUNS * scale))
    delays = {str(shift): _delay(way, features, shift, runs) for shift in SHIFTS}
    return {"events": blocks * REFERENCES * BLOCK, "incidents": incidents, "delays": delays}


def _incidents(way: Way, features: int, blocks: int, number: int) -> int:
    """Count blocks with at least one feature that drifts; nothing does."""
    rng = np.random.default_rng([SEED, features, number])
    reference = ReferenceHistogram.from_sample(_drawn(rng, REFERENCE, features))
    watch = way.make(reference)
    return sum(bool(watch(reference.count(_drawn(rng, BLOCK, features))).any()) for _ in range(blocks))


def _delay(way: Way, features: int, shift: float, runs: int) -> float:
    """Give the median number of events until the one feature that shifts is marked, after 10 stable blocks."""
    delays = []
    for number in range(runs):
        rng = np.random.default_rng([SEED, features, 1_000 + number])
        reference = ReferenceHistogram.from_sample(_drawn(rng, REFERENCE, features))
        watch = way.make(reference)
        for _ in range(10):
            watch(reference.count(_drawn(rng, BLOCK, features)))
        delays.append(_first(watch, reference, rng, shift) * BLOCK)
    return float(np.median(delays))


def _first(watch: Watch, reference: ReferenceHistogram, rng: np.random.Generator, shift: float) -> float:
    features = len(reference.counts)
    for block in range(1, DELAY_BLOCKS + 1):
        values = _drawn(rng, BLOCK, features)
        values[:, 0] += shift
        if watch(reference.count(values))[0]:
            return block
    return float("inf")


def _drawn(rng: np.random.Generator, events: int, features: int) -> NDArray[np.float64]:
    """Draw normal features of which any two are correlated by .3: a common factor."""
    common = rng.normal(size=(events, 1))
    return np.asarray(np.sqrt(0.3) * common + np.sqrt(0.7) * rng.normal(size=(events, features)))


def markdown(table: dict[str, Any]) -> str:
    """Write the table."""
    about = (
        f"Normal features, any two correlated by .3, a reference of {REFERENCE:,} events ({REFERENCES} of "
        f"them), blocks of {BLOCK}. The budget is one false incident in {BUDGET:,.0f} events for the whole model, "
        "whatever the number of its features. Incidents: blocks in which any feature is said to drift; none does. "
        "Delay: events until the one feature whose mean shifts by so many deviations is named (median; `>` "
        f"{DELAY_BLOCKS * BLOCK:,} where most were not)."
    )
    lines = [
        about,
        "",
        "| way | features | events | false incidents | events between them | "
        + " | ".join(f"delay, {shift:g}" for shift in SHIFTS)
        + " |",
        "|---|---|---|---|---|" + "---|" * len(SHIFTS),
    ]
    for row in table["rows"]:
        for features, cell in row["cells"].items():
            between = f"{cell['events'] / cell['incidents']:,.0f}" if cell["incidents"] else f"> {cell['events']:,}"
            delays = " | ".join(_number(cell["delays"][str(shift)]) for shift in SHIFTS)
            lines.append(
                f"| {row['way']} | {features} | {cell['events']:,} | {cell['incidents']:,} | {between} | {delays} |"
            )
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return f"{value:,.0f}" if value is not None else f"> {DELAY_BLOCKS * BLOCK:,}"
