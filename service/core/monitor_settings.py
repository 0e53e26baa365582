"""Settings of the monitors: what is watched of a model version, against what, and how rarely it may be wrong."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from service.core.settings_base import Count, Settings


class DetectorSettings(Settings, frozen=True):
    """One detector on the error stream."""

    name: Annotated[str, Meta(description="a name that `tidegauge schema detectors` lists, or river:ClassName")]
    params: Annotated[dict[str, Any], Meta(description="the detector's own parameters")] = {}  # noqa: RUF012  # msgspec copies it


class ConceptDriftSettings(Settings, frozen=True):
    """Drift of the error stream: the model's loss on labelled outcomes."""

    detectors: Annotated[
        tuple[DetectorSettings, ...], Meta(description="all of them watch; `alert_on` says which raise an alert")
    ] = (
        DetectorSettings(name="e_sr"),
        DetectorSettings(name="adwin"),
        DetectorSettings(name="ddm"),
        DetectorSettings(name="page_hinkley"),
    )
    alert_on: Annotated[
        Literal["first", "any", "majority", "all"],
        Meta(
            description="which detectors raise an alert: the first in the list (the others are reported as evidence), "
            "any of them, more than half, or all. any and majority multiply false alarms by the detectors they count"
        ),
    ] = "first"
    reference_outcomes: Annotated[
        int, Meta(ge=30, le=100_000, description="outcomes that make the reference window of the loss")
    ] = 500
    smallest_harm: Annotated[
        float,
        Meta(
            gt=0.0,
            lt=1.0,
            description="a rise of the mean loss that is worth telling; half of the reference's mean where that is "
            "less. An alarm ends only on evidence that the rise is smaller. Regression: as a share of the loss's cap",
        ),
    ] = 0.02
    expected_outcomes_between_false_resolutions: Annotated[
        float, Meta(ge=1000.0, le=1e12, description="outcomes of lasting damage to a false all-clear, on average")
    ] = 2_000_000.0
    expected_outcomes_between_false_updates: Annotated[
        float,
        Meta(ge=1000.0, le=1e12, description="outcomes at one level to a false report of a further change, on average"),
    ] = 200_000.0
    loss_cap_quantile: Annotated[
        float,
        Meta(
            gt=0.5,
            le=1.0,
            description="regression: the absolute error is divided by this quantile of the reference and clipped to 1",
        ),
    ] = 0.99


class FeatureDriftSettings(Settings, frozen=True):
    """Drift of inputs against the reference window."""

    enabled: bool = True
    statistic: Annotated[
        Literal["ks", "psi", "js", "wasserstein", "chi_square", "hellinger", "l_infinity"],
        Meta(description="the statistic that is reported and ranked for each feature"),
    ] = "js"
    reference_events: Annotated[
        int, Meta(ge=100, le=1_000_000, description="events that make the reference window")
    ] = 1000
    block_events: Annotated[int, Meta(ge=20, le=100_000, description="events between two looks at the features")] = 200
    window_blocks: Annotated[int, Meta(ge=1, le=1000, description="blocks that make the current window")] = 5
    bins: Annotated[int, Meta(ge=2, le=100, description="quantile bins of a numeric feature")] = 20
    expected_events_between_false_incidents: Annotated[
        float, Meta(ge=1000.0, description="for all features of the model together")
    ] = 1_000_000.0
    fixed_threshold: Annotated[
        float | None,
        Meta(description="compare the statistic with this instead of a calibrated threshold, as 0.25 for psi"),
    ] = None
    include: Annotated[
        tuple[str, ...], Meta(description="feature names to watch, whatever they are; empty: all that are features")
    ] = ()
    exclude: Annotated[tuple[str, ...], Meta(description="feature names not to watch")] = ()
    max_features: Annotated[
        int, Meta(ge=1, le=10_000, description="features watched per model version; more are counted and not watched")
    ] = 500
    max_categories: Annotated[
        int, Meta(ge=2, le=10_000, description="categories kept per feature; the rest share one bin")
    ] = 100


class EmbeddingDriftSettings(Settings, frozen=True):
    """Drift of embeddings (vectors) against the reference window. Their data quality goes by `data_quality`."""

    enabled: bool = True
    random_features: Annotated[
        int,
        Meta(
            ge=16,
            le=256,
            multiple_of=16,
            description="numbers by which a vector is compared; more see finer changes and cost more",
        ),
    ] = 64
    reference_vectors: Annotated[
        int, Meta(ge=64, le=1_000_000, description="vectors that make the reference window, rounded up to whole 32")
    ] = 1000
    expected_events_between_false_incidents: Annotated[
        float, Meta(ge=1000.0, le=1e10, description="for all embeddings of the model together, beside the features")
    ] = 1_000_000.0
    max_embeddings: Annotated[
        int, Meta(ge=1, le=16, description="embeddings watched per model version; more are counted and not watched")
    ] = 4


class DataQualitySettings(Settings, frozen=True):
    """Missing values, wrong types, values out of range, unseen categories."""

    enabled: bool = True
    max_rate_increase: Annotated[
        float,
        Meta(
            gt=0.0,
            le=1.0,
            description="a rate this much above the reference's, in one block, is an alert (after allowing for chance)",
        ),
    ] = 0.05
    range_margin: Annotated[
        float,
        Meta(
            ge=0.0,
            description="a number is out of range beyond the reference's extremes by this share of their span",
        ),
    ] = 0.5
    ranges: Annotated[
        dict[str, tuple[float, float]],
        Meta(description="feature name to [lowest, highest], instead of the learnt range"),
    ] = {}  # noqa: RUF012  # msgspec copies it


class PredictionDriftSettings(Settings, frozen=True):
    """Drift of the predictions and of their scores against the reference window."""

    enabled: bool = True


class LabelDriftSettings(Settings, frozen=True):
    """Drift of the labels (the target) against the reference window of outcomes."""

    enabled: bool = True


class LabelSettings(Settings, frozen=True):
    """Whether labels come as they use to."""

    expected: Annotated[
        bool, Meta(description="false: this model gets no labels, so nothing is said where none come")
    ] = True
    usual_delay_ms: Annotated[
        Count | None,
        Meta(
            description="within this long of their prediction most labels come, event time; null: the 95th percentile "
            "of those that came. Given, it is told after 1.5 of them and not only behind the label horizon that none "
            "ever came"
        ),
    ] = None


class LatencySettings(Settings, frozen=True):
    """How long the model takes to answer."""

    p95_above_ms: Annotated[
        float | None, Meta(description="alert when the 95th percentile of a block is above this; null: no alert")
    ] = None
    error_rate_above: Annotated[
        Annotated[float, Meta(gt=0.0, le=1.0)] | None,
        Meta(
            description="alert when the share of failed serving calls in a block is above this; null: no alert",
        ),
    ] = 0.05
    block_events: Annotated[int, Meta(ge=20, le=100_000, description="events in a block")] = 200
