"""The performance of one model version before its labels come, estimated from the confidence of its answers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypedDict

import msgspec
import numpy as np

from detectors.protocol import State, StateError
from schemas.outputs import WindowMetrics
from service.core.columns import Bool, Cells, Int, Outcomes, Predictions
from service.core.metrics.arithmetic import weigh
from service.core.metrics.catalogue import ResolvedProblem
from service.core.metrics.confidence import (
    CELLS,
    NO_CELL,
    confidence_cells,
    estimated_values,
    scores_by_answer,
    stated_confidence,
)
from service.core.metrics.recent import RecentPredictions, RecentState
from service.core.metrics.report import positive_class
from service.core.metrics.scores import ANSWER, USUAL, ScoreReading, Speaks
from service.core.settings import PerformanceSettings

_VERSION: Final = 1


class EstimateState(TypedDict):
    """The snapshot of a PerformanceEstimate: the calibration, a count for each cell, and the predictions' header."""

    version: int
    seen: list[int]
    right: list[int]
    whole: bool
    recent: RecentState


class PerformanceEstimate:
    """Calibrates confidences on the first `reference_outcomes` outcomes, and estimates over the latest predictions.

    What it tells holds where the concept did not change: of a model that became wrong about inputs of the same kind,
    its confidence knows nothing.
    """

    def __init__(self, settings: PerformanceSettings, reference_outcomes: int, stored: State | None = None) -> None:
        self._settings = settings
        self._reference_outcomes = reference_outcomes
        self._stored = stored
        self.recent = RecentPredictions(settings.max_window_outcomes)
        self.reset()

    def reset(self) -> None:
        """Learn the calibration anew (or take the stored one again); the predictions stay."""
        self._seen = np.zeros(CELLS, np.int64)
        self._right = np.zeros(CELLS, np.int64)
        self._whole = False
        if self._stored is not None:
            self._take(self._stored)
            self._whole = True

    def observe(self, predictions: Predictions) -> None:
        """Take predictions in order; those without a confidence are left out."""
        if len(predictions.confidence):
            self.recent.extend(predictions.watermark_ms, predictions.weight, predictions.confidence)

    def learn(self, outcomes: Outcomes) -> None:
        """Take outcomes in order, until the reference is whole. Each counts once, whatever it weighs."""
        if self._whole:
            return
        stated = stated_confidence(outcomes.probabilities, outcomes.predicted)
        cells = confidence_cells(outcomes.predicted, outcomes.score, stated)
        rows = np.flatnonzero(cells != NO_CELL)[: self._reference_outcomes - int(self._seen.sum())]
        self._count(cells[rows], (outcomes.predicted == outcomes.actual)[rows])
        self._whole = int(self._seen.sum()) >= self._reference_outcomes

    def _count(self, cells: Cells, right: Bool) -> None:
        self._seen += np.bincount(cells, minlength=CELLS)
        self._right += np.bincount(cells[right], minlength=CELLS)

    def close_reference(self) -> None:
        """End the reference with the outcomes that came, if any."""
        self._whole = bool(self._seen.any())

    def add_to(
        self,
        windows: Iterable[WindowMetrics],
        now_ms: int,
        problem: ResolvedProblem,
        classes: Sequence[str],
        reading: ScoreReading = USUAL,
    ) -> tuple[WindowMetrics, ...]:
        """Put the estimates beside the metrics of the configured windows, in their order.

        `classes` and `reading` as in `window_metrics`. A regression has no estimates.
        """
        if problem == "regression":
            return tuple(windows)
        code = _code_of(classes, positive_class(classes, reading.positive))
        speaks: Speaks | None = None
        if reading.speaks_of is not None:
            # A class that was never met has no code yet: it is not one of those answered.
            code_said = _code_of(classes, reading.speaks_of)
            speaks = "answer" if reading.speaks_of == ANSWER else len(classes) if code_said is None else code_said
        told = []
        for window, settings in zip(windows, self._settings.windows, strict=True):
            rows = self.recent.select(settings, now_ms)
            if not self._whole or reading.undecided:
                rows = rows.part(0, 0)
            weights = weigh(rows.cell.astype(np.int64), rows.weight, CELLS)
            values = estimated_values(problem, weights, self._seen, self._right, code, speaks)
            told.append(msgspec.structs.replace(window, values=window.values | values, predictions=len(rows.cell)))
        return tuple(told)

    def scores_by_answer(self) -> Int:
        """Count the predictions that are kept by class answered (the first two) and bin of the score, shape (2, B)."""
        return scores_by_answer(self.recent.all().cell)

    # -- state

    def reference(self) -> State | None:
        """Give the calibration as plain data, for a stored profile; None until it is whole."""
        if not self._whole:
            return None
        return {"version": _VERSION, "seen": self._seen.tolist(), "right": self._right.tolist()}

    def _take(self, counts: State | EstimateState) -> None:
        if not len(counts["seen"]) == len(counts["right"]) == CELLS:
            raise StateError(f"$.seen and $.right: expected {CELLS} counts each")
        self._seen, self._right = np.array(counts["seen"], np.int64), np.array(counts["right"], np.int64)

    def snapshot(self) -> EstimateState:
        """Give everything but the rows of the predictions, which `recent.changed_blocks` gives."""
        return {
            "version": _VERSION,
            "seen": self._seen.tolist(),
            "right": self._right.tolist(),
            "whole": self._whole,
            "recent": self.recent.snapshot(),
        }

    def restore(self, state: EstimateState, blocks: Mapping[str, bytes]) -> None:
        """Take over a snapshot and the blocks of the predictions. Raises StateError."""
        if state.get("version") != _VERSION:
            raise StateError(f"expected a performance estimate of version {_VERSION}, got {state.get('version')}")
        self._take(state)
        self._whole = state["whole"]
        self.recent.restore(state["recent"], blocks)


def _code_of(classes: Sequence[str], name: str | None) -> int | None:
    return classes.index(name) if name is not None and name in classes else None
