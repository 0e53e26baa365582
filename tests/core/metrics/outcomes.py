"""Outcomes for the tests of metrics, and the columns of a window made directly."""

import numpy as np

from service.core.columns import Float, Outcomes
from service.core.metrics import WindowColumns


def columns(actual, predicted, score=None, weight=None, probabilities=None) -> WindowColumns:
    """Make the columns of a window of n outcomes, one a millisecond."""
    n = len(actual)
    number = np.arange(n, dtype=np.int64)
    return WindowColumns(
        number=number,
        watermark_ms=1_000 + number,
        actual=np.asarray(actual, dtype=np.float64),
        predicted=np.asarray(predicted, dtype=np.float64),
        score=np.full(n, np.nan) if score is None else np.asarray(score, dtype=np.float64),
        weight=np.ones(n) if weight is None else np.asarray(weight, dtype=np.float64),
        loss=np.zeros(n),
        probabilities=None if probabilities is None else np.asarray(probabilities, dtype=np.float64),
        truncated=False,
    )


def random_outcomes(seed: int, n: int, max_classes: int = 4, vector_share: float = 0.3) -> Outcomes:
    """Make n outcomes: watermarks that stand still or rise, classes below max_classes, some with probabilities."""
    rng = np.random.default_rng(seed)
    sequence = np.arange(n, dtype=np.int64)
    watermark = np.cumsum(rng.integers(0, 3, n))
    return Outcomes(
        sequence=sequence,
        watermark_ms=watermark,
        prediction_time_ms=watermark - rng.integers(0, 1_000, n),
        label_time_ms=watermark - rng.integers(0, 10, n),
        prediction_offset=rng.permutation(n).astype(np.int64),
        label_offset=sequence * 2,
        predicted=rng.integers(0, max_classes, n).astype(np.float64),
        actual=rng.integers(0, max_classes, n).astype(np.float64),
        score=np.where(rng.random(n) < 0.5, rng.random(n), np.nan),
        weight=rng.choice([1.0, 2.0, 2.5], n),
        segments=np.full(n, -1, dtype=np.int64),
        probabilities=[random_vector(rng, max_classes) if rng.random() < vector_share else None for _ in range(n)],
    )


def random_vector(rng: np.random.Generator, max_classes: int) -> bytes:
    vector: Float = rng.dirichlet(np.ones(rng.integers(1, max_classes + 1)))
    vector[rng.random(vector.size) < 0.2] = 0.0
    return vector.tobytes()


def cut(outcomes: Outcomes, start: int, stop: int) -> Outcomes:
    return outcomes.part(start, stop)
