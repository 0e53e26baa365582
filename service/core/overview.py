"""What a task's models are at this moment, for those who watch the service. Reading it changes nothing."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from schemas.outputs import DriftKind, MetricSnapshot, Severity
from service.core.limits import ALL
from service.core.task import Task


class VersionTotals(NamedTuple):
    """What one model version has had since it was first seen."""

    model_id: str
    model_version: str
    predictions: int
    outcomes: int
    errors: int
    expired: int


class FiringIncidents(NamedTuple):
    """Incidents of one model that fire, muted ones included. Model "(all)": those about the whole task."""

    model_id: str
    kind: DriftKind
    severity: Severity
    number: int


class Overview(NamedTuple):
    """Both, of all models of a task."""

    totals: tuple[VersionTotals, ...] = ()
    incidents: tuple[FiringIncidents, ...] = ()


def overview(task: Task) -> Overview:
    """Count what is there. Costs about a microsecond a version, and so may be asked at each commit."""
    return Overview(tuple(_totals(task)), tuple(_incidents(task)))


def described(task: Task) -> Iterator[MetricSnapshot]:
    """Give each version's metrics as of now, without ending the interval that its next snapshot tells of.

    Costs milliseconds a version: for a task that was restored and whose last snapshots were told by an earlier owner.
    """
    for model in task.models.values():
        for version in model.versions.values():
            yield version.describe(task.watermark_ms, task.sequence)
            yield from version.tell_segments(task.watermark_ms, task.sequence)


def _totals(task: Task) -> Iterator[VersionTotals]:
    for model_id, model in task.models.items():
        for name, version in model.versions.items():
            counts = version.counts.values
            yield VersionTotals(
                model_id, name, counts["predictions"], version.window.total, counts["errors"], counts["expired"]
            )


def _incidents(task: Task) -> Iterator[FiringIncidents]:
    policies = [(ALL, task.limits.alerts), *((name, model.alerts) for name, model in task.models.items())]
    for model_id, policy in policies:
        for (kind, severity), count in Counter(policy.firing()).items():
            yield FiringIncidents(model_id, kind, severity, count)
