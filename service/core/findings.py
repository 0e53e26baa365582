"""What monitors tell policies: findings, in the order of the records that caused them."""

from typing import Literal

import msgspec

from detectors.protocol import Level
from schemas.outputs import ChangePoint, DriftKind, Evidence, FeatureContribution

__all__ = ["ALL", "ChangePoint", "DriftKind", "Evidence", "FeatureContribution", "Finding", "Level"]


ALL = "(all)"
"""Version (and model) of an alert that is about all versions of a model (or all models of a task)."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One monitor's word on one cause at one record.

    A cause is (kind, subject): all detectors of the error stream share one, all features share one. Level DRIFT
    opens or keeps its incident, STABLE says that the cause is gone; monitors need not repeat either.
    """

    sequence: int
    """Running number, in the task, of the record that caused it. Findings are ordered by it."""
    time_ms: int
    """Watermark at that record."""
    kind: DriftKind
    subject: str
    """error, features, prediction, label, latency, error_rate, or metric@window."""
    level: Level
    severity: str = "warning"
    """warning or critical; the policy may raise it."""
    evidence: tuple[Evidence, ...] = ()
    summary: str = ""
    """One sentence for a person, without the model's name."""
    segment: str | None = None
    change_outcome: int | None = None
    """Concept drift: outcomes of the monitor that came before the estimated change."""
    change_time_ms: int | None = None
    """Event time of the estimated change."""
    further: Literal["worse", "better"] | None = None
    """DRIFT: a further change of what is told already. Readers hear of it at once, people if it is worse."""
    resolution: str | None = None
    """STABLE: why the cause is gone."""
