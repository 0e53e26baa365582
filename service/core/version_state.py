"""What is stored of a model and of each of its versions."""

from typing import Any, TypedDict

from service.core.held import HeldState
from service.core.inputs.embeddings import EmbeddingsState
from service.core.inputs.feature_monitor import FeaturesState
from service.core.inputs.latency import LatencyState
from service.core.inputs.value_monitor import PredictionState, ValueState
from service.core.loss import LossState
from service.core.meaning import MeaningState
from service.core.metrics.estimate import EstimateState
from service.core.metrics.quantiles import QuantileState
from service.core.metrics.window import WindowState
from service.core.segments import SegmentsState
from service.core.supply import SupplyState


class VersionState(TypedDict):
    """The snapshot of a VersionMonitor, without the rows of its windows."""

    version: int
    regression: bool
    counts: dict[str, int]
    features: FeaturesState
    embeddings: EmbeddingsState
    predictions: PredictionState
    labels: ValueState
    latency: LatencyState
    window: WindowState
    segments: SegmentsState
    loss: LossState
    estimate: EstimateState
    label_delay: QuantileState
    breached: list[str]
    limits_told: list[str]
    meaning: MeaningState
    held: HeldState
    interval: tuple[int | None, int, int]


class JoinCounts:
    """What the join did with a version's predictions and their labels, since the version was first seen."""

    FIELDS = (
        "predictions",
        "errors",
        "duplicates",
        "expired",
        "evicted",
        "corrected",
        "corrections_late",
        "labels_duplicate",
        "unusable_outcomes",
    )

    def __init__(self) -> None:
        self.values = dict.fromkeys(self.FIELDS, 0)

    def add(self, name: str, count: int) -> None:
        """Count."""
        self.values[name] += count


class ModelState(TypedDict):
    """The snapshot of a ModelMonitor, without its versions'. The policies' are checked by themselves."""

    version: int
    alerts: dict[str, Any]
    fine_tune: dict[str, Any]
    snapshot_due_ms: int | None
    active: list[str]
    serving: str | None
    versions: list[str]
    supply: SupplyState | None
    """None: what an older program stored, which knew nothing of it."""
    forgotten: list[str]
