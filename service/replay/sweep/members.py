"""One model under many configurations."""

import copy
from typing import TypeVar

import msgspec
import numpy as np

from detectors.protocol import State
from service.core.columns import Outcomes
from service.core.effects import Caused
from service.core.findings import Finding
from service.core.finetuning.lifecycle import Moment as At
from service.core.loss_feed import LossFeed
from service.core.metrics import loss
from service.core.model import ModelMonitor, VersionBatch
from service.core.prepare import ControlRow, TaskTopics
from service.core.roster import Model
from service.core.settings import ModelProfile
from service.core.version import VersionMonitor, stored_reference
from service.replay.sweep.shared import (
    Moment,
    SharedFeatures,
    SharedLabels,
    SharedLatency,
    SharedLoss,
    SharedPredictions,
    Tracks,
)

T = TypeVar("T")


class Pool:
    """What the configurations share of one version: one object for each set of settings that differs."""

    def __init__(self, moment: Moment, reference: State) -> None:
        self._moment = moment
        self._reference = reference
        self._made: dict[tuple[str, bytes], object] = {}
        self._tracks: dict[bool, Tracks] = {}

    def features(self, profile: ModelProfile) -> SharedFeatures:
        """Give the monitor of features for these settings."""
        drift, quality = profile.feature_drift, profile.data_quality
        made = SharedFeatures(drift, quality, self._reference.get("features"), self._moment)
        return self._one("features", (drift, quality), made)

    def predictions(self, profile: ModelProfile) -> SharedPredictions:
        """Give the monitor of predictions for these settings."""
        drift = profile.feature_drift
        made = SharedPredictions(drift, self._reference.get("predictions"), self._moment)
        return self._one("predictions", drift, made)

    def labels(self, profile: ModelProfile) -> SharedLabels:
        """Give the monitor of labels for these settings."""
        drift = profile.feature_drift
        made = SharedLabels(drift, self._reference.get("labels"), self._moment)
        return self._one("labels", drift, made)

    def latency(self, profile: ModelProfile) -> SharedLatency:
        """Give the monitor of latency for these settings."""
        return self._one("latency", profile.latency, SharedLatency(profile.latency, self._moment))

    def tracks(self, *, regression: bool) -> Tracks:
        """Give the detectors on the loss."""
        if regression not in self._tracks:
            self._tracks[regression] = Tracks(
                self._moment, bernoulli=not regression, reference=self._reference.get("loss")
            )
        return self._tracks[regression]

    def _one(self, kind: str, settings: object, fresh: T) -> T:
        key = (kind, msgspec.msgpack.encode(settings, order="deterministic"))
        made: T = self._made.setdefault(key, fresh)  # type: ignore[assignment]  # the kind tells the class
        return made


class MemberVersion(VersionMonitor):
    """One version under one configuration, on shared monitors. It tells nothing: a sweep publishes no snapshots."""

    def __init__(self, model: Model, model_version: str, pool: Pool) -> None:
        self._pool = pool
        super().__init__(model, model_version)
        self.features = pool.features(model.profile)
        self.predictions = pool.predictions(model.profile)
        self.labels = pool.labels(model.profile)
        self.latency = pool.latency(model.profile)

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
        """Take the labels; their delays are told by nobody here."""
        self._learn_problem(int(outcomes.sequence[-1]) + 1)
        return self.labels.observe_outcomes(outcomes, self._classes) if self._profile.label_drift.enabled else []

    def feed(self, outcomes: Outcomes) -> LossFeed:
        """Begin to take outcomes into the window; segments are told by nobody here."""
        losses = loss(self.window.problem, outcomes.predicted, outcomes.actual)
        usable = np.isfinite(losses)
        if not usable.all():
            outcomes, losses = outcomes.where(usable), losses[usable]
        return self.loss.feed(outcomes, losses, self.window)


class Member(ModelMonitor):
    """One model under one configuration."""

    def __init__(self, model: Model, topics: TaskTopics, pools: dict[str, Pool], moment: Moment) -> None:
        super().__init__(model, topics)
        self._pools = pools
        self._moment = moment

    def version(self, model_version: str) -> VersionMonitor:
        """Find a version, or begin to watch it."""
        known = self.versions.get(model_version)
        if known is None:
            if model_version not in self._pools:
                reference = stored_reference(self._model.profile.reference.data, model_version)
                self._pools[model_version] = Pool(self._moment, reference)
            known = MemberVersion(self._model, model_version, self._pools[model_version])
            self.versions[model_version] = known
            self._serving = model_version
        return known

    def _tell(self, version: VersionMonitor, at_ms: int, at: At, out: list[Caused]) -> None:
        """Judge the rules, as the live service does when it makes a snapshot."""
        if self._model.profile.performance.rules:
            for finding in version.judge_rules(version.tell(at_ms, at.sequence).windows, at.sequence, at.time_ms):
                self._advance(version, finding, out)


class Fan(ModelMonitor):
    """Hands everything that concerns a model on to each configuration's monitor, and keeps what each gives."""

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

    def version(self, model_version: str) -> VersionMonitor:
        """Find a version; counts of the join go to the first configuration's, and are told by nobody."""
        found = [member.version(model_version) for member in self._members]
        return found[0]

    def observe(self, model_version: str, batch: VersionBatch) -> list[Caused]:
        """Let every configuration observe."""
        self._refresh()
        for member, out in zip(self._members, self._outputs, strict=True):
            out.extend(member.observe(model_version, batch))
        return []

    def count_duplicate_labels(self, count: int) -> None:
        """Count nothing: it is told by nobody."""

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
