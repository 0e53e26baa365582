"""Records that could not be used, as outputs."""

import base64
from typing import Final, Literal, get_args

from schemas.events import Control
from schemas.identity import derive_id
from schemas.outputs import DeadLetter
from schemas.rejection import Reason
from service.core.decode import Rejected

UseReason = Literal[
    "wrong_type",  # text, where the model is a regression
    "too_many",  # of a model or a version beyond the limit
    "unknown_prediction",
    "label_too_late",  # its prediction waited for the label horizon, in vain
    "late_duplicate",  # its prediction had its label, longer ago than corrections are taken
    "correction_too_late",
    "unknown_model",
    "unknown_trigger",
    "wrong_model",
    "trigger_open",
]
"""Why an event that was decoded cannot be used all the same."""

REASONS: Final[tuple[str, ...]] = tuple(dict.fromkeys((*get_args(Reason), *get_args(UseReason))))
"""All the reasons that dead letters have."""


def from_rejected(rejected: Rejected, topic: str, partition: int, offset: int, timestamp_ms: int) -> DeadLetter:
    """Describe a record that could not be decoded."""
    why = rejected.rejection
    return DeadLetter(
        dead_letter_id=derive_id("dead_letter", topic, partition, offset, why.reason),
        reason=why.reason,
        message=why.message,
        path=why.path,
        topic=topic,
        partition=partition,
        offset=offset,
        event_time_ms=timestamp_ms,
        model_id=why.model_id,
        prediction_id=why.prediction_id,
        size_bytes=rejected.size_bytes,
        payload_base64=base64.b64encode(rejected.payload).decode(),
        payload_truncated=rejected.size_bytes > len(rejected.payload),
    )


def from_event(
    reason: UseReason,
    message: str,
    path: str,
    topic: str,
    partition: int,
    offset: int,
    time_ms: int,
    model_id: str,
    prediction_id: str | None = None,
) -> DeadLetter:
    """Describe an event that was decoded and then could not be used. Its bytes lie at its offset."""
    return DeadLetter(
        dead_letter_id=derive_id("dead_letter", topic, partition, offset, reason),
        reason=reason,
        message=message,
        path=path,
        topic=topic,
        partition=partition,
        offset=offset,
        event_time_ms=time_ms,
        model_id=model_id,
        prediction_id=prediction_id,
    )


def unknown_model(event: Control, topic: str, partition: int, offset: int) -> DeadLetter:
    """Describe a control event for a model of which nothing has been seen."""
    message, path = f"$.model_id: no event of {event.model_id} has been seen", "$.model_id"
    return from_event("unknown_model", message, path, topic, partition, offset, event.event_time_ms, event.model_id)
