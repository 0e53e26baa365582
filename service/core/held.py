"""Answers and outcomes of a version that wait until it is known whether they are classes or numbers."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypedDict

import numpy as np

from service.core.columns import Corrections, Float, Int, Outcomes, Predictions
from service.core.metrics.confidence import NO_CELL
from service.core.problem import Coded

_ANSWERS: Final = np.dtype([("watermark_ms", "<i8"), ("time_ms", "<i8"), ("offset", "<i8"), ("value", "<f8")])
_OUTCOMES: Final = np.dtype(
    [
        ("watermark_ms", "<i8"),
        ("prediction_time_ms", "<i8"),
        ("label_time_ms", "<i8"),
        ("prediction_offset", "<i8"),
        ("label_offset", "<i8"),
        ("predicted", "<f8"),
        ("actual", "<f8"),
        ("weight", "<f8"),
        ("segments", "<i8"),
    ]
)


class HeldState(TypedDict):
    """The snapshot of a Held."""

    answers: bytes
    outcomes: bytes


class Released(NamedTuple):
    """What was held, under the number of the record at which it is let go."""

    answers: Predictions | None
    outcomes: Outcomes | None

    def before(self, others: "Released") -> "Released":
        """Put these in front of others."""
        answers, outcomes = self.answers or others.answers, self.outcomes or others.outcomes
        if self.answers is not None and others.answers is not None:
            answers = Predictions._make(map(_joined, self.answers, others.answers._replace(embeddings=())))
        if self.outcomes is not None and others.outcomes is not None:
            outcomes = Outcomes._make(map(_joined, self.outcomes, others.outcomes._replace(packed=None)))
        return Released(answers, outcomes)


class Held:
    """Rows in the order in which they came, without scores: a model with a score is decided. Whoever holds bounds them.

    Failed calls have no answer and are not held. `count` counts what becomes of outcomes, by name.
    """

    def __init__(self, count: Callable[[str, int], None]) -> None:
        self._count = count
        self._answers = np.zeros(0, _ANSWERS)
        self._outcomes = np.zeros(0, _OUTCOMES)

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(len(self._answers) or len(self._outcomes))

    @property
    def outcomes(self) -> int:
        """How many outcomes wait."""
        return len(self._outcomes)

    def add_answers(self, predictions: Predictions) -> None:
        """Take predictions in order."""
        answered = ~predictions.error
        rows = np.zeros(int(np.count_nonzero(answered)), _ANSWERS)
        for name in _ANSWERS.names or ():
            rows[name] = getattr(predictions, name)[answered]
        self._answers = np.concatenate([self._answers, rows])

    def add_outcomes(self, outcomes: Outcomes) -> None:
        """Take outcomes in order."""
        usable = np.isfinite(outcomes.predicted) & np.isfinite(outcomes.actual)
        rows = np.zeros(int(np.count_nonzero(usable)), _OUTCOMES)
        for name in _OUTCOMES.names or ():
            rows[name] = getattr(outcomes, name)[usable]
        self._outcomes = np.concatenate([self._outcomes, rows])
        self._count("unusable_outcomes", len(usable) - len(rows))

    def correct(self, corrections: Corrections) -> None:
        """Replace labels, in order."""
        found = 0
        for offset, actual, label_offset in zip(
            corrections.prediction_offset.tolist(),
            corrections.actual.tolist(),
            corrections.label_offset.tolist(),
            strict=True,
        ):
            rows = np.flatnonzero(self._outcomes["prediction_offset"] == offset)
            self._outcomes["actual"][rows], self._outcomes["label_offset"][rows] = actual, label_offset
            found += len(rows)
        self._count("corrected", found)
        self._count("corrections_late", len(corrections.sequence) - found)

    def release(self, sequence: int, coded: Coded | None) -> Released:
        """Let everything go at the record with this number; `coded`: what codes mean as numbers, if they are none."""
        answers, outcomes = self._answers, self._outcomes
        self._answers, self._outcomes = np.zeros(0, _ANSWERS), np.zeros(0, _OUTCOMES)
        return Released(
            _as_predictions(answers, sequence, coded) if len(answers) else None,
            _as_outcomes(outcomes, sequence, coded) if len(outcomes) else None,
        )

    def snapshot(self) -> HeldState:
        """Give it as plain data."""
        return {"answers": self._answers.tobytes(), "outcomes": self._outcomes.tobytes()}

    def restore(self, state: HeldState) -> None:
        """Take over a snapshot."""
        self._answers = np.frombuffer(state["answers"], _ANSWERS).copy()
        self._outcomes = np.frombuffer(state["outcomes"], _OUTCOMES).copy()


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, np.ndarray):
        return np.concatenate([first, second])
    return None if first is None else [*first, *second]


def _column(rows: np.ndarray[tuple[int], np.dtype[np.void]], name: str) -> Int:
    return np.ascontiguousarray(rows[name])


def _as_predictions(rows: np.ndarray[tuple[int], np.dtype[np.void]], sequence: int, coded: Coded | None) -> Predictions:
    count = len(rows)
    offset, value = _column(rows, "offset"), rows["value"].astype(np.float64)
    nothing: Float = np.full(count, np.nan)
    return Predictions(
        sequence=np.full(count, sequence, dtype=np.int64),
        watermark_ms=_column(rows, "watermark_ms"),
        time_ms=_column(rows, "time_ms"),
        offset=offset,
        value=value if coded is None else coded.predictions(value, offset),
        score=nothing,
        latency_ms=nothing,
        error=np.zeros(count, np.bool_),
        weight=np.ones(count),
        features=[None] * count,
        confidence=np.full(count, NO_CELL, np.uint8),
    )


def _as_outcomes(rows: np.ndarray[tuple[int], np.dtype[np.void]], sequence: int, coded: Coded | None) -> Outcomes:
    count = len(rows)
    predicted, actual = rows["predicted"].astype(np.float64), rows["actual"].astype(np.float64)
    prediction_offset, label_offset = _column(rows, "prediction_offset"), _column(rows, "label_offset")
    return Outcomes(
        sequence=np.full(count, sequence, dtype=np.int64),
        watermark_ms=_column(rows, "watermark_ms"),
        prediction_time_ms=_column(rows, "prediction_time_ms"),
        label_time_ms=_column(rows, "label_time_ms"),
        prediction_offset=prediction_offset,
        label_offset=label_offset,
        predicted=predicted if coded is None else coded.predictions(predicted, prediction_offset),
        actual=actual if coded is None else coded.labels(actual, label_offset),
        score=np.full(count, np.nan),
        weight=rows["weight"].astype(np.float64),
        segments=_column(rows, "segments"),
        probabilities=[None] * count,
    )
