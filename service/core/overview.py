"""What a task's models are at this moment, for those who watch the service. Reading it changes nothing."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Final, NamedTuple, Protocol

from schemas.outputs import DriftKind, MetricSnapshot, Severity
from service.core.findings import ALL
from service.core.intake import Role
from service.core.task import Task
from service.core.units import as_told, model_of
from service.core.version import VersionMonitor

DESCRIBED: Final = 500
"""Versions that are described at a restart: more would keep the records waiting for longer than a second."""


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


class Misplaced(NamedTuple):
    """Records of one model and input under another key or in another partition than they should be."""

    model_id: str
    role: Role
    number: int


class MemoryTotals(NamedTuple):
    """What the monitors of a task take, as of its last tick."""

    awake_bytes: int = 0
    parked_bytes: int = 0
    """Of versions that are put by, compressed."""
    parked: int = 0
    """Versions that are put by."""
    evicted: int = 0
    """Times that one was put by, since the task began."""
    dropped: int = 0
    """Versions that were forgotten since then."""


class Overview(NamedTuple):
    """All of it, of all models of a task."""

    totals: tuple[VersionTotals, ...] = ()
    incidents: tuple[FiringIncidents, ...] = ()
    quarantined: int = 0
    """Models in quarantine; see service/core/quarantine."""
    misplaced: tuple[Misplaced, ...] = ()
    memory: MemoryTotals = MemoryTotals()


def overview(task: Task) -> Overview:
    """Count what is there. Costs some 3 microseconds a version."""
    misplaced = tuple(Misplaced(*whose, number) for whose, number in task.strays.counts.items())
    held = len(task.quarantine.held)
    return Overview(tuple(_totals(task)), tuple(_incidents(task)), held, misplaced, _memory(task))


class Tells(Protocol):
    """Whoever tells what the model versions of a task have had."""

    def totals(self) -> Iterable[VersionTotals]:
        """Give it for each version."""
        ...


def scattered_models(tasks: Mapping[int, Tells]) -> dict[str, list[int]]:
    """Give the models that have predictions in several tasks, with their partitions, in order.

    No task sees all of such a model: its producers choose partitions by different rules or keys.
    """
    partitions: dict[str, set[int]] = {}
    for partition, task in tasks.items():
        for total in task.totals():
            if total.predictions:
                partitions.setdefault(model_of(total.model_id), set()).add(partition)
    return {model_id: sorted(found) for model_id, found in partitions.items() if len(found) > 1}


def described(task: Task) -> Iterator[MetricSnapshot]:
    """Give each version's metrics as of now, without ending the interval that its next snapshot tells of.

    Costs some 2 ms a version: for a task that was restored and whose last snapshots were told by an earlier owner. At
    most DESCRIBED versions, in the order in which they are known; the others are shown with their next snapshot.
    A version that cannot be described is left out: to look at a model must not stop the task. Its timers will fail too,
    and that is dealt with.
    """
    versions = ((name, version) for name, model in task.models.items() for _, version in model.versions.awake())
    for model_id, version in islice(versions, DESCRIBED):
        with suppress(Exception):
            yield from _described(version, task.watermark_of(model_id), task.sequence)


def _described(version: VersionMonitor, now_ms: int, sequence: int) -> list[MetricSnapshot]:
    segments = version.tell_segments(now_ms, sequence)
    return [as_told(snapshot) for snapshot in (version.describe(now_ms, sequence), *segments)]


def _totals(task: Task) -> Iterator[VersionTotals]:
    for model_id, model in task.models.items():
        for name, counted, outcomes in model.versions.totals():
            counts = counted.values
            yield VersionTotals(model_id, name, counts["predictions"], outcomes, counts["errors"], counts["expired"])


def _memory(task: Task) -> MemoryTotals:
    memory = task.memory
    parked_bytes = sum([model.versions.parked_bytes() for model in task.models.values()])
    return MemoryTotals(
        memory.awake_bytes, parked_bytes, memory.parked_count, memory.evicted_total, memory.dropped_total
    )


def _incidents(task: Task) -> Iterator[FiringIncidents]:
    policies = [(ALL, task.limits.alerts), *((name, model.alerts) for name, model in task.models.items())]
    policies += task.strays.alerts.items()
    firing: Counter[tuple[str, DriftKind, Severity]] = Counter(
        (name, *cause) for name, policy in policies for cause in policy.firing()
    )
    firing.update((model_id, "operational", "critical") for model_id in task.quarantine.held)
    for (model_id, kind, severity), count in firing.items():
        yield FiringIncidents(model_id, kind, severity, count)
