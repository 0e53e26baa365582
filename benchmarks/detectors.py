"""What a value costs in each detector: processor time in columns, which a busy machine stretches less than the clock.

`docs/detectors.md` has these figures. Errors at .1 without any change, in columns of 20,000; the best of three rounds.
"""

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from detectors.feature_drift import FeatureDriftTest
from detectors.histogram import ReferenceHistogram
from detectors.protocol import Level, Values
from detectors.registry import make, names

COLUMN = 20_000
COLUMNS = 10
ROUNDS = 3
FEATURES, BLOCK = 50, 200


def run(scale: float = 1.0) -> list[dict[str, object]]:
    """Give the microseconds a value of every registered detector, and of a feature in the test of many."""
    columns = max(1, round(COLUMNS * scale))
    values = (np.random.default_rng(1).random(columns * COLUMN) < 0.1).astype(np.float64)
    found: dict[str, object] = {}
    for name in names():
        found[name] = round(_best(partial(_feed_new, name, values)) / len(values), 3)
    blocks = columns * 20
    found["FeatureDriftTest"] = round(_best(partial(_features, blocks)) / (blocks * BLOCK * FEATURES), 3)
    return [{"us_a_value": found}]


def _best(call: Callable[[], object]) -> float:
    """Give the fewest microseconds of processor time that a call took."""
    spent = []
    for _ in range(ROUNDS):
        began = time.process_time()
        call()
        spent.append(time.process_time() - began)
    return min(spent) * 1e6


def _feed_new(name: str, values: Values) -> None:
    detector = make(name)
    for start in range(0, len(values), COLUMN):
        column, taken = values[start : start + COLUMN], 0
        while taken < len(column):
            progress = detector.update_many(column[taken:])
            taken += progress.consumed
            if progress.level is Level.DRIFT:
                detector.rebase()


def _features(blocks: int) -> None:
    rng = np.random.default_rng(2)
    reference = ReferenceHistogram.from_sample(rng.normal(size=(1_000, FEATURES)))
    test = FeatureDriftTest(reference, block_events=BLOCK)
    rows = rng.normal(size=(BLOCK, FEATURES))
    for _ in range(blocks):
        test.update(reference.count(rows))
