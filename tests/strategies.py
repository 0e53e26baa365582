"""Valid events and outputs of every type, for the properties of all rooms.

Sizes are small on purpose: laws break on odd values, not on long lists.
"""

from typing import Any, get_args

from hypothesis import strategies as st

from schemas.events import (
    MIN_SAMPLING_RATE,
    AcceptReference,
    Control,
    FineTuneMode,
    FineTuneRequest,
    FineTuneStatus,
    Label,
    MuteAlert,
    Prediction,
    ResetMonitor,
    TrainingStatus,
    VersionDeployed,
)
from schemas.outputs import (
    Alert,
    AlertState,
    ChangePoint,
    DeadLetter,
    DriftKind,
    Evidence,
    FeatureContribution,
    FineTuneTrigger,
    LabelCoverage,
    MetricSnapshot,
    OffsetRange,
    Output,
    Severity,
    TriggerState,
    WindowMetrics,
)

LAST_MS = 253_402_300_799_999

finite = st.floats(allow_nan=False, allow_infinity=False)
not_negative = st.floats(min_value=0.0, allow_nan=False, allow_infinity=False)
shares = st.floats(min_value=0.0, max_value=1.0)
counts = st.integers(0, 2**53)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
identifiers = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
event_times = st.integers(0, LAST_MS)
scalars = finite | texts | st.booleans()


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def mappings(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(texts, values, max_size=4)


def tuples(items: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, max_size=2).map(tuple)


@st.composite
def predictions(draw: st.DrawFn) -> Prediction:
    error = draw(st.booleans())
    return draw(
        st.builds(
            Prediction,
            prediction_id=identifiers,
            model_id=identifiers,
            model_version=identifiers,
            event_time_ms=event_times,
            prediction=st.none() if error else scalars,
            row_id=optional(texts),
            target=optional(texts),
            score=optional(shares),
            probabilities=optional(mappings(shares)),
            features=optional(mappings(optional(scalars))),
            embeddings=optional(mappings(st.lists(optional(finite), max_size=3))),
            segments=optional(mappings(texts)),
            latency_ms=optional(not_negative),
            error=st.just(error),
            sampling_rate=st.floats(min_value=MIN_SAMPLING_RATE, max_value=1.0),
        )
    )


def labels() -> st.SearchStrategy[Label]:
    return st.builds(
        Label,
        prediction_id=identifiers,
        model_id=identifiers,
        label=scalars,
        event_time_ms=event_times,
        row_id=optional(texts),
        target=optional(texts),
        revision=st.integers(0, 2**31 - 1),
    )


@st.composite
def fine_tune_statuses(draw: st.DrawFn) -> FineTuneStatus:
    status = draw(st.sampled_from(get_args(TrainingStatus)))
    return draw(
        st.builds(
            FineTuneStatus,
            trigger_id=identifiers,
            model_id=identifiers,
            event_time_ms=event_times,
            status=st.just(status),
            model_version=identifiers if status == "completed" else optional(identifiers),
            reason=identifiers if status == "failed" else optional(texts),
        )
    )


def controls() -> st.SearchStrategy[Control]:
    said: dict[str, Any] = {"model_id": identifiers, "event_time_ms": event_times}
    return st.one_of(
        fine_tune_statuses(),
        st.builds(FineTuneRequest, mode=st.sampled_from(get_args(FineTuneMode)), reason=texts, **said),
        st.builds(ResetMonitor, model_version=optional(identifiers), **said),
        st.builds(AcceptReference, model_version=optional(identifiers), **said),
        st.builds(MuteAlert, fingerprint=identifiers, mute_for_ms=st.integers(0, 31_536_000_000), **said),
        st.builds(VersionDeployed, model_version=identifiers, **said),
    )


def change_points() -> st.SearchStrategy[ChangePoint]:
    return st.builds(ChangePoint, sample_index=counts, event_time_ms=event_times, prediction_offset=optional(counts))


def contributions() -> st.SearchStrategy[FeatureContribution]:
    return st.builds(
        FeatureContribution,
        feature=texts,
        statistic=finite,
        threshold=finite,
        before=optional(finite | texts),
        after=optional(finite | texts),
        loss_association=optional(shares),
    )


def evidence() -> st.SearchStrategy[Evidence]:
    return st.builds(
        Evidence,
        detector=texts,
        subject=texts,
        statistic=finite,
        threshold=finite,
        sample_count=counts,
        p_value=optional(shares),
        reference_count=optional(counts),
        change_point=optional(change_points()),
        before=optional(finite | texts),
        after=optional(finite | texts),
        features=tuples(contributions()),
    )


def alerts() -> st.SearchStrategy[Alert]:
    return st.builds(
        Alert,
        alert_id=identifiers,
        incident_id=identifiers,
        fingerprint=identifiers,
        alertname=identifiers,
        model_id=identifiers,
        model_version=identifiers,
        segment=optional(texts),
        kind=st.sampled_from(get_args(DriftKind)),
        state=st.sampled_from(get_args(AlertState)),
        severity=st.sampled_from(get_args(Severity)),
        starts_at_ms=event_times,
        ends_at_ms=optional(event_times),
        event_time_ms=event_times,
        summary=texts,
        advice=texts,
        harmless_so_far=st.booleans(),
        muted=st.booleans(),
        resolution=optional(texts),
        evidence=tuples(evidence()),
    )


def triggers() -> st.SearchStrategy[FineTuneTrigger]:
    ranges = st.builds(OffsetRange, topic=texts, partition=counts, start_offset=counts, end_offset=counts)
    return st.builds(
        FineTuneTrigger,
        trigger_id=identifiers,
        incident_id=optional(identifiers),
        model_id=identifiers,
        model_version=identifiers,
        state=st.sampled_from(get_args(TriggerState)),
        mode=st.sampled_from(get_args(FineTuneMode)),
        mode_reason=texts,
        reason=texts,
        severity=st.sampled_from(get_args(Severity)),
        event_time_ms=event_times,
        attempt=counts,
        labels=counts,
        label_coverage=optional(st.builds(LabelCoverage, predictions=counts, outcomes=counts, ratio=shares)),
        window=tuples(ranges),
        evidence=tuples(evidence()),
        new_model_version=optional(identifiers),
        loss_before=optional(finite),
        verified_better=optional(st.booleans()),
        cooldown_until_ms=optional(event_times),
    )


def window_metrics() -> st.SearchStrategy[WindowMetrics]:
    return st.builds(
        WindowMetrics,
        window=texts,
        count=counts,
        start_ms=optional(event_times),
        end_ms=optional(event_times),
        truncated=st.booleans(),
        values=mappings(optional(finite)),
        per_class=mappings(mappings(optional(finite))),
        confusion=mappings(mappings(counts)),
    )


def snapshots() -> st.SearchStrategy[MetricSnapshot]:
    return st.builds(
        MetricSnapshot,
        snapshot_id=identifiers,
        model_id=identifiers,
        model_version=identifiers,
        segment=optional(texts),
        event_time_ms=event_times,
        predictions_total=counts,
        outcomes_total=counts,
        label_coverage_ratio=optional(shares),
        latency_ms=mappings(optional(not_negative)),
        windows=tuples(window_metrics()),
        detectors=mappings(mappings(optional(finite))),
        drift=mappings(optional(finite)),
        data_quality=mappings(mappings(shares)),
        limits=mappings(counts),
    )


def dead_letters() -> st.SearchStrategy[DeadLetter]:
    return st.builds(
        DeadLetter,
        dead_letter_id=identifiers,
        reason=texts,
        message=texts,
        path=texts,
        topic=identifiers,
        partition=counts,
        offset=counts,
        event_time_ms=st.integers(-1, 2**62),
        model_id=optional(texts),
        prediction_id=optional(texts),
        size_bytes=counts,
        payload_base64=texts,
        payload_truncated=st.booleans(),
    )


def outputs() -> st.SearchStrategy[Output]:
    return alerts() | triggers() | snapshots() | dead_letters()
