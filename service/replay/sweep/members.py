"""One model under many configurations."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec

from detectors.protocol import State
from schemas.outputs import MetricSnapshot, WindowMetrics
from service.core.columns import Int, Outcomes
from service.core.effects import Caused
from service.core.findings import Finding
from service.core.label_flow import Unmet
from service.core.model import ModelMonitor
from service.core.prepare import ControlRow, TaskTopics
from service.core.reference import stored_reference
from service.core.repeated_ids import Repeated
from service.core.roster import Model
from service.core.settings import ModelProfile
from service.core.version import VersionMonitor
from service.core.version_batch import VersionBatch
from service.core.version_state import JoinCounts
from service.replay.sweep.shared import (
    Moment,
    SharedBanks,
    SharedEmbeddings,
    SharedEstimate,
    SharedFeatures,
    SharedLabels,
    SharedLatency,
    SharedPredictions,
    SharedRows,
)
from service.replay.sweep.shared_loss import SharedLoss, Tracks

T = TypeVar("T")


class Pool:
    """What the configurations share of one version: one object for each set of settings that differs."""

    def __init__(self, moment: Moment, reference: State) -> None:
        self._moment = moment
        self._reference = reference
        self._made: dict[tuple[str, bytes], object] = {}
        self._banks = SharedBanks()
        self._tracks: dict[bool, Tracks] = {}
        self._metrics: dict[bytes, tuple[WindowMetrics, ...]] = {}
        self._metrics_at = -1

    def features(self, profile: ModelProfile) -> SharedFeatures:
        """Give the monitor of features for these settings."""
        drift, quality = profile.feature_drift, profile.data_quality

        def make() -> SharedFeatures:
            read = (drift.include, drift.exclude, drift.max_features, drift.max_categories)
            rows = self._one("rows", read, lambda: SharedRows(self._moment))
            reference = self._reference.get("features")
            return SharedFeatures(drift, quality, reference, rows, self._banks, self._moment)

        return self._one("features", (drift, quality), make)

    def embeddings(self, profile: ModelProfile) -> SharedEmbeddings:
        """Give the monitor of embeddings for these settings."""
        settings = profile.embedding_drift, profile.feature_drift, profile.data_quality
        reference = self._reference.get("embeddings")
        return self._one("embeddings", settings, lambda: SharedEmbeddings(profile, reference, self._moment))

    def predictions(self, profile: ModelProfile) -> SharedPredictions:
        """Give the monitor of predictions for these settings."""
        drift, reference = profile.feature_drift, self._reference.get("predictions")
        return self._one("predictions", drift, lambda: SharedPredictions(drift, reference, self._banks, self._moment))

    def labels(self, profile: ModelProfile) -> SharedLabels:
        """Give the monitor of labels for these settings."""
        drift, reference = profile.feature_drift, self._reference.get("labels")
        return self._one("labels", drift, lambda: SharedLabels(drift, reference, self._banks, self._moment))

    def latency(self, profile: ModelProfile) -> SharedLatency:
        """Give the monitor of latency for these settings."""
        return self._one("latency", profile.latency, lambda: SharedLatency(profile.latency, self._moment))

    def estimate(self, profile: ModelProfile) -> SharedEstimate:
        """Give the estimated performance for these settings."""
        performance, size = profile.performance, profile.concept_drift.reference_outcomes
        settings, reference = (performance.windows, performance.max_window_outcomes, size), self._reference
        return self._one(
            "estimate",
            settings,
            lambda: SharedEstimate(performance, size, reference.get("confidence"), self._moment),
        )

    def metrics(self, settings: object, compute: Callable[[], tuple[WindowMetrics, ...]]) -> tuple[WindowMetrics, ...]:
        """Give the metrics of windows of these settings at this moment."""
        if self._metrics_at != self._moment.number:
            self._metrics_at = self._moment.number
            self._metrics.clear()
        key = msgspec.msgpack.encode(settings, order="deterministic")
        if key not in self._metrics:
            self._metrics[key] = compute()
        return self._metrics[key]

    def tracks(self, *, regression: bool) -> Tracks:
        """Give the detectors on the loss."""
        if regression not in self._tracks:
            self._tracks[regression] = Tracks(
                self._moment, bernoulli=not regression, reference=self._reference.get("loss")
            )
        return self._tracks[regression]

    def _one(self, kind: str, settings: object, make: Callable[[], T]) -> T:
        key = (kind, msgspec.msgpack.encode(settings, order="deterministic"))
        if key not in self._made:
            self._made[key] = make()
        made: T = self._made[key]  # type: ignore[assignment]  # the kind tells the class
        return made


class MemberVersion(VersionMonitor):
    """One version under one configuration, on shared monitors. A sweep publishes no snapshots, so it tells little."""

    def __init__(self, model: Model, model_version: str, pool: Pool) -> None:
        self._pool = pool
        super().__init__(model, model_version)
        self.features = pool.features(model.profile)
        self.embeddings = pool.embeddings(model.profile)
        self.predictions = pool.predictions(model.profile)
        self.labels = pool.labels(model.profile)
        self.latency = pool.latency(model.profile)
        self.estimate = pool.estimate(model.profile)

    def _judge_as(self, *, regression: bool) -> None:
        super()._judge_as(regression=regression)
        profile = self._profile
        self.loss = SharedLoss(
            profile.concept_drift,
            profile.alerts.recovered_outcomes,
            self._pool.tracks(regression=regression),
            bernoulli=not regression,
            reference=stored_reference(profile.reference.data, self.model_version).get("loss"),
        )

    def observe_labels(self, outcomes: Outcomes) -> list[Finding]:
        """Take the labels; how long they took is told by nobody here."""
        self._learn_problem(int(outcomes.sequence[-1]) + 1)
        return self.labels.observe_outcomes(outcomes, self.classes) if self._profile.label_drift.enabled else []

    def tell(self, now_ms: int, sequence: int) -> MetricSnapshot:
        """Give what rules and limits are judged by, and nothing else."""
        self._learn_problem(sequence)
        self.meaning.decide(self.estimate, sequence)
        return MetricSnapshot(
            snapshot_id="",
            model_id=self._model.model_id,
            model_version=self.model_version,
            event_time_ms=now_ms,
            predictions_total=0,
            outcomes_total=0,
            windows=self._told(now_ms, sequence) if self._profile.performance.rules else (),
            limits={name: hits for name, hits in self._limits(sequence).items() if hits},
        )

    def _told(self, now_ms: int, sequence: int) -> tuple[WindowMetrics, ...]:
        # Every configuration has had the same outcomes; what its window keeps of them is a matter of its settings.
        performance, positive = self._profile.performance, self._profile.positive_label
        reference = self._profile.concept_drift.reference_outcomes
        settings = (performance.windows, performance.max_window_outcomes, reference, positive)
        return self._pool.metrics(settings, lambda: super(MemberVersion, self)._told(now_ms, sequence))

    def tell_segments(self, now_ms: int, sequence: int) -> Iterator[MetricSnapshot]:  # noqa: ARG002  # as in the live one
        """Tell nothing."""
        return iter(())


class Member(ModelMonitor):
    """One model under one configuration."""

    PARKS = False  # its monitors are shared

    def __init__(self, model: Model, topics: TaskTopics, pools: dict[str, Pool], moment: Moment) -> None:
        super().__init__(model, topics)
        self._pools = pools
        self._moment = moment

    def _watch(self, model_version: str) -> VersionMonitor:
        if model_version not in self._pools:
            reference = stored_reference(self._model.profile.reference.data, model_version)
            self._pools[model_version] = Pool(self._moment, reference)
        return MemberVersion(self._model, model_version, self._pools[model_version])


class _FannedCounts(JoinCounts):
    """What the join did with a version, counted in every configuration."""

    def __init__(self, counts: Sequence[JoinCounts]) -> None:
        super().__init__()
        self._counts = counts

    def add(self, name: str, count: int) -> None:
        for counts in self._counts:
            counts.add(name, count)


class _FannedVersion(VersionMonitor):
    """A version as the task sees it: it counts what the join did, and nothing else."""

    def __init__(self, model: Model, model_version: str, members: Sequence[VersionMonitor]) -> None:
        super().__init__(model, model_version)
        self.counts = _FannedCounts([member.counts for member in members])


class Fan(ModelMonitor):
    """Hands everything that concerns a model on to each configuration's monitor, and keeps what each gives."""

    PARKS = False

    def __init__(
        self,
        model: Model,
        topics: TaskTopics,
        profiles: list[ModelProfile],
        outputs: list[list[Caused]],
        moment: Moment,
    ) -> None:
        super().__init__(model, topics)
        self._moment = moment
        self._outputs = outputs
        self._views = [_view(model, profile) for profile in profiles]
        pools: dict[str, Pool] = {}
        self._members = [Member(view, topics, pools, moment) for view in self._views]

    def _refresh(self) -> None:
        """Let every view of the model see what was learnt of it: its classes, and whether it is a regression."""
        self._moment.advance()
        for view in self._views:
            vars(view).update(vars(self._model), profile=view.profile)

    def version(self, model_version: str, sequence: int = -1) -> VersionMonitor:
        """Find a version, or begin to watch it in every configuration."""
        known = self.versions.get(model_version)
        if known is None:
            members = [member.version(model_version, sequence) for member in self._members]
            known = self.versions[model_version] = _FannedVersion(self._model, model_version, members)
        return known

    def observe(self, model_version: str, batch: VersionBatch) -> list[Caused]:
        """Let every configuration observe."""
        self._refresh()
        for member, out in zip(self._members, self._outputs, strict=True):
            out.extend(member.observe(model_version, batch))
        return []

    def together(self) -> None:
        """Let every configuration begin with several versions."""
        for member in self._members:
            member.together()

    def part(self) -> list[Caused]:
        """Let every configuration end with them."""
        for member, out in zip(self._members, self._outputs, strict=True):
            out.extend(member.part())
        return []

    def count_duplicate_labels(self, sequence: Int) -> None:
        """Count in every configuration."""
        for member in self._members:
            member.count_duplicate_labels(sequence)

    def note_repeated(self, repeated: Repeated) -> None:
        """Let every configuration know."""
        for member in self._members:
            member.note_repeated(repeated)

    def note_gone(self, predictions: int) -> None:
        """Let every configuration know."""
        for member in self._members:
            member.note_gone(predictions)

    def note_unmatched(self, labels: Unmet) -> None:
        """Let every configuration know."""
        for member in self._members:
            member.note_unmatched(labels)

    def note_late(self, labels: Unmet, made_ms: Int, repeated: int) -> None:
        """Let every configuration know."""
        for member in self._members:
            member.note_late(labels, made_ms, repeated)

    def next_deadline_ms(self) -> int:
        """Say when the first of them has something to do."""
        return min(member.next_deadline_ms() for member in self._members)

    def tick(self, now_ms: int, sequence: int) -> list[Caused]:
        """Let those that have something to do do it."""
        self._refresh()
        for member, out in zip(self._members, self._outputs, strict=True):
            if member.next_deadline_ms() <= now_ms:
                out.extend(member.tick(now_ms, sequence))
        return []

    def finish(self, end_ms: int, sequence: int) -> list[Caused]:
        """Let every configuration tell what is left."""
        self._refresh()
        for member, out in zip(self._members, self._outputs, strict=True):
            out.extend(member.finish(end_ms, sequence))
        return []

    def command(self, row: ControlRow) -> list[Caused]:
        """Let every configuration take a command."""
        self._refresh()
        for member, out in zip(self._members, self._outputs, strict=True):
            out.extend(member.command(row))
        return []


def _view(model: Model, profile: ModelProfile) -> Model:
    view = copy.copy(model)
    view.profile = profile
    return view
