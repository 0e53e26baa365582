"""What a model says and what turned out to be true: drift of predictions, scores and labels."""

from collections.abc import Mapping, Sequence
from typing import TypedDict, cast

import numpy as np

from detectors.feature_bets import bank_of
from detectors.feature_drift import MakeBank
from detectors.protocol import State
from schemas.outputs import DriftKind
from service.core.columns import Bool, Float, Outcomes, Predictions, pair
from service.core.findings import Finding
from service.core.inputs.blocks import PendingRows, PendingState, RowTimes
from service.core.inputs.drift import DriftMonitor
from service.core.inputs.drift_state import DriftState
from service.core.inputs.versions import require_version
from service.core.metrics.confidence import said_confidence
from service.core.settings import FeatureDriftSettings

_VERSION = 1


class ValueState(TypedDict):
    """The snapshot of a monitor of predictions or labels."""

    version: int
    pending: PendingState
    drift: DriftState


class _ValueSchema:
    """Columns of which the first may hold class codes."""

    def __init__(self, names: list[str], classes: Sequence[str] | None) -> None:
        self.names = names
        self._classes = classes

    @property
    def wanted(self) -> Bool:
        return np.ones(len(self.names), np.bool_)

    def is_categorical(self, column: int) -> bool:
        return column == 0 and self._classes is not None

    def categories(self, column: int) -> list[str]:
        return list(self._classes or ()) if column == 0 else []


class ValueMonitor:
    """Watches one value per event, and numbers that come with it, against the first `reference_events` of them.

    The value is a class code (compared by class shares) or a number (by quantiles). Sizes, statistic and budget are
    those of the features' settings; the budget of false incidents is this monitor's own, for all its columns together.
    `reference` is a stored one, as `reference()` gives; `make_bank` makes the bets against one.
    """

    def __init__(
        self,
        settings: FeatureDriftSettings,
        kind: DriftKind,
        names: Sequence[str],
        reference: State | None = None,
        make_bank: MakeBank = bank_of,
    ) -> None:
        self._settings = settings
        self._kind: DriftKind = kind
        self._names = list(names)
        self._stored = reference
        self._make_bank = make_bank
        self.reset()

    def reset(self) -> None:
        """Become as new."""
        settings = self._settings
        self._pending = PendingRows(settings.reference_events, settings.block_events)
        self._drift = DriftMonitor(settings, settings.block_events, self._kind, self._names[0], self._make_bank)
        if self._stored is not None:
            require_version(self._stored, _VERSION, "value reference")
            self._drift.adopt(self._stored["drift"])
            self._pending.skip_first()

    def accept(self) -> bool:
        """Learn the reference anew from the next events where it has drifted; say whether it had.

        A stored reference is not taken again: the present is what is normal now.
        """
        if not self._drift.is_open:
            return False
        stored, self._stored = self._stored, None
        self.reset()
        self._stored = stored
        return True

    def observe(self, rows: Float, times: RowTimes, classes: Sequence[str] | None) -> list[Finding]:
        """Take rows in order, shape (n, columns), NaN = missing. `classes`: names by code, None for a number."""
        findings: list[Finding] = []
        schema = _ValueSchema(self._names, classes)
        start = 0
        while start < len(rows):
            end = min(start + self._pending.room, len(rows))
            block = self._pending.append(rows[start:end], times.part(start, end))
            if block is not None and block.number == 0:
                self._drift.learn(block.rows, schema)
            elif block is not None:
                findings += self._drift.observe(block, schema)
            start = end
        return findings

    def close_reference(self, classes: Sequence[str] | None) -> None:
        """End the reference window with the values that came; nothing where it is whole, or none came."""
        if not self._drift.is_ready and self._pending.count:
            self._drift.learn(self._pending.close_first(), _ValueSchema(self._names, classes))

    def drift(self) -> dict[str, float | None]:
        """Give per column the distance of the current window divided by its threshold, for metric snapshots."""
        return self._drift.drift(_ValueSchema(self._names, None))

    def reference(self) -> State | None:
        """Give the reference window as plain data; None until it is whole."""
        return {"version": _VERSION, "drift": self._drift.reference()} if self._drift.is_ready else None

    @property
    def size_bytes(self) -> int:
        """Bytes of rows put by (two columns) and of the drift monitor."""
        return self._pending.size_bytes(2) + self._drift.size_bytes

    def snapshot(self) -> ValueState:
        """Give everything that is needed to go on elsewhere."""
        return {"version": _VERSION, "pending": self._pending.snapshot(), "drift": self._drift.snapshot()}

    def restore(self, state: ValueState) -> None:
        """Take over a snapshot. Raises StateError when it is newer than this code."""
        require_version(state, _VERSION, "value monitor")
        self._pending.restore(state["pending"])
        self._drift.restore(state["drift"])


class PredictionState(ValueState):
    """The snapshot of a PredictionMonitor. `confidence`: whether it stands in for scores."""

    confidence: bool


class PredictionMonitor(ValueMonitor):
    """Prediction drift: the predictions and their scores. Failed serving calls are left out.

    Where a classifier's answer has no score, the probability that it gave the class that it answered stands in for it,
    to the nearest of the bins of confidences. Not so against a reference window that knew neither.
    """

    def __init__(
        self, settings: FeatureDriftSettings, reference: State | None = None, make_bank: MakeBank = bank_of
    ) -> None:
        super().__init__(settings, "prediction_drift", ("prediction", "score"), reference, make_bank)

    def reset(self) -> None:
        """Become as new."""
        super().reset()
        self._confidence = not self._drift.is_ready or self._drift.has_values(1)

    def observe_predictions(self, predictions: Predictions, classes: Sequence[str] | None) -> list[Finding]:
        """Take predictions in order. `classes`: class names by code, None for regression."""
        score = np.abs(predictions.score)  # its sign says of which class
        if self._confidence and len(predictions.confidence):
            score = np.where(np.isnan(score), said_confidence(predictions.confidence), score)
        rows = pair(predictions.value, score)
        times = RowTimes(predictions.sequence, predictions.watermark_ms, predictions.time_ms, predictions.offset)
        if np.count_nonzero(predictions.error):
            answered = ~predictions.error
            rows, times = rows[answered], RowTimes(*(column[answered] for column in times))
        return self.observe(rows, times, classes)

    def snapshot(self) -> PredictionState:
        """Give everything that is needed to go on elsewhere."""
        return {**super().snapshot(), "confidence": self._confidence}

    def restore(self, state: ValueState) -> None:
        """Take over a snapshot. Raises StateError when it is newer than this code."""
        super().restore(state)
        self._confidence = cast("PredictionState", state)["confidence"]


class LabelMonitor(ValueMonitor):
    """Label drift: the actual values of outcomes, in the order in which they became known."""

    def __init__(
        self, settings: FeatureDriftSettings, reference: State | None = None, make_bank: MakeBank = bank_of
    ) -> None:
        super().__init__(settings, "label_drift", ("label",), reference, make_bank)

    def observe_outcomes(self, outcomes: Outcomes, classes: Sequence[str] | None) -> list[Finding]:
        """Take outcomes in order. Change points are given in the predictions' event time and offset."""
        times = RowTimes(
            outcomes.sequence, outcomes.watermark_ms, outcomes.prediction_time_ms, outcomes.prediction_offset
        )
        return self.observe(outcomes.actual[:, None], times, classes)


def bracketed(drift: Mapping[str, float | None]) -> dict[str, float | None]:
    """Tell the model's own answers from features that may have the same names."""
    return {f"({name})": ratio for name, ratio in drift.items()}
