"""Whether a model is fed as it should be: labels that come, and predictions with identifiers of their own."""

from typing import TypedDict

from service.core.columns import Outcomes, Predictions
from service.core.findings import Finding
from service.core.inputs.versions import require_version
from service.core.label_flow import LabelFlow, LabelFlowState
from service.core.layout import inside
from service.core.repeated_ids import RepeatedIds, RepeatedIdsState
from service.core.settings import LabelSettings

_VERSION = 1


class SupplyState(TypedDict):
    """The snapshot of a Supply."""

    version: int
    labels: LabelFlowState
    repeated: RepeatedIdsState


class Supply:
    """Watches what producers send about one model, all its versions. It speaks in `check` alone, at ticks."""

    def __init__(self, settings: LabelSettings, label_horizon_ms: int) -> None:
        self.labels = LabelFlow(settings, label_horizon_ms)
        self.repeated = RepeatedIds()

    def reset(self) -> None:
        """Become as new."""
        self.labels.reset()
        self.repeated.reset()

    def note_predictions(self, predictions: Predictions, first_id: str) -> None:
        """Take new predictions in order; `first_id`: identifier of the first. Failed calls need no label."""
        self.repeated.note_new(len(predictions.sequence), int(predictions.watermark_ms[-1]))
        time_ms, watermark_ms = predictions.time_ms, predictions.watermark_ms
        if predictions.error.any():
            answered = ~predictions.error
            time_ms, watermark_ms = time_ms[answered], watermark_ms[answered]
        self.labels.note_predictions(time_ms, watermark_ms, (int(predictions.sequence[0]), first_id))

    def note_outcomes(self, outcomes: Outcomes) -> None:
        """Take predictions joined with their labels."""
        answered = outcomes.predicted == outcomes.predicted  # not NaN, as of failed calls
        times = outcomes.prediction_time_ms, outcomes.watermark_ms, outcomes.label_time_ms
        self.labels.note_labels(*(column[answered] for column in times))

    def due_ms(self) -> int:
        """Say at which watermark there is something to decide."""
        return min(self.labels.due_ms(), self.repeated.due_ms())

    def check(self, now_ms: int, sequence: int) -> list[Finding]:
        """Judge what is due; give what is new."""
        return self.labels.check(now_ms, sequence) + self.repeated.check(now_ms, sequence)

    def snapshot(self) -> SupplyState:
        """Give everything that is needed to go on elsewhere."""
        return {"version": _VERSION, "labels": self.labels.snapshot(), "repeated": self.repeated.snapshot()}

    def restore(self, state: SupplyState) -> None:
        """Take over a snapshot. Raises StateError when it is newer than this code."""
        require_version(state, _VERSION, "watch of producers")
        with inside("labels"):
            self.labels.restore(state["labels"])
        with inside("repeated"):
            self.repeated.restore(state["repeated"])
