"""What Prometheus sees. Read when asked for, from numbers that the tasks keep anyway.

Labels are bounded: roles and partitions by the topics, models by core.max_models, features by max_series_per_model.
Identifiers of events are never labels.
"""

import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from schemas.outputs import MetricSnapshot
from service.core.overview import FiringIncidents, MemoryTotals, VersionTotals, scattered_models
from service.core.units import split, unit_of


class TaskNumbers(Protocol):
    """What a task tells of itself."""

    commits_total: int
    snapshots_total: int
    restarts_total: int
    steps_total: int
    forced_steps_total: int
    watermark_ms: int

    @property
    def phase(self) -> str:
        """What it is doing."""
        ...

    @property
    def ready(self) -> bool:
        """Whether it works."""
        ...

    @property
    def quarantined(self) -> int:
        """How many models are in quarantine."""
        ...

    def by_input(self) -> Iterable[tuple[str, int, int, int | None]]:
        """Give (input, records, bytes, lag) of each input; no lag while the task is not the worker's."""
        ...

    def by_output(self) -> Iterable[tuple[str, int]]:
        """Give (type, count) of each kind of output."""
        ...

    def dead_letters(self) -> Iterable[tuple[str, int]]:
        """Give (reason, count)."""
        ...

    def snapshots(self) -> Iterable[MetricSnapshot]:
        """Give the newest snapshot of each model version."""
        ...

    def totals(self) -> Iterable[VersionTotals]:
        """Give what each model version has had, as of the last commit."""
        ...

    def incidents(self) -> Iterable[FiringIncidents]:
        """Give how many incidents of each model fire, by kind and severity, as of the last commit."""
        ...

    def misplaced(self) -> Iterable[tuple[str, str, int]]:
        """Give (model, input, records that lie in a wrong place), as of the last commit."""
        ...

    def memory(self) -> MemoryTotals:
        """Say what the monitors take, as of the last commit."""
        ...

    def durations(self) -> Iterable[tuple[str, Sequence[tuple[float, int]], float]]:
        """Give (step or commit, how often it took at most so many seconds, the last without bound; sum of seconds)."""
        ...


class Observed(Protocol):
    """Whose numbers are shown."""

    @property
    def stats(self) -> Mapping[int, TaskNumbers]:
        """Partition number to its task's numbers."""
        ...


class _Tasks(Collector):
    def __init__(self, observed: Observed, max_series_per_model: int) -> None:
        self._observed = observed
        self._max_series = max_series_per_model

    def collect(self) -> Iterator[Metric]:
        stats = dict(self._observed.stats)
        yield from _input_metrics(stats)
        yield from _task_metrics(stats)
        yield from _durations(stats)
        yield from _output_metrics(stats)
        yield _incidents(stats)
        yield from _memory(stats)
        yield from _totals(stats)
        yield _misplaced(stats)
        yield _scattered(stats)
        yield from _model_metrics(stats, self._max_series)
        yield _build_info()


def registry_of(observed: Observed, max_series_per_model: int) -> CollectorRegistry:
    """Make a registry that shows a worker's tasks and their models, and the process that it runs in."""
    registry = CollectorRegistry()
    registry.register(_Tasks(observed, max_series_per_model))
    ProcessCollector(registry=registry)
    return registry


def _build_info() -> Metric:
    info = GaugeMetricFamily("tidegauge_build_info", "1, with what runs as labels.", labels=["version", "python"])
    info.add_metric([version("tidegauge"), platform.python_version()], 1)
    return info


def _input_metrics(stats: Mapping[int, TaskNumbers]) -> Iterator[Metric]:
    labels = ["input", "partition"]
    records = CounterMetricFamily("tidegauge_records", "Records read.", labels=labels)
    size = CounterMetricFamily("tidegauge_read_bytes", "Bytes of records read.", labels=labels)
    lag = GaugeMetricFamily(
        "tidegauge_lag_records",
        "Records that are not worked on yet: in the log, or read and waiting.",
        labels=labels,
    )
    for partition, task in stats.items():
        for name, count, size_bytes, behind in task.by_input():
            key = [name, str(partition)]
            records.add_metric(key, count)
            size.add_metric(key, size_bytes)
            if behind is not None:
                lag.add_metric(key, behind)
    yield from (records, size, lag)


def _task_metrics(stats: Mapping[int, TaskNumbers]) -> Iterator[Metric]:
    labels = ["partition"]
    ready = GaugeMetricFamily("tidegauge_task_ready", "1 while the task has its state and works.", labels=labels)
    phase = GaugeMetricFamily(
        "tidegauge_task_phase",
        "1, with what the task is doing as a label; failed: see the log, a person may have to decide.",
        labels=["partition", "phase"],
    )
    quarantined = GaugeMetricFamily(
        "tidegauge_quarantined_models",
        "Models whose monitors fail: their records are dead letters until reset_monitor.",
        labels=labels,
    )
    watermark = GaugeMetricFamily(
        "tidegauge_watermark_timestamp_seconds", "Clock of the log, by timestamps of records.", labels=labels
    )
    counters = {
        "commits": CounterMetricFamily("tidegauge_commits", "Transactions committed.", labels=labels),
        "snapshots": CounterMetricFamily("tidegauge_state_snapshots", "Snapshots of state written.", labels=labels),
        "restarts": CounterMetricFamily(
            "tidegauge_task_restarts", "Times a failed task was acquired again.", labels=labels
        ),
        "steps": CounterMetricFamily("tidegauge_steps", "Steps taken.", labels=labels),
        "forced_steps": CounterMetricFamily("tidegauge_forced_steps", "Steps that an idle input ended.", labels=labels),
    }
    for partition, task in stats.items():
        key = [str(partition)]
        ready.add_metric(key, task.ready)
        phase.add_metric([str(partition), task.phase], 1)
        quarantined.add_metric(key, task.quarantined)
        watermark.add_metric(key, task.watermark_ms / 1000)
        for name, counter in counters.items():
            counter.add_metric(key, getattr(task, f"{name}_total"))
    yield from (ready, phase, quarantined, watermark, *counters.values())


def _output_metrics(stats: Mapping[int, TaskNumbers]) -> Iterator[Metric]:
    outputs = CounterMetricFamily("tidegauge_outputs", "Output events.", labels=["type", "partition"])
    dead = CounterMetricFamily(
        "tidegauge_dead_letters", "Records that could not be used.", labels=["reason", "partition"]
    )
    for partition, task in stats.items():
        for name, count in task.by_output():
            outputs.add_metric([name, str(partition)], count)
        for reason, count in task.dead_letters():
            dead.add_metric([reason, str(partition)], count)
    yield from (outputs, dead)


def _durations(stats: Mapping[int, TaskNumbers]) -> Iterator[Metric]:
    families = {
        name: HistogramMetricFamily(f"tidegauge_{name}_duration_seconds", text, labels=["partition"])
        for name, text in _DURATIONS.items()
    }
    for partition, task in stats.items():
        for name, counts, sum_s in task.durations():
            buckets = [(_bound(bound), count) for bound, count in counts]
            families[name].add_metric([str(partition)], buckets, sum_s)
    yield from families.values()


def _bound(seconds: float) -> str:
    return str(floatToGoString(seconds))  # type: ignore[no-untyped-call]  # its types are missing


def _memory(stats: Mapping[int, TaskNumbers]) -> Iterator[Metric]:
    labels = ["partition"]
    held = GaugeMetricFamily(
        "tidegauge_monitor_bytes",
        "Bytes of the monitors of versions: in memory as they work, or put by and compressed.",
        labels=["state", "partition"],
    )
    parked = GaugeMetricFamily(
        "tidegauge_parked_versions", "Versions that are put by until an event needs them.", labels=labels
    )
    evicted = CounterMetricFamily("tidegauge_versions_evicted", "Times that a version was put by.", labels=labels)
    dropped = CounterMetricFamily(
        "tidegauge_versions_dropped", "Versions forgotten for want of memory: they begin anew.", labels=labels
    )
    for partition, task in stats.items():
        memory, key = task.memory(), [str(partition)]
        held.add_metric(["awake", *key], memory.awake_bytes)
        held.add_metric(["parked", *key], memory.parked_bytes)
        parked.add_metric(key, memory.parked)
        evicted.add_metric(key, memory.evicted)
        dropped.add_metric(key, memory.dropped)
    yield from (held, parked, evicted, dropped)


def _incidents(stats: Mapping[int, TaskNumbers]) -> Metric:
    firing = GaugeMetricFamily(
        "tidegauge_incidents_firing",
        "Incidents that fire, muted ones included; no series where none does.",
        labels=["model_id", "kind", "severity", "partition"],
    )
    for partition, task in stats.items():
        for incident in task.incidents():
            labels = {"kind": incident.kind, "severity": incident.severity, "partition": str(partition)}
            firing.add_sample(firing.name, _named(incident.model_id) | labels, incident.number)
    return firing


_DURATIONS: Final = {
    "step": "Time that a step took: the work on some records, without reading and writing.",
    "commit": "Time that a commit took: outputs and state, written and confirmed.",
}

_TOTALS: Final = {
    "predictions": "Predictions observed.",
    "outcomes": "Predictions joined with their labels.",
    "errors": "Serving calls that failed.",
    "labels_expired": "Predictions whose label did not come in time.",
}


def _totals(stats: Mapping[int, TaskNumbers]) -> Iterator[Metric]:
    labels = ["model_id", "model_version", "segment"]
    families = {
        name: CounterMetricFamily(f"tidegauge_model_{name}", text, labels=labels) for name, text in _TOTALS.items()
    }
    sums: Counter[tuple[str, str, str, str]] = Counter()
    for task in stats.values():
        for model_id, model_version, *counts in task.totals():
            for name, count in zip(families, counts, strict=True):
                sums[name, model_id, model_version, ""] += count
        for snapshot in task.snapshots():
            if snapshot.segment is not None:
                sums["outcomes", _unit(snapshot), snapshot.model_version, snapshot.segment] += snapshot.outcomes_total
    for (name, unit, model_version, segment), total in sums.items():
        key = _named(unit) | {"model_version": model_version, "segment": segment}
        families[name].add_sample(f"{families[name].name}_total", key, total)
    yield from families.values()


def _misplaced(stats: Mapping[int, TaskNumbers]) -> Metric:
    found = CounterMetricFamily(
        "tidegauge_misplaced_records",
        "Records under another key, or in another partition, than their model's.",
        labels=["model_id", "input", "partition"],
    )
    for partition, task in stats.items():
        for model_id, name, number in task.misplaced():
            found.add_metric([model_id, name, str(partition)], number)
    return found


def _scattered(stats: Mapping[int, TaskNumbers]) -> Metric:
    tasks = GaugeMetricFamily(
        "tidegauge_model_tasks",
        "Tasks of this worker in which a model has predictions, where they are more than one.",
        labels=["model_id"],
    )
    for model_id, partitions in scattered_models(stats).items():
        tasks.add_metric([model_id], len(partitions))
    return tasks


def _named(unit: str) -> dict[str, str]:
    """Give the labels of a model, with its target only where there is one."""
    model_id, target = split(unit)
    return {"model_id": model_id} if target is None else {"model_id": model_id, "target": target}


def _unit(snapshot: MetricSnapshot) -> str:
    return snapshot.model_id if snapshot.target is None else unit_of(snapshot.model_id, snapshot.target)


_MODEL: Final = ["model_id", "model_version", "segment"]


def _model_metrics(stats: Mapping[int, TaskNumbers], max_series: int) -> Iterator[Metric]:
    value = GaugeMetricFamily("tidegauge_model_metric", "Rolling metric.", labels=[*_MODEL, "window", "metric"])
    drift = GaugeMetricFamily(
        "tidegauge_feature_drift_ratio", "Drift statistic divided by its threshold.", labels=[*_MODEL, "feature"]
    )
    left_out = GaugeMetricFamily(
        "tidegauge_feature_series_left_out", "Features beyond the bound on series.", labels=_MODEL
    )
    statistic = GaugeMetricFamily(
        "tidegauge_detector_ratio", "Detector statistic divided by its threshold.", labels=[*_MODEL, "detector"]
    )
    beyond = CounterMetricFamily(
        "tidegauge_limit_hits", "Values beyond a limit: counted, not watched.", labels=[*_MODEL, "limit"]
    )
    for snapshot, partition in _snapshots(stats):
        add = _Adder(snapshot, partition)
        for window in snapshot.windows:
            for metric, number in window.values.items():
                if number is not None:
                    add(value, number, window=window.window, metric=metric)
        ranked = sorted(((ratio, name) for name, ratio in snapshot.drift.items() if ratio is not None), reverse=True)
        for ratio, name in ranked[:max_series]:
            add(drift, ratio, feature=name)
        for name, hits in snapshot.limits.items():
            add(beyond, hits, limit=name)
        add(left_out, max(len(ranked) - max_series, 0))
        for name, verdict in snapshot.detectors.items():
            now, threshold = verdict.get("statistic"), verdict.get("threshold")
            if now is not None and threshold:
                add(statistic, now / threshold, detector=name)
    yield from (value, drift, left_out, beyond, statistic)


class _Adder:
    """Adds numbers of a snapshot, with its partition only where the model lives in several and series would collide."""

    def __init__(self, snapshot: MetricSnapshot, partition: int | None) -> None:
        own = (snapshot.model_id, snapshot.model_version, snapshot.segment or "")
        self._labels = dict(zip(_MODEL, own, strict=True)) | _named(_unit(snapshot))
        if partition is not None:
            self._labels["partition"] = str(partition)

    def __call__(self, family: Metric, number: float, **more: str) -> None:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        family.add_sample(name, self._labels | more, number)


def _snapshots(stats: Mapping[int, TaskNumbers]) -> Iterator[tuple[MetricSnapshot, int | None]]:
    """Give the newest snapshots, with the partition of those whose model lives in several."""
    newest = {partition: list(task.snapshots()) for partition, task in stats.items()}
    homes = Counter(model_id for snapshots in newest.values() for model_id in {one.model_id for one in snapshots})
    for partition, snapshots in newest.items():
        for snapshot in snapshots:
            yield snapshot, partition if homes[snapshot.model_id] > 1 else None
