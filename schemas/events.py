"""What comes in: predictions, labels, and what training pipelines and people say.

Types are msgspec structs: one definition gives the decoder (errors name the path), the JSON Schema and the
documentation. Numbers of every kind arrive as floats, for JSON knows no other. What one field cannot say alone
(a prediction is absent exactly where the serving call failed) the codec checks.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MAX_ID_CHARS = 256
"""Longest identifier accepted. A longer one is a dead letter: it is a payload in the wrong field."""

MAX_FEATURES = 10_000
"""Most features in one event. Wire limit; how many are watched is a setting of the model's profile."""

MAX_CLASSES = 10_000
"""Most classes in `probabilities`. More is an embedding or a vocabulary, which is no class distribution."""

MAX_CLASS_CHARS = 1_024
"""Longest class name, as a prediction, a label or a key of `probabilities`. A longer one is generated text."""

MAX_SEGMENTS = 64
"""Most segments in one event: each is a monitor of its own, so that a dozen is already much."""

MAX_EMBEDDINGS = 16
"""Most vectors in one event; more is a dead letter. How many are watched is a setting of the model's profile."""

MIN_SAMPLING_RATE = 1e-9
"""One event logged in a billion. A smaller share is no share: its weight would outweigh all others for good, or be
infinite in the 32 bits that the join keeps of it."""

MAX_DIMENSION = 8_192
"""Most numbers in one vector; a longer one is a dead letter. The longest in use (4,096) twice; some 160 kB as JSON."""

Identifier = Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARS)]
ShortText = Annotated[str, Meta(max_length=MAX_ID_CHARS)]
LongText = Annotated[str, Meta(max_length=4096)]
MAX_EPOCH_MS = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z, the last instant that RFC 3339 can write."""
EpochMs = Annotated[int, Meta(ge=0, le=MAX_EPOCH_MS)]
Probability = Annotated[float, Meta(ge=0.0, le=1.0)]
ClassName = Annotated[str, Meta(max_length=MAX_CLASS_CHARS)]
WholeNumber = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Scalar = WholeNumber | float | ClassName | bool
"""A prediction or a label: a number (regression, or a class), a class name, or a boolean. Whole numbers stay exact."""
FeatureValue = float | str | bool | None
Vector = Annotated[list[float | None], Meta(max_length=MAX_DIMENSION)]
"""An embedding. Null stands for a number that is not finite: such a vector is counted and not watched."""
TrainingStatus = Literal["acknowledged", "running", "completed", "failed"]
FineTuneMode = Literal["stateful", "stateless"]

PredictionId = Annotated[Identifier, Meta(description="join key; the label carries the same one")]
ModelId = Annotated[Identifier, Meta(description="which model")]
ModelVersion = Annotated[Identifier, Meta(description="which version of the model")]
RowId = Annotated[ShortText | None, Meta(description="tells rows of one request apart")]
Target = Annotated[ShortText | None, Meta(description="which of several outputs this is")]


class Prediction(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One answer of a deployed model."""

    prediction_id: PredictionId
    model_id: ModelId
    model_version: Annotated[Identifier, Meta(description="the version that answered")]
    event_time_ms: Annotated[EpochMs, Meta(description="when the model answered, UTC milliseconds since 1970")]
    prediction: Annotated[
        Scalar | None, Meta(description="number, class name or boolean; absent exactly where error is true")
    ] = None
    row_id: RowId = None
    target: Target = None
    score: Annotated[Probability | None, Meta(description="probability of the class that score_class names")] = None
    score_class: Annotated[
        Scalar | None,
        Meta(
            description="the class that score speaks of: always the same one, or the one that was answered; null: "
            "positive_label of the profile, else found out from the answers"
        ),
    ] = None
    probabilities: Annotated[
        Annotated[dict[ClassName, Probability], Meta(max_length=MAX_CLASSES)] | None,
        Meta(description="class name to probability"),
    ] = None
    # Feature names have no limit of their own: a constrained key leaves msgspec's key cache, which costs a fifth
    # of the whole decoding. The size of the record bounds them.
    features: Annotated[
        Annotated[dict[str, FeatureValue], Meta(max_length=MAX_FEATURES)] | None,
        Meta(description="feature name to number, string, boolean or null; null means missing"),
    ] = None
    embeddings: Annotated[
        Annotated[dict[str, Vector], Meta(max_length=MAX_EMBEDDINGS)] | None,
        Meta(description="name to vector: what the model made of a text, an image, a user"),
    ] = None
    segments: Annotated[
        Annotated[dict[ShortText, ShortText], Meta(max_length=MAX_SEGMENTS)] | None,
        Meta(description="segment name to its value, as country to DE"),
    ] = None
    latency_ms: Annotated[
        Annotated[float, Meta(ge=0.0)] | None, Meta(description="how long the answer took, milliseconds")
    ] = None
    error: Annotated[bool, Meta(description="the serving call failed; then there is no prediction")] = False
    sampling_rate: Annotated[
        Annotated[float, Meta(ge=MIN_SAMPLING_RATE, le=1.0)],
        Meta(description="share of the traffic that was logged; an event weighs 1 / sampling_rate in counts"),
    ] = 1.0


class Label(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """The ground truth of one prediction, whenever it becomes known."""

    prediction_id: PredictionId
    model_id: ModelId
    label: Annotated[Scalar, Meta(description="number, class name or boolean")]
    event_time_ms: Annotated[EpochMs, Meta(description="when the truth became known, UTC milliseconds since 1970")]
    row_id: RowId = None
    target: Target = None
    revision: Annotated[
        Annotated[int, Meta(ge=0, le=2**31 - 1)],
        Meta(description="a label with a higher revision replaces one with a lower"),
    ] = 0


SaidAt = Annotated[EpochMs, Meta(description="when it was said, UTC milliseconds since 1970")]


class FineTuneStatus(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="fine_tune_status", tag_field="type"
):
    """What a training pipeline reports about a trigger that it was given."""

    trigger_id: Annotated[Identifier, Meta(description="of the trigger that is reported on")]
    model_id: ModelId
    event_time_ms: SaidAt
    status: Annotated[TrainingStatus, Meta(description="how far the training is")]
    model_version: Annotated[
        Identifier | None, Meta(description="the version that training made; required when completed")
    ] = None
    reason: Annotated[LongText | None, Meta(description="why it failed; required when failed")] = None


class FineTuneRequest(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="fine_tune", tag_field="type"
):
    """A person asks for fine-tuning now."""

    model_id: ModelId
    event_time_ms: SaidAt
    mode: Annotated[
        FineTuneMode, Meta(description="stateful continues from the current model, stateless starts from scratch")
    ] = "stateful"
    reason: Annotated[LongText, Meta(description="why, for the record")] = "requested by an operator"


class ResetMonitor(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="reset_monitor", tag_field="type"
):
    """Forget the references and detectors of a model and learn them anew."""

    model_id: ModelId
    event_time_ms: SaidAt
    model_version: Annotated[Identifier | None, Meta(description="one version; all of them when absent")] = None


class AcceptReference(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="accept_reference", tag_field="type"
):
    """Take what a model's drifted inputs, predictions, labels and loss are now for normal, and end their alerts."""

    model_id: ModelId
    event_time_ms: SaidAt
    model_version: Annotated[Identifier | None, Meta(description="one version; all of them when absent")] = None


class MuteAlert(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="mute_alert", tag_field="type"
):
    """Keep quiet about one cause for a while. Muted incidents go on being tracked."""

    model_id: ModelId
    event_time_ms: SaidAt
    fingerprint: Annotated[Identifier, Meta(description="the alert's fingerprint")]
    # 31,536,000,000 ms is a year of 365 days; who wants to be quiet for longer should change the configuration.
    mute_for_ms: Annotated[int, Meta(ge=0, le=31_536_000_000, description="for how long, milliseconds; 0 unmutes")]


class VersionDeployed(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="version_deployed", tag_field="type"
):
    """A new model version serves from now on, however it came about."""

    model_id: ModelId
    event_time_ms: SaidAt
    model_version: Annotated[Identifier, Meta(description="the version that serves now")]


Control = FineTuneStatus | FineTuneRequest | ResetMonitor | AcceptReference | MuteAlert | VersionDeployed
Event = Prediction | Label | Control
