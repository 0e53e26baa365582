"""Words for people: what an alert is called, what happened, and what to do about it.

Everything here is a pure function of its arguments, so that the same cause always gives the same sentence.
"""

import math
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from schemas.outputs import DriftKind, Evidence, FeatureContribution
from service.core.findings import Finding

LIMIT_SUBJECT = "max_incidents"
"""Subject of the operational incident that says: causes are no longer tracked, the bound of incidents is reached."""
MODELS_SUBJECT = "max_models"
PROBLEM_SUBJECT = "problem"
"""Subject of the operational incident that says: a model does not look like what it is watched as."""
SCORE_SUBJECT = "score_class"
"""Subject of the operational incident that says: scores speak of another class than they are read as."""
UNPREDICTED_SUBJECT = "max_unpredicted_models"
MEMORY_SUBJECT = "max_monitor_bytes"
PARKED_SUBJECT = "max_parked_monitor_bytes"
"""Subject of the operational incident that says: events of further models and versions are dead letters."""
FINE_TUNING_SUBJECT = "fine_tuning"
"""Subject of the operational incident that says: fine-tuning was tried as often as allowed, people must act."""

UNANSWERED_SUBJECT = "fine_tuning_unanswered"
"""Subject of the operational incident that says: triggers are sent, and no training pipeline has ever answered one."""
QUARANTINE_SUBJECT = "quarantined"
"""Subject of the operational incident that says: the monitors of this model fail, its records are dead letters."""

NO_FEATURES_SUBJECT = "no_features"
"""Subject of the operational incident that says: columns that are no features are not watched."""
LABEL_SUBJECTS = "labels_"
"""Beginning of the subjects of operational incidents that say: labels are missing, and why."""
REPEATED_SUBJECT = "repeated_predictions"
"""Subject of the operational incident that says: predictions come with identifiers of earlier ones."""
STRAY_SUBJECTS: Final = {
    (of, fault): f"{fault}_of_{of}"
    for of in ("control", "predictions", "labels")
    for fault in ("no_key", "other_key", "other_partition")
}
"""By input and fault: subjects of the operational incidents that say: records of this model lie in the wrong place."""

NAMED_FEATURES = 5
"""Features named in a summary. The others are counted; the evidence lists them."""
_TEXT_CHARS = 64
"""Longest text value (a category) in a summary. A longer one is cut and ends in three dots."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_ALERTNAMES: dict[DriftKind, str] = {
    "concept_drift": "ModelConceptDrift",
    "data_drift": "ModelDataDrift",
    "prediction_drift": "ModelPredictionDrift",
    "label_drift": "ModelLabelDrift",
    "data_quality": "ModelDataQuality",
    "performance": "ModelPerformanceDegraded",
    "latency": "ModelLatencyHigh",
    "operational": "TidegaugeLimitReached",
}
_OPERATIONAL_ALERTNAMES: dict[str, str] = {
    UNANSWERED_SUBJECT: "ModelFineTuningUnanswered",
    FINE_TUNING_SUBJECT: "ModelFineTuningExhausted",
    NO_FEATURES_SUBJECT: "ModelColumnsAreNoFeatures",
    QUARANTINE_SUBJECT: "ModelQuarantined",
    REPEATED_SUBJECT: "ModelPredictionsRepeated",
    PROBLEM_SUBJECT: "ModelProblemMisread",
    SCORE_SUBJECT: "ModelScoresMisread",
    **dict.fromkeys(STRAY_SUBJECTS.values(), "ModelRecordsMisplaced"),
}

_MISPLACED: Final = {subject: fault for (_, fault), subject in STRAY_SUBJECTS.items()}


NOVELTIES: Final = frozenset({"unseen", "new_feature"})
"""Detectors of data quality that find what the reference had not: a new country is no damage, a new spelling is."""


class Situation(NamedTuple):
    """What else fires for the same model version: the same drift asks for different acts in different company."""

    inputs_moved: bool = False
    """A data drift incident fires, or one of data quality that is of novelties alone."""
    loss_moved: bool = False
    """A concept drift or performance incident fires."""
    inputs_broken: bool = False
    """A data quality incident fires that is not of novelties alone."""
    novel: bool = False
    """The incident is of data quality, and of novelties alone."""


def alertname(kind: DriftKind, subject: str) -> str:
    """Name a cause as Alertmanager wants it: CamelCase, the same for all models, without figures.

    >>> alertname("concept_drift", "error"), alertname("latency", "error_rate")
    ('ModelConceptDrift', 'ModelErrorRateHigh')
    """
    if kind == "latency" and subject == "error_rate":
        return "ModelErrorRateHigh"
    if kind == "operational" and subject.startswith(LABEL_SUBJECTS):
        return "ModelLabelsMissing"
    if kind == "operational":
        return _OPERATIONAL_ALERTNAMES.get(subject, _ALERTNAMES[kind])
    return _ALERTNAMES[kind]


def figure(value: float | str) -> str:
    """Write a value with four significant digits; text is cut to a readable length.

    >>> figure(0.123456), figure(1234567.0), figure(2.0), figure(0.00001234), figure("UP")
    ('0.1235', '1,235,000', '2', '1.234e-05', 'UP')
    """
    if isinstance(value, str):
        return value if len(value) <= _TEXT_CHARS else value[: _TEXT_CHARS - 3] + "..."
    rounded = float(f"{value:.4g}")
    # Below 1e4 the g format writes no exponent for numbers of four digits; from 1e15 on an exponent reads better.
    if math.isfinite(rounded) and 1e4 <= abs(rounded) < 1e15:
        return f"{rounded:,.0f}"
    return f"{rounded:.4g}"


def instant(time_ms: int) -> str:
    """Write UTC milliseconds as RFC 3339, to the second.

    >>> instant(1_700_000_000_123)
    '2023-11-14T22:13:20Z'
    """
    return (_EPOCH + timedelta(seconds=time_ms // 1000)).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(milliseconds: float) -> str:
    """Write a duration with three significant digits, in the unit that reads best.

    >>> duration(250), duration(90_000), duration(5_400_000), duration(30 * 86_400_000)
    ('250 ms', '90 s', '90 min', '30 d')
    """
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)):
        if milliseconds >= 2 * size or (unit == "s" and milliseconds >= size):
            return f"{float(f'{milliseconds / size:.3g}'):g} {unit}"
    return f"{float(f'{milliseconds:.3g}'):g} ms"


def change_time(finding: Finding) -> int | None:
    """Give the event time of the estimated change: the finding's own, else the first that its evidence names."""
    if finding.change_time_ms is not None:
        return finding.change_time_ms
    points = (piece.change_point for piece in finding.evidence)
    return next((point.event_time_ms for point in points if point is not None), None)


def summarise(model_id: str, model_version: str, finding: Finding) -> str:
    """Write one sentence: which model, what moved from where to where, since when."""
    text = finding.summary.rstrip(". ") or _describe(finding)
    changed = change_time(finding)
    if changed is not None and instant(changed) not in text:
        text += f", since about {instant(changed)}"
    segment = f", segment {finding.segment}" if finding.segment is not None else ""
    return f"Model {model_id}, version {model_version}{segment}: {text}."


_LOSS_WENT = {
    None: "the loss drifted",
    "worse": "the loss became worse again, it went",
    "better": "the loss became better, but not well: it went",
}


def _describe(finding: Finding) -> str:
    """Build the sentence from the first piece of evidence where the monitor has not written one."""
    first = finding.evidence[0] if finding.evidence else None
    match finding.kind:
        case "concept_drift":
            what = f"{_LOSS_WENT[finding.further]}{_movement(first)}"
        case "data_drift":
            what = f"{_features(first)} moved away from the reference"
        case "data_quality":
            what = f"{_features(first)} arrived damaged more often than in the reference"
        case "prediction_drift":
            what = f"the predictions moved away from the reference{_movement(first)}"
        case "label_drift":
            what = f"the labels moved away from the reference{_movement(first)}"
        case "performance" | "latency":
            what = f"{finding.subject} crossed its line{_movement(first)}"
        case "operational":
            what = f"the limit {finding.subject} was reached"
    return what + _proof(first)


def _movement(evidence: Evidence | None) -> str:
    if evidence is None or evidence.after is None:
        return ""
    if evidence.before is None:
        return f" to {figure(evidence.after)}"
    return f" from {figure(evidence.before)} to {figure(evidence.after)}{_range(evidence)}"


def _range(evidence: Evidence) -> str:
    if evidence.after_low is None or evidence.after_high is None:
        return ""
    return f" (90 % interval {figure(evidence.after_low)} to {figure(evidence.after_high)})"


def _proof(evidence: Evidence | None) -> str:
    if evidence is None:
        return ""
    return (
        f" ({evidence.detector}: statistic {figure(evidence.statistic)}, threshold {figure(evidence.threshold)}, "
        f"{evidence.sample_count:,} samples)"
    )


def _features(evidence: Evidence | None) -> str:
    features = evidence.features if evidence is not None else ()
    if not features:
        return "the inputs"
    names = [_feature(feature) for feature in features[:NAMED_FEATURES]]
    more = len(features) - len(names)
    return f"{', '.join(names)}{f' and {more} more' if more else ''}"


def _feature(feature: FeatureContribution) -> str:
    name = figure(feature.feature)
    if feature.before is None or feature.after is None:
        return name
    return f"{name} ({figure(feature.before)} to {figure(feature.after)})"


_MOVED_ALONE = (
    "{what} moved, but the loss has not so far: harmless as far as labels tell. Find out whether the change is "
    "expected (season, campaign, new source); fine-tune only if the loss follows when its labels come."
)
_INPUTS_AND_LOSS = (
    "Inputs moved and the loss moved. If the new inputs are real, fine-tune on outcomes from the change on; if a "
    "source or a pipeline step is at fault, repair it first, for training on a fault makes it permanent."
)
_MOVED_AND_LOSS = (
    "{what} moved and the loss moved with them. Compare with the features that moved at the same time, then "
    "fine-tune on outcomes from the change on."
)
_LOSS_ALONE = (
    "The loss moved, inputs look as before: what inputs mean has changed. Fine-tune on outcomes from the change on; "
    "if that does not help, train from scratch or look for a missing feature."
)
_LOSS_AND_BROKEN = (
    "The loss moved while inputs arrive damaged. Repair the named features first and see whether the loss "
    "recovers; do not train on the damaged window."
)
_METRIC_ALONE = (
    "A metric crossed its line, inputs look as before. Look at the segments and at the confusion matrix; fine-tune on "
    "recent outcomes if the fall lasts."
)
_NOVEL = (
    "The named features have categories that the reference window had not, or are new themselves. If they are real (a "
    "new country, plan or product), the model never learnt them: fine-tune when their labels are there. If they are "
    "another spelling or encoding, repair the step that makes them, and do not train on them."
)
_FIXED: dict[str, str] = {
    "quality": (
        "Inputs arrive damaged (missing, wrong type, out of range or unseen). Repair the source or the pipeline step "
        "that makes the named features; predictions since the change are suspect, and so is training on them."
    ),
    "error_rate": (
        "Serving calls fail. Look at the serving logs and at the last deployment, and roll back if they coincide."
    ),
    "latency": "The model answers slowly. Look at load, at the size of inputs and at the last deployment.",
    FINE_TUNING_SUBJECT: (
        "Fine-tuning was tried as often as allowed and the incident still fires. People must act: look at the training "
        "pipeline and its data, roll back, or deploy a version made by hand; then say that a version was deployed."
    ),
    UNANSWERED_SUBJECT: (
        "Triggers to fine-tune are published and no training pipeline has ever reported on one. Connect one to the "
        "topic of triggers (docs/alerts-and-triggers.md), or set fine_tune.enabled: false in the model's profile if "
        "nobody is to act on them."
    ),
    QUARANTINE_SUBJECT: (
        "The service itself fails at this model, again after a restart; all other models go on. Keep the log lines "
        "(task_failed) and the records since then, and report the fault. Once its cause is gone (a newer program, "
        "another configuration, another producer), send the control event reset_monitor for the model: it is watched "
        "again from there on, with references learnt anew. Its records meanwhile are dead letters (quarantined)."
    ),
    "labels_absent": (
        "Without labels there is no metric, no concept drift and no fine-tuning. Look whether the producer of labels "
        "runs, and writes to the topic topics.labels. If labels take longer, raise core.join.label_horizon_ms above "
        "their delay. If this model gets none, say so: labels.expected: false in its profile."
    ),
    "labels_stopped": (
        "Look at the producer of labels: what it reads, where it stopped, its last deployment. Predictions wait for "
        "core.join.label_horizon_ms; labels that come within it still count."
    ),
    "labels_fewer": (
        "A part of the labels does not come. Look at what feeds their producer (a source, a region, a partition that "
        "stands still); where identifiers of some predictions changed, labels find none of them, and are dead letters "
        "later. If the new share is meant (sampling), send reset_monitor: it is learnt anew."
    ),
    "labels_unmatched": (
        "Compare the two identifiers. model_id, prediction_id, row_id and target of a label must be those of its "
        "prediction, as text, letter by letter, and both records must have the same key, so that they come into the "
        "same partition. Labels of predictions from before this service began to read are told like this too: that "
        "ends by itself."
    ),
    "labels_late": (
        "Raise core.join.label_horizon_ms above the delay of the labels (and core.join.max_bytes with it: 90 bytes a "
        "prediction), or let the labels come sooner. Late ones are dead letters and count in no metric."
    ),
    REPEATED_SUBJECT: (
        "A prediction whose identifier is known is dropped as a repetition: it is in no metric, and its label is taken "
        "for a repetition too. If records are sent twice on purpose (retries), nothing is lost. Else give every "
        "prediction a prediction_id of its own (a UUID; not a constant, nor a number that begins anew each day), or, "
        "for several rows of one request, a row_id."
    ),
    "no_key": (
        "Write every record under its model_id as key: without one it goes to any partition, and predictions, labels "
        "and commands of a model meet only in one. Records are used where they lie."
    ),
    "other_key": (
        "Write every record under its model_id as key, whatever else identifies it: predictions, labels and commands "
        "of a model meet only in one partition. Records are used where they lie."
    ),
    "other_partition": (
        "Let all producers choose the partition by murmur2 of the key, as Kafka's Java client does: for librdkafka "
        "(confluent-kafka) set partitioner=murmur2_random, for others see the table in docs/connect.md. Predictions, "
        "labels and commands of a model meet only in one partition. Where all producers choose by another rule, say so "
        "in topics.partitioner. Records are used where they lie."
    ),
    LIMIT_SUBJECT: (
        "More causes are open than are tracked; further ones are counted, not alerted. Look for one fault behind them "
        "all, and raise alerts.max_incidents only if they are truly different."
    ),
    MODELS_SUBJECT: (
        "Events of models and versions beyond the limit are dead letters (too_many). Find out who sends so many model "
        "ids (a request id in the field model_id or model_version?); raise core.max_models only if they are all real. "
        "Those that are watched keep their places until the state is rebuilt."
    ),
    MEMORY_SUBJECT: (
        "The monitors of all versions are beyond their budget of memory; those without an event for longest are kept "
        "compressed and come back when an event needs them, with nothing lost. Where an id is used as a version and "
        "so there are many, mend the producer; else raise core.max_monitor_bytes, or watch fewer features."
    ),
    PARKED_SUBJECT: (
        "Compressed monitors are beyond their bound too, and versions without an event for longest are forgotten: "
        "should they speak again, their references are learnt anew. Raise core.max_parked_monitor_bytes, give the "
        "topics more partitions, or find out who sends so many versions."
    ),
    UNPREDICTED_SUBJECT: (
        "Labels of models without a prediction wait for one, and have taken all the room there is; those of further "
        "models are dead letters (too_many) until their first prediction. Models with predictions are not touched. "
        "Find out who sends labels of models that do not exist, or whose predictions go to another partition."
    ),
    PROBLEM_SUBJECT: (
        "Say what it is with problem in the model's profile (binary, multiclass or regression; performance.max_classes "
        "for more than a hundred classes) and rebuild its state. If it is right as it is, mute this alert."
    ),
    SCORE_SUBJECT: (
        "AUC, average precision, log loss, Brier score and the estimates are wrong or missing as long as scores are "
        "read so. Say of which class they speak, by the name that answers and labels have: score_class in the events "
        "(or produce --score-class), or positive_label in the model's profile; without either, reset the model's "
        "monitors and it is found out anew. For three classes and more send probabilities. Where "
        "one of them is a mistake, mend its producer, say problem: binary in the profile and rebuild the state."
    ),
    NO_FEATURES_SUBJECT: (
        "Row numbers, time stamps and identifiers drift by what they are, so these columns are left out of drift and "
        "data quality. Best do not send them, or name them in feature_drift.exclude; name them in "
        "feature_drift.include, with the features, if they are to be watched all the same. It counts from the next "
        "reset of the monitors on."
    ),
    "operational": (
        "A limit keeps memory bounded: what is beyond it is counted and not watched. Find out whether the input is "
        "sane (an identifier used as a feature or as a segment?), then raise the limit in the model's profile."
    ),
}


def advise(kind: DriftKind, subject: str, situation: Situation) -> str:
    """Say what to do about one kind of drift, in the company in which it came."""
    match kind:
        case "data_drift":
            return _INPUTS_AND_LOSS if situation.loss_moved else _MOVED_ALONE.format(what="Inputs")
        case "prediction_drift" | "label_drift":
            what = "Predictions" if kind == "prediction_drift" else "Labels"
            return (_MOVED_AND_LOSS if situation.loss_moved else _MOVED_ALONE).format(what=what)
        case "concept_drift" | "performance":
            return _advise_on_loss(kind, situation)
        case "data_quality":
            return _NOVEL if situation.novel else _FIXED["quality"]
        case "latency":
            return _FIXED["error_rate" if subject == "error_rate" else "latency"]
        case "operational":
            return _FIXED.get(_MISPLACED.get(subject, subject), _FIXED["operational"])


def _advise_on_loss(kind: DriftKind, situation: Situation) -> str:
    if situation.inputs_broken:
        return _LOSS_AND_BROKEN
    if situation.inputs_moved:
        return _INPUTS_AND_LOSS
    return _LOSS_ALONE if kind == "concept_drift" else _METRIC_ALONE
