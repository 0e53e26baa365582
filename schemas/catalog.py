"""What there is on the wire: names, types, versions and default topics of all payloads."""

from typing import Any, Final

from schemas.events import Control, Label, Prediction
from schemas.outputs import Alert, DeadLetter, FineTuneTrigger, MetricSnapshot

VERSION: Final = 1
"""Of all schemas. Rises when a consumer that follows the old one would misread the new one; new fields do not."""

EVENTS: Final[dict[str, Any]] = {"prediction": Prediction, "label": Label, "control": Control}
OUTPUTS: Final[dict[str, type[Alert | FineTuneTrigger | MetricSnapshot | DeadLetter]]] = {
    "alert": Alert,
    "fine_tune_trigger": FineTuneTrigger,
    "metric_snapshot": MetricSnapshot,
    "dead_letter": DeadLetter,
}
PAYLOADS: Final[dict[str, Any]] = {**EVENTS, **OUTPUTS}
"""Name to type, what comes in before what goes out."""

DEFAULT_TOPICS: Final[dict[str, str]] = {
    "prediction": "tidegauge.predictions",
    "label": "tidegauge.labels",
    "control": "tidegauge.control",
    "alert": "tidegauge.alerts",
    "fine_tune_trigger": "tidegauge.triggers",
    "metric_snapshot": "tidegauge.metrics",
    "dead_letter": "tidegauge.dead-letters",
}
DEFAULT_CHANGELOG_TOPIC: Final = "tidegauge.changelog"
"""Internal: holds checkpoints, no payload of this catalog."""


def schema_id(name: str) -> str:
    """Give the `$id` of a payload's JSON Schema, which is the `dataschema` of its CloudEvents."""
    return f"urn:tidegauge:schema:{name}:v{VERSION}"


def event_type(name: str) -> str:
    """Give the `type` of an output's CloudEvents."""
    return f"io.tidegauge.{name}.v{VERSION}"
