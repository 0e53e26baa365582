"""Every setting that changes what the core does, with unit, default and bounds.

The composition root reads them from YAML; `tidegauge config example` and `docs/configuration.md` are made from the
descriptions here. All of them are plain data: the same settings and the same records give the same bytes.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta

from service.core.monitor_settings import (
    ConceptDriftSettings,
    DataQualitySettings,
    DetectorSettings,
    EmbeddingDriftSettings,
    FeatureDriftSettings,
    LabelDriftSettings,
    LabelSettings,
    LatencySettings,
    PredictionDriftSettings,
)
from service.core.settings_base import DAY_MS, HOUR_MS, MINUTE_MS, Count, Millis, Problem, Settings

__all__ = [
    "DAY_MS",
    "HOUR_MS",
    "MINUTE_MS",
    "AlertSettings",
    "ConceptDriftSettings",
    "CoreSettings",
    "Count",
    "DataQualitySettings",
    "DetectorSettings",
    "EmbeddingDriftSettings",
    "FeatureDriftSettings",
    "FineTuneSettings",
    "JoinSettings",
    "LabelDriftSettings",
    "LabelSettings",
    "LatencySettings",
    "Millis",
    "ModelProfile",
    "PerformanceRule",
    "PerformanceSettings",
    "PredictionDriftSettings",
    "Problem",
    "ReferenceProfile",
    "Settings",
    "WindowSettings",
]


class WindowSettings(Settings, frozen=True):
    """A rolling window of outcomes, by count or by event time."""

    last: Annotated[Count | None, Meta(description="this many outcomes")] = None
    duration_ms: Annotated[Count | None, Meta(description="outcomes of this long, in event time, milliseconds")] = None

    def __post_init__(self) -> None:
        if (self.last is None) == (self.duration_ms is None):
            raise ValueError("expected exactly one of last and duration_ms")

    @property
    def name(self) -> str:
        """As it is called in snapshots: last_1000 or 3600s."""
        return f"last_{self.last}" if self.last is not None else f"{(self.duration_ms or 0) / 1000:g}s"


class PerformanceRule(Settings, frozen=True):
    """An alert when a rolling metric crosses a line."""

    metric: Annotated[str, Meta(description="as accuracy, f1_macro, auc, mae; see docs/metrics.md")]
    window: Annotated[str, Meta(description="the name of a window, as last_1000")]
    below: float | None = None
    above: float | None = None
    min_count: Annotated[Count, Meta(description="outcomes that the window must hold")] = 100
    severity: Literal["warning", "critical"] = "critical"

    def __post_init__(self) -> None:
        if (self.below is None) == (self.above is None):
            raise ValueError("expected exactly one of below and above")


class PerformanceSettings(Settings, frozen=True):
    """Rolling metrics on outcomes."""

    windows: tuple[WindowSettings, ...] = (WindowSettings(last=1000), WindowSettings(duration_ms=HOUR_MS))
    max_window_outcomes: Annotated[
        int,
        Meta(
            ge=100,
            le=1_000_000,
            description="outcomes kept per model version; longer windows are truncated, and say so",
        ),
    ] = 5000
    rules: tuple[PerformanceRule, ...] = ()
    max_classes: Annotated[
        int,
        Meta(
            ge=2, le=10_000, description="class names per model; further ones share the class (other) and are counted"
        ),
    ] = 100


class AlertSettings(Settings, frozen=True):
    """The life of an incident."""

    pending_for_ms: Annotated[Millis, Meta(description="how long a cause must last before it fires, event time")] = 0
    keep_firing_for_ms: Annotated[
        Millis, Meta(description="how long a cause must be gone before it is resolved, event time")
    ] = 5 * MINUTE_MS
    alert_on_warning: Annotated[bool, Meta(description="raise an alert at a detector's warning level too")] = False
    recovered_outcomes: Annotated[
        int,
        Meta(
            ge=10,
            le=100_000,
            description="outcomes since the estimated return of the loss to its reference before concept drift can be "
            "gone",
        ),
    ] = 200
    max_incidents: Annotated[
        int, Meta(ge=1, le=10_000, description="open incidents per model; causes beyond it are counted")
    ] = 100


class FineTuneSettings(Settings, frozen=True):
    """When a model is to be trained on, and how it is followed."""

    enabled: bool = True
    on: Annotated[
        tuple[Literal["concept_drift", "performance", "data_drift", "label_drift", "prediction_drift"], ...],
        Meta(description="kinds of incident that ask for fine-tuning"),
    ] = ("concept_drift", "performance")
    mode: Annotated[
        Literal["auto", "stateful", "stateless"],
        Meta(
            description="stateful continues from the current model, stateless trains from scratch; "
            "auto: stateful unless the last stateful attempt did not help"
        ),
    ] = "auto"
    min_labels: Annotated[
        Count, Meta(description="labelled outcomes since the change point before a trigger is sent")
    ] = 200
    acknowledge_within_ms: Annotated[
        Millis, Meta(description="a trigger nobody acknowledged by then has timed out, event time")
    ] = HOUR_MS
    complete_within_ms: Annotated[Millis, Meta(description="a run not completed by then has timed out, event time")] = (
        DAY_MS
    )
    verify_outcomes: Annotated[
        Count, Meta(description="outcomes of the new version that decide whether it is better")
    ] = 200
    verify_within_ms: Annotated[Millis, Meta(description="verification ends undecided after this, event time")] = DAY_MS
    cooldown_ms: Annotated[Millis, Meta(description="no new trigger for this long after one has ended, event time")] = (
        10 * MINUTE_MS
    )
    max_attempts: Annotated[Count, Meta(description="triggers for one incident; after that people must act")] = 3


class ReferenceProfile(Settings, frozen=True):
    """A stored reference window of one model, as `tidegauge profile build` writes it (docs/reference-profiles.md)."""

    path: Annotated[
        str | None, Meta(description="JSON file, relative to this one; null: learn from the first events")
    ] = None
    data: Annotated[
        dict[str, Any] | None, Meta(description="the profile itself, in place of a path; filled from the file")
    ] = None


class ModelProfile(Settings, frozen=True):
    """How one model is watched. A model without a section of its own gets the default profile."""

    problem: Annotated[
        Problem,
        Meta(
            description="auto: strings and booleans are classes, numbers with score or probabilities too, and whole "
            "numbers of which few are distinct; other numbers are regression; found out over the first answers"
        ),
    ] = "auto"
    positive_label: Annotated[
        str | None,
        Meta(
            description="binary: the positive class, of which score speaks; null: the one that score_class of the "
            "events says, else found out from the answers, else the greater of the two names, as in scikit-learn"
        ),
    ] = None
    segments: Annotated[
        tuple[str, ...], Meta(description="segment names whose values get performance metrics of their own")
    ] = ()
    max_segment_values: Annotated[
        Count, Meta(description="values per segment; further ones are counted, not watched")
    ] = 20
    reference: ReferenceProfile = ReferenceProfile()
    concept_drift: ConceptDriftSettings = ConceptDriftSettings()
    feature_drift: FeatureDriftSettings = FeatureDriftSettings()
    embedding_drift: EmbeddingDriftSettings = EmbeddingDriftSettings()
    prediction_drift: PredictionDriftSettings = PredictionDriftSettings()
    label_drift: LabelDriftSettings = LabelDriftSettings()
    data_quality: DataQualitySettings = DataQualitySettings()
    labels: LabelSettings = LabelSettings()
    latency: LatencySettings = LatencySettings()
    performance: PerformanceSettings = PerformanceSettings()
    alerts: AlertSettings = AlertSettings()
    fine_tune: FineTuneSettings = FineTuneSettings()
    snapshot_interval_ms: Annotated[
        int, Meta(ge=100, description="event time between two metric snapshots of a model with new events")
    ] = MINUTE_MS


class JoinSettings(Settings, frozen=True):
    """The join of predictions and labels. Horizons are counted from arrivals, on the clock of the log."""

    label_horizon_ms: Annotated[Count, Meta(description="how long a prediction waits for its label, by timestamps")] = (
        7 * DAY_MS
    )
    orphan_horizon_ms: Annotated[
        Count | None,
        Meta(description="how long a label waits for its prediction; then it is a dead letter; null: as long as that"),
    ] = None
    correction_horizon_ms: Annotated[
        Millis,
        Meta(description="how long a joined prediction is remembered for corrections and duplicates, likewise"),
    ] = DAY_MS
    remembered_ids: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000_000,
            description="identifiers of a task that have left the join and are still known, so that a late label and a "
            "late repetition are told as such and at once; 33 bytes each; 0: none",
        ),
    ] = 500_000
    max_entries: Annotated[
        int, Meta(ge=1000, description="entries of a task; beyond it the oldest are evicted and counted")
    ] = 10_000_000
    max_bytes: Annotated[
        int, Meta(ge=1_000_000, description="bytes of a task's entries; beyond it the oldest are evicted and counted")
    ] = 2_000_000_000
    spill_above_entries: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(
            description="above so many waiting predictions (or labels, or remembered outcomes) of a task they lie in a "
            "file of runtime.spill_directory, and some 20 bytes of each stay in memory; null: never"
        ),
    ] = None

    @property
    def longest_orphan_ms(self) -> int:
        """How long a label waits for its prediction."""
        return self.orphan_horizon_ms or self.label_horizon_ms


class CoreSettings(Settings, frozen=True):
    """Everything that a task's core needs to know."""

    default: ModelProfile = ModelProfile()
    models: Annotated[dict[str, ModelProfile], Meta(description="model_id to profile")] = {}  # noqa: RUF012  # msgspec copies it
    join: JoinSettings = JoinSettings()
    allowed_lateness_ms: Annotated[Millis, Meta(description="a model's watermark stays this far behind its clock")] = 0
    tick_ms: Annotated[
        int,
        Meta(
            ge=1,
            description="timers (metric snapshots, pending_for, time-outs) fire when a model's watermark passes a "
            "multiple of this, milliseconds; what waits in the join expires when the clock of the log does",
        ),
    ] = 10_000
    max_future_ms: Annotated[
        Millis,
        Meta(description="an event time this far ahead of the record's timestamp is a dead letter"),
    ] = HOUR_MS
    max_record_bytes: Annotated[
        int, Meta(ge=1000, description="a larger record is a dead letter and is not parsed")
    ] = 1_048_576
    max_models: Annotated[
        Count, Meta(description="model versions watched per task; events of further ones are dead letters")
    ] = 10_000
    max_monitor_bytes: Annotated[
        int,
        Meta(
            ge=1_000_000,
            description="bytes that the monitors of a task's versions hold in memory; beyond it those without an event "
            "for longest are put by as compressed bytes, and come back when an event needs them",
        ),
    ] = 1_000_000_000
    max_parked_monitor_bytes: Annotated[
        int,
        Meta(
            ge=100_000,
            description="bytes, before compression (which makes a tenth to a half of them), of versions that are put "
            "by; beyond it those without an event for longest are forgotten and begin anew, and an alert says so",
        ),
    ] = 4_000_000_000
    max_targets: Annotated[
        Count,
        Meta(description="targets (outputs) of one model that are watched; events of further ones are dead letters"),
    ] = 100
    max_unpredicted_models: Annotated[
        Count,
        Meta(
            description="models per task of which there are labels and no prediction yet; labels of further ones are "
            "dead letters"
        ),
    ] = 1_000
    dead_letter_payload_bytes: Annotated[
        int, Meta(ge=0, le=100_000, description="bytes of a bad record kept in its dead letter")
    ] = 1024

    def profile(self, model_id: str) -> ModelProfile:
        """Give the model's own profile, else the default."""
        return self.models.get(model_id, self.default)
