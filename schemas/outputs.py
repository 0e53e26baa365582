"""What goes out: alerts, fine-tune triggers, metric snapshots and dead letters.

Each is the `data` of a CloudEvent (`schemas/cloudevents.py`). Field order is the reading order of a person; the codec
sorts keys on the wire so that the same event is always the same bytes. All times are event time: no wall clock
reaches a payload.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Severity = Literal["warning", "critical"]
DriftKind = Literal[
    "concept_drift",
    "data_drift",
    "prediction_drift",
    "label_drift",
    "data_quality",
    "performance",
    "latency",
    "operational",
]
AlertState = Literal["pending", "firing", "resolved"]
FineTuneMode = Literal["stateful", "stateless"]
TriggerState = Literal["requested", "running", "verifying", "completed", "failed", "timed_out", "cancelled"]

ModelId = Annotated[str, Meta(description="which model")]
ModelVersion = Annotated[str, Meta(description="which version of the model")]
Segment = Annotated[str | None, Meta(description="the segment, as country=DE; the whole model when null")]
Target = Annotated[str | None, Meta(description="which of several outputs of the model; null where it has one")]
EventTime = Annotated[int, Meta(description="event time of this transition, UTC milliseconds since 1970")]
Statistic = Annotated[float, Meta(description="larger means further from the reference")]
Threshold = Annotated[float, Meta(description="drift where the statistic reaches it")]
Before = Annotated[float | str | None, Meta(description="what was usual in the reference window")]
After = Annotated[float | str | None, Meta(description="what is usual in the current window")]
Quantiles = Annotated[dict[str, float | None], Meta(description="p50, p95 and p99, milliseconds; null where unknown")]


class OffsetRange(msgspec.Struct, frozen=True, kw_only=True):
    """A half-open range of one partition: start_offset is in it, end_offset is not."""

    topic: Annotated[str, Meta(description="name of the topic")]
    partition: Annotated[int, Meta(description="number of the partition")]
    start_offset: Annotated[int, Meta(description="first offset in the range")]
    end_offset: Annotated[int, Meta(description="first offset behind the range")]


class ChangePoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where the change is estimated to have happened: the first sample after it."""

    sample_index: Annotated[int, Meta(description="how many samples the monitor had seen before it")]
    event_time_ms: Annotated[
        int, Meta(description="event time of its prediction, however late the label came, UTC milliseconds since 1970")
    ]
    prediction_offset: Annotated[int | None, Meta(description="its offset in the prediction topic, where known")] = None
    outcome_time_ms: Annotated[
        int | None,
        Meta(
            description="event time at which the first label came that tells of it, UTC milliseconds since 1970; null "
            "where no label is needed"
        ),
    ] = None


class FeatureContribution(msgspec.Struct, frozen=True, kw_only=True):
    """How much one feature takes part in a finding. The most drifted comes first."""

    feature: Annotated[str, Meta(description="its name")]
    statistic: Statistic
    threshold: Threshold
    before: Before = None
    after: After = None
    beyond: Annotated[
        bool,
        Meta(
            description="whether the statistic of the current window is at its threshold or beyond; false: only the "
            "evidence of all blocks together says that it moved"
        ),
    ] = True
    loss_association: Annotated[
        float | None,
        Meta(
            description="by how much the mean loss would change, in its own unit, if this feature alone had moved as "
            "it did; null while too few labels tell"
        ),
    ] = None
    loss_association_low: Annotated[
        float | None, Meta(description="lower bound of its 95 % interval; where that holds 0, nothing is known of it")
    ] = None
    loss_association_high: Annotated[float | None, Meta(description="upper bound of that interval")] = None

    @property
    def tells_of_loss(self) -> bool:
        """Whether labels tell that its move goes with a change of the loss: the interval does not hold 0."""
        low, high = self.loss_association_low, self.loss_association_high
        return low is not None and high is not None and (low > 0.0 or high < 0.0)


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What one detector saw."""

    detector: Annotated[str, Meta(description="name of the detector")]
    subject: Annotated[str, Meta(description="what was watched: error, prediction, a feature, a metric")]
    statistic: Statistic
    threshold: Threshold
    sample_count: Annotated[int, Meta(description="samples in the current window")]
    p_value: Annotated[float | None, Meta(description="where the detector has one")] = None
    reference_count: Annotated[int | None, Meta(description="samples in the reference window")] = None
    change_point: Annotated[
        ChangePoint | None, Meta(description="where the change began, as far as it can be told")
    ] = None
    before: Before = None
    after: After = None
    after_low: Annotated[
        float | None, Meta(description="lower bound of a 90 % interval of `after`, where it is an estimated mean")
    ] = None
    after_high: Annotated[float | None, Meta(description="upper bound of that interval")] = None
    features: Annotated[
        tuple[FeatureContribution, ...], Meta(description="the features that take part, most drifted first")
    ] = ()


class CasePart(msgspec.Struct, frozen=True, kw_only=True):
    """One incident as a part of a case."""

    kind: Annotated[DriftKind, Meta(description="what kind of thing moved")]
    subject: Annotated[str, Meta(description="what is watched: error, features, prediction, a metric")]
    incident_id: Annotated[str, Meta(description="its incident")]
    state: Annotated[Literal["firing", "resolved"], Meta(description="whether it still fires")]
    severity: Annotated[Severity, Meta(description="how bad it is by itself")]
    starts_at_ms: Annotated[int, Meta(description="event time at which it began to fire, UTC milliseconds since 1970")]
    change_time_ms: Annotated[
        int | None, Meta(description="event time of the estimated change, UTC milliseconds since 1970")
    ] = None


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One transition in the life of an incident."""

    alert_id: Annotated[str, Meta(description="of this transition; equals the CloudEvent's id")]
    incident_id: Annotated[str, Meta(description="shared by all transitions of one incident")]
    fingerprint: Annotated[str, Meta(description="of the cause; shared by all its incidents")]
    alertname: Annotated[str, Meta(description="CamelCase name of the cause, as Alertmanager wants it")]
    model_id: ModelId
    model_version: ModelVersion
    target: Target = None
    segment: Segment = None
    kind: Annotated[DriftKind, Meta(description="what kind of thing moved")]
    state: Annotated[AlertState, Meta(description="the state that the incident is in now")]
    severity: Annotated[Severity, Meta(description="how bad it is")]
    starts_at_ms: Annotated[
        int, Meta(description="event time at which the incident began to fire, UTC milliseconds since 1970")
    ]
    ends_at_ms: Annotated[
        int | None, Meta(description="event time at which it was resolved, UTC milliseconds since 1970")
    ] = None
    event_time_ms: EventTime
    summary: Annotated[str, Meta(description="one sentence for a person")]
    advice: Annotated[str, Meta(description="what to do about this kind of drift")]
    harmless_so_far: Annotated[bool, Meta(description="inputs moved, the loss did not")] = False
    muted: Annotated[bool, Meta(description="a person asked for quiet about this cause")] = False
    resolution: Annotated[str | None, Meta(description="why it was resolved")] = None
    evidence: Annotated[tuple[Evidence, ...], Meta(description="what the detectors saw")] = ()
    case_id: Annotated[
        str | None, Meta(description="shared by incidents of one model version that fire together: one story")
    ] = None
    case_severity: Annotated[
        Severity | None, Meta(description="the highest severity of the case's firing parts; null outside of a case")
    ] = None
    parts: Annotated[
        tuple[CasePart, ...], Meta(description="all incidents of the case, those that fire first, this one included")
    ] = ()
    notify: Annotated[
        bool,
        Meta(description="a person is to be notified: the case opened, got worse, or ended. False: a detail of it"),
    ] = True


class LabelCoverage(msgspec.Struct, frozen=True, kw_only=True):
    """How many of the version's predictions so far have labels."""

    predictions: Annotated[int, Meta(description="predictions of the version so far")]
    outcomes: Annotated[int, Meta(description="of these, how many have a label")]
    ratio: Annotated[float, Meta(description="outcomes divided by predictions, 0 to 1")]


class FineTuneTrigger(msgspec.Struct, frozen=True, kw_only=True):
    """A request to train, or a transition in the life of one."""

    trigger_id: Annotated[str, Meta(description="shared by all transitions of one trigger")]
    incident_id: Annotated[str | None, Meta(description="the incident that caused it; null when a person asked")] = None
    model_id: ModelId
    model_version: Annotated[str, Meta(description="the version to continue from")]
    target: Target = None
    state: Annotated[TriggerState, Meta(description="the state that the trigger is in now")]
    mode: Annotated[
        FineTuneMode, Meta(description="stateful continues from the current model, stateless starts from scratch")
    ]
    mode_reason: Annotated[str, Meta(description="why this mode")]
    reason: Annotated[str, Meta(description="why fine-tuning is asked for, or why it ended")]
    severity: Annotated[Severity, Meta(description="how bad the incident is")] = "warning"
    event_time_ms: EventTime
    attempt: Annotated[int, Meta(description="1 for the first trigger of an incident")] = 1
    labels: Annotated[int, Meta(description="labelled outcomes since the change point")] = 0
    label_coverage: Annotated[LabelCoverage | None, Meta(description="how much of the window has labels")] = None
    window: Annotated[tuple[OffsetRange, ...], Meta(description="training window in the input topics")] = ()
    window_start_ms: Annotated[
        int | None, Meta(description="event time at which the window starts, UTC milliseconds since 1970")
    ] = None
    window_end_ms: Annotated[
        int | None, Meta(description="event time before which it ends, UTC milliseconds since 1970")
    ] = None
    evidence: Annotated[tuple[Evidence, ...], Meta(description="what the detectors saw")] = ()
    new_model_version: Annotated[str | None, Meta(description="the version that training made")] = None
    loss_before: Annotated[float | None, Meta(description="mean loss before the change")] = None
    loss_during: Annotated[float | None, Meta(description="mean loss between change and trigger")] = None
    loss_after: Annotated[float | None, Meta(description="mean loss of the new version, once verified")] = None
    verified_better: Annotated[bool | None, Meta(description="the new version's loss is lower; null until known")] = (
        None
    )
    expires_at_ms: Annotated[
        int | None, Meta(description="event time at which it times out, UTC milliseconds since 1970")
    ] = None
    cooldown_until_ms: Annotated[
        int | None, Meta(description="event time before which none follows, UTC milliseconds since 1970")
    ] = None


class WindowMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Metrics over one window of outcomes; the estimated ones over one of predictions. An undefined one is null."""

    window: Annotated[str, Meta(description="its name, as last_1000 or 1h")]
    count: Annotated[int, Meta(description="outcomes in the window")]
    start_ms: Annotated[int | None, Meta(description="event time of its first outcome, UTC milliseconds since 1970")]
    end_ms: Annotated[int | None, Meta(description="event time of its last outcome, UTC milliseconds since 1970")]
    truncated: Annotated[bool, Meta(description="the window held more outcomes than are kept")] = False
    values: Annotated[dict[str, float | None], Meta(description="metric to value")] = {}
    per_class: Annotated[dict[str, dict[str, float | None]], Meta(description="class to metric to value")] = {}
    predictions: Annotated[
        int, Meta(description="predictions in the window that estimated metrics are made of; no labels needed")
    ] = 0
    confusion: Annotated[dict[str, dict[str, int]], Meta(description="label to prediction to count")] = {}


class MetricSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about one model version at one moment of event time."""

    snapshot_id: Annotated[str, Meta(description="equals the CloudEvent's id")]
    model_id: ModelId
    model_version: ModelVersion
    target: Target = None
    segment: Segment = None
    event_time_ms: Annotated[int, Meta(description="the moment, UTC milliseconds since 1970")]
    predictions_total: Annotated[int, Meta(description="predictions seen since monitoring began")]
    outcomes_total: Annotated[int, Meta(description="predictions joined with their label")]
    errors_total: Annotated[int, Meta(description="serving calls that failed")] = 0
    predictions_duplicate_total: Annotated[int, Meta(description="predictions dropped: their id was known")] = 0
    predictions_evicted_total: Annotated[
        int, Meta(description="predictions given up before their horizon: the join was full")
    ] = 0
    labels_expired_total: Annotated[int, Meta(description="predictions whose label did not come in time")] = 0
    labels_duplicate_total: Annotated[int, Meta(description="labels dropped: their revision was not higher")] = 0
    labels_corrected_total: Annotated[int, Meta(description="labels replaced by one of a higher revision")] = 0
    label_coverage_ratio: Annotated[
        float | None, Meta(description="outcomes divided by the predictions that could have one, 0 to 1")
    ] = None
    interval_start_ms: Annotated[
        int | None,
        Meta(
            description="moment of the snapshot before this one, or of the first prediction, UTC milliseconds since "
            "1970: label_delay_ms, latency_ms, throughput_per_second and error_rate are of the records from there to "
            "event_time_ms; totals are since monitoring began"
        ),
    ] = None
    label_delay_ms: Quantiles = {}
    latency_ms: Quantiles = {}
    throughput_per_second: Annotated[
        float | None, Meta(description="predictions per second of event time, in the interval")
    ] = None
    error_rate: Annotated[float | None, Meta(description="failed calls divided by calls, 0 to 1, in the interval")] = (
        None
    )
    problem: Annotated[
        Literal["binary", "multiclass", "regression"] | None,
        Meta(description="what the model is taken to solve; null while its first answers do not tell"),
    ] = None
    positive_class: Annotated[
        str | None, Meta(description="binary: the class that precision, recall, f1 and average_precision are of")
    ] = None
    score_class: Annotated[
        str | None,
        Meta(
            description="binary: the class that scores are read as the probability of; (answer): of the class that was "
            "answered; null without scores, or while nothing tells"
        ),
    ] = None
    score_class_reason: Annotated[str | None, Meta(description="who says so, or what in the answers shows it")] = None
    windows: Annotated[tuple[WindowMetrics, ...], Meta(description="metrics over each configured window")] = ()
    detectors: Annotated[
        dict[str, dict[str, float | None]], Meta(description="detector to statistic, threshold, level")
    ] = {}
    drift: Annotated[
        dict[str, float | None],
        Meta(description="feature to drift statistic divided by its threshold; null where nothing is known"),
    ] = {}
    data_quality: Annotated[
        dict[str, dict[str, float]], Meta(description="feature to rates: missing, wrong_type, out_of_range, unseen")
    ] = {}
    limits: Annotated[dict[str, int], Meta(description="limit to how often it was hit")] = {}


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A record that could not be used, where it lies and why."""

    dead_letter_id: Annotated[str, Meta(description="equals the CloudEvent's id")]
    reason: Annotated[str, Meta(description="a short code, as invalid_json or too_large")]
    message: Annotated[str, Meta(description="what is wrong, for a person")]
    path: Annotated[str, Meta(description="where in the record, as $.features.age")] = "$"
    topic: Annotated[str, Meta(description="topic of the record")]
    partition: Annotated[int, Meta(description="partition of the record")]
    offset: Annotated[int, Meta(description="offset of the record")]
    event_time_ms: Annotated[int, Meta(description="the record's timestamp, UTC milliseconds since 1970")]
    model_id: Annotated[str | None, Meta(description="which model, where the record tells")] = None
    prediction_id: Annotated[str | None, Meta(description="which prediction, where the record tells")] = None
    size_bytes: Annotated[int, Meta(description="length of the whole record")] = 0
    payload_base64: Annotated[str, Meta(description="the record's first bytes")] = ""
    payload_truncated: Annotated[bool, Meta(description="the record is longer than what payload_base64 holds")] = False


Output = Alert | FineTuneTrigger | MetricSnapshot | DeadLetter
