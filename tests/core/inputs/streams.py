"""Streams for the tests of the input monitors, and how to cut them."""

import itertools

import numpy as np
from hypothesis import strategies as st

from service.core.columns import Outcomes, Predictions
from service.core.inputs.blocks import RowTimes

cuts = st.lists(st.integers(1, 1200), max_size=8)


def times(count, start=0):
    """Rows a second apart, at even sequence numbers and offsets from 1,000 on."""
    rows = np.arange(start, start + count, dtype=np.int64)
    return RowTimes(rows * 2, rows * 1000 + 500, rows * 1000, rows + 1000)


def predictions(features=None, *, value=None, score=None, latency_ms=None, error=None, embeddings=None):
    given = (features, value, score, latency_ms, error, embeddings)
    count = next(len(column) for column in given if column is not None)
    nothing = np.full(count, np.nan)
    sequence, watermark_ms, time_ms, offset = times(count)
    return Predictions(
        sequence=sequence,
        watermark_ms=watermark_ms,
        time_ms=time_ms,
        offset=offset,
        value=nothing if value is None else np.asarray(value, np.float64),
        score=nothing if score is None else np.asarray(score, np.float64),
        latency_ms=nothing if latency_ms is None else np.asarray(latency_ms, np.float64),
        error=np.zeros(count, bool) if error is None else np.asarray(error, bool),
        weight=np.ones(count),
        features=[None] * count if features is None else list(features),
        embeddings=() if embeddings is None else list(embeddings),
    )


def outcomes(actual):
    count = len(actual)
    sequence, watermark_ms, time_ms, offset = times(count)
    nothing = np.full(count, np.nan)
    return Outcomes(
        sequence=sequence,
        watermark_ms=watermark_ms,
        prediction_time_ms=time_ms,
        label_time_ms=time_ms + 100,
        prediction_offset=offset,
        label_offset=offset,
        predicted=nothing,
        actual=np.asarray(actual, np.float64),
        score=nothing,
        weight=np.ones(count),
        segments=np.full(count, -1, np.int64),
        probabilities=[None] * count,
    )


def part(columns, start, end):
    return type(columns)(*(None if column is None else column[start:end] for column in columns))


def observe_in_parts(monitor, columns, at, restart=None):
    """Feed a stream cut at rows `at`; at each cut go on with `restart(snapshot)` where it is given."""
    length = len(columns.sequence)
    bounds = sorted({0, length, *(min(cut, length) for cut in at)})
    findings = []
    for start, end in itertools.pairwise(bounds):
        findings += monitor.observe(part(columns, start, end))
        if restart is not None:
            monitor = restart(monitor.snapshot())
    return monitor, findings
