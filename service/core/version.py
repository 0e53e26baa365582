"""Everything that is watched of one model version."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from schemas.identity import derive_id
from schemas.outputs import LabelCoverage, MetricSnapshot, WindowMetrics
from service.core.columns import Corrections, Int, Outcomes, Predictions
from service.core.delays import LabelDelays
from service.core.findings import Finding
from service.core.held import Held
from service.core.inputs.blocks import RowTimes
from service.core.inputs.embeddings import EmbeddingMonitor
from service.core.inputs.feature_monitor import FeatureMonitor
from service.core.inputs.latency import LatencyMonitor
from service.core.inputs.value_monitor import LabelMonitor, PredictionMonitor, bracketed
from service.core.inputs.versions import require_version
from service.core.layout import inside
from service.core.limits import limit_finding
from service.core.loss import LossMonitor
from service.core.loss_feed import NEVER, LossFeed
from service.core.meaning import Meaning
from service.core.metrics import (
    OutcomeWindow,
    PerformanceEstimate,
    loss,
    window_metrics,
)
from service.core.metrics.recent import RecentPredictions
from service.core.reference import stored_reference
from service.core.roster import Model
from service.core.rules import judge_rules
from service.core.segments import SegmentWindows
from service.core.version_state import JoinCounts, VersionState

_VERSION = 1


class VersionMonitor:
    """Watches one model version: its inputs, its answers, and, as labels come, its performance."""

    def __init__(self, model: Model, model_version: str) -> None:
        self._model = model
        self.model_id = model.model_id
        self._profile = model.profile
        self.model_version = model_version
        profile = model.profile
        self.counts = JoinCounts()
        stored = stored_reference(profile.reference.data, model_version)
        self.features = FeatureMonitor(profile.feature_drift, profile.data_quality, stored.get("features"))
        self.embeddings = EmbeddingMonitor(profile, stored.get("embeddings"))
        self.predictions = PredictionMonitor(profile.feature_drift, stored.get("predictions"))
        self.labels = LabelMonitor(profile.feature_drift, stored.get("labels"))
        self.latency = LatencyMonitor(profile.latency)
        self.estimate = PerformanceEstimate(
            profile.performance, profile.concept_drift.reference_outcomes, stored.get("confidence")
        )
        self._judge_as(regression=profile.problem == "regression")
        self.delays = LabelDelays()
        self.meaning = Meaning(model)
        self.held = Held(self.counts.add)
        self._breached: set[str] = set()
        self._limits_told: set[str] = set()
        self._newest: Int = np.empty(0, dtype=np.int64)
        """Numbers of the predictions observed last: outcomes are judged after them, as of an earlier record."""
        self._interval_start_ms: int | None = None
        self._interval_predictions = 0
        self._interval_errors = 0

    def _judge_as(self, *, regression: bool) -> None:
        profile = self._profile
        self._is_regression = regression
        # The loss of a class is the same whether there are two of them or more, so a third one changes nothing here.
        self.window = OutcomeWindow(
            "regression" if regression else "multiclass", profile.performance.max_window_outcomes
        )
        self.loss = LossMonitor(
            profile.concept_drift,
            profile.alerts.recovered_outcomes,
            bernoulli=not regression,
            reference=stored_reference(profile.reference.data, self.model_version).get("loss"),
        )
        self.segments = SegmentWindows(
            self._model.segments, self.window.problem, profile.performance.max_window_outcomes
        )

    def _learn_problem(self, sequence: int) -> None:
        """Begin anew as a regression where that became known before the record with this number.

        Nothing is lost: outcomes are held until it is known.
        """
        if not self._is_regression and self._model.is_regression_before(sequence):
            self._judge_as(regression=True)

    # ------------------------------------------------------------------------------------------- observe

    def observe_predictions(self, predictions: Predictions, answers: Predictions | None) -> list[Finding]:
        """Take predictions in order; give what the monitors of inputs and answers find.

        `answers`: the same, behind those that were held until now; None: they are held too.
        """
        if self._interval_start_ms is None:
            self._interval_start_ms = int(predictions.watermark_ms[0])
        failed = int(np.count_nonzero(predictions.error))
        self.counts.add("predictions", len(predictions.sequence))
        self.counts.add("errors", failed)
        self._newest = predictions.sequence[~predictions.error] if failed else predictions.sequence
        self._interval_predictions += len(predictions.sequence)
        self._interval_errors += failed
        times = RowTimes(predictions.sequence, predictions.watermark_ms, predictions.time_ms, predictions.offset)
        findings = [] if self._follows else self._observe_inputs(predictions)
        if answers is not None:
            findings += self.observe_answers(answers)
        if not self._follows:
            findings += self.latency.observe(predictions.latency_ms, predictions.error, times)
        if answers is not None and not self._is_regression:
            self.estimate.observe(predictions)
        return findings

    def _observe_inputs(self, predictions: Predictions) -> list[Finding]:
        findings = self.features.observe(predictions)
        if predictions.embeddings or self.embeddings.has_begun:
            findings += self.embeddings.observe(predictions)
        return findings

    @property
    def _follows(self) -> bool:
        """Whether what goes into the model is watched with another of its targets."""
        return self.model_version in self._model.follows

    def observe_answers(self, answers: Predictions) -> list[Finding]:
        """Take the answers and scores of predictions in order; give what is found of them."""
        self._learn_problem(int(answers.sequence[-1]) + 1)
        if not self._profile.prediction_drift.enabled:
            return []
        return self.predictions.observe_predictions(answers, self.classes)

    def note_outcomes(self, outcomes: Outcomes) -> None:
        """Let the features' monitor know outcomes in order, before the predictions of the same stretch are observed."""
        regression = self._is_regression or self._model.is_regression_before(int(outcomes.sequence[-1]) + 1)
        if self._follows:
            return
        self.features.note_outcomes(outcomes, "regression" if regression else "multiclass")

    def observe_labels(self, outcomes: Outcomes) -> list[Finding]:
        """Take the labels of outcomes in order; give what is found of them."""
        self._learn_problem(int(outcomes.sequence[-1]) + 1)
        if not self._profile.label_drift.enabled:
            return []
        return self.labels.observe_outcomes(outcomes, self.classes)

    def feed(self, outcomes: Outcomes) -> LossFeed:
        """Begin to take outcomes into the window; see LossFeed. Those of failed calls have no loss and are left out."""
        if outcomes.packed is None or self._is_regression:
            losses = loss(self.window.problem, outcomes.predicted, outcomes.actual)
        else:
            losses = outcomes.packed["loss"].copy()
        usable = np.isfinite(losses)
        if (unusable := len(usable) - int(np.count_nonzero(usable))) > 0:
            self.counts.add("unusable_outcomes", unusable)
            outcomes, losses = outcomes.where(usable), losses[usable]
        self.segments.extend(outcomes, losses)
        if not self._is_regression:
            self.estimate.learn(outcomes)
        return self.loss.feed(outcomes, losses, self.window)

    def correct(self, corrections: Corrections) -> None:
        """Replace labels of outcomes that the window still holds."""
        found = self.window.correct(corrections.prediction_offset, corrections.actual, corrections.label_offset)
        self.segments.correct(corrections)
        self.counts.add("corrected", int(found.sum()))
        self.counts.add("corrections_late", int((~found).sum()))

    def reset(self) -> None:
        """Learn all references anew; counts and window stay."""
        self.features.reset()
        self.embeddings.reset()
        self.predictions.reset()
        self.labels.reset()
        self.latency.reset()
        self.estimate.reset()
        self.loss.reset(self.window.total)
        self.meaning.reset()
        self._breached.clear()
        self._limits_told.clear()

    def accept(self) -> None:
        """Take the present for normal wherever it has drifted; everything else keeps its reference."""
        self.features.accept()
        self.embeddings.accept()
        self.predictions.accept()
        self.labels.accept()
        self.loss.accept(self.window.total)

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes by code; None: a regression."""
        return None if self._is_regression else list(self._model.table.names)

    # ---------------------------------------------------------------------------------------------- tell

    def coverage(self, sequence: int) -> LabelCoverage:
        """Say how many of the predictions up to a record have labels."""
        later = len(self._newest) - int(np.searchsorted(self._newest, sequence, side="right"))
        answered = self.counts.values["predictions"] - self.counts.values["errors"] - later
        outcomes = self._outcomes
        return LabelCoverage(predictions=answered, outcomes=outcomes, ratio=outcomes / answered if answered else 0.0)

    @property
    def _outcomes(self) -> int:
        return self.window.total + self.held.outcomes

    def _metrics(self, window: OutcomeWindow, now_ms: int, sequence: int) -> tuple[WindowMetrics, ...]:
        """Compute the rolling metrics of a window at a moment of event time, before the record with this number."""
        names = self._model.table.names_before(sequence)
        problem = self.meaning.problem(sequence, regression=self._is_regression)
        if problem is None:
            return ()
        reading = self.meaning.reading(self.estimate, sequence)
        return tuple(
            window_metrics(problem, settings.name, window.select(settings, now_ms), names, reading)
            for settings in self._profile.performance.windows
        )

    def _told(self, now_ms: int, sequence: int) -> tuple[WindowMetrics, ...]:
        """Give the rolling metrics of all outcomes, and what is estimated of the predictions beside them."""
        windows = self._metrics(self.window, now_ms, sequence)
        if self._is_regression:
            return windows
        names = self._model.table.names_before(sequence)
        problem = self.meaning.problem(sequence, regression=False)
        if problem is None:
            return ()
        reading = self.meaning.reading(self.estimate, sequence)
        return self.estimate.add_to(windows, now_ms, problem, names, reading)

    def _described(self, sequence: int) -> dict[str, Any]:
        return self.meaning.described(self.estimate, sequence, regression=self._is_regression)

    def tell_segments(self, now_ms: int, sequence: int) -> Iterator[MetricSnapshot]:
        """Describe the performance by segment."""
        for label, window in self.segments.named():
            yield MetricSnapshot(
                snapshot_id=derive_id("snapshot", self._model.model_id, self.model_version, label, now_ms),
                model_id=self._model.model_id,
                model_version=self.model_version,
                segment=label,
                event_time_ms=now_ms,
                predictions_total=0,
                outcomes_total=window.total,
                **self._described(sequence),
                windows=self._metrics(window, now_ms, sequence),
            )

    def tell(self, now_ms: int, sequence: int) -> MetricSnapshot:
        """Describe the version at a moment of event time, before the record with this number; begin a new interval."""
        self._learn_problem(sequence)
        self.meaning.decide(self.estimate, sequence)
        snapshot = self.describe(now_ms, sequence)
        self.delays.begin_interval()
        self.latency.begin_interval()
        self._interval_start_ms = now_ms
        self._interval_predictions = self._interval_errors = 0
        return snapshot

    def describe(self, now_ms: int, sequence: int) -> MetricSnapshot:
        """Describe the version so, and change nothing: whoever looks on may ask at any time."""
        counts = self.counts.values
        seconds = max(now_ms - (self._interval_start_ms or now_ms), 0) / 1000
        labelled = self.coverage(NEVER)
        return MetricSnapshot(
            snapshot_id=derive_id("snapshot", self._model.model_id, self.model_version, now_ms),
            model_id=self._model.model_id,
            model_version=self.model_version,
            event_time_ms=now_ms,
            predictions_total=counts["predictions"],
            outcomes_total=self._outcomes,
            errors_total=counts["errors"],
            predictions_duplicate_total=counts["duplicates"],
            predictions_evicted_total=counts["evicted"],
            labels_expired_total=counts["expired"],
            labels_duplicate_total=counts["labels_duplicate"],
            labels_corrected_total=counts["corrected"],
            label_coverage_ratio=labelled.ratio if labelled.predictions else None,
            interval_start_ms=self._interval_start_ms,
            label_delay_ms=self.delays.percentiles(),
            latency_ms=self.latency.percentiles(),
            throughput_per_second=self._interval_predictions / seconds if seconds else None,
            error_rate=self._interval_errors / self._interval_predictions if self._interval_predictions else None,
            **self._described(sequence),
            windows=self._told(now_ms, sequence),
            detectors=self.loss.verdicts(),
            drift=self.features.drift()
            | self.embeddings.drift()
            | bracketed(self.predictions.drift() | self.labels.drift()),
            data_quality=self.features.quality() | self.embeddings.quality(),
            limits={name: hits for name, hits in self._limits(sequence).items() if hits},
        )

    def _limits(self, sequence: int) -> dict[str, int]:
        return {
            **self.features.limits(),
            **self.embeddings.limits(),
            "max_classes": self._model.table.overflowed_before(sequence),
            "max_segment_values": self.segments.beyond_limit,
            "probabilities_dropped": self.window.vectors_dropped_total,
            "max_join_entries": self.counts.values["evicted"],
        }

    def judge_limits(self, hits: Mapping[str, int], sequence: int, now_ms: int) -> Iterator[Finding]:
        """Tell, once each until a reset, of the limits that were hit; `hits` as a snapshot has them."""
        for name in sorted(hits.keys() - self._limits_told):
            self._limits_told.add(name)
            yield limit_finding(name, hits[name], sequence, now_ms)

    def judge_meaning(self, sequence: int, now_ms: int) -> Iterator[Finding]:
        """Tell, once each until a reset, what in the data contradicts what it is taken to mean."""
        return self.meaning.judge(self.window, self.estimate, sequence, now_ms, regression=self._is_regression)

    def judge_rules(self, windows: tuple[WindowMetrics, ...], sequence: int, now_ms: int) -> Iterator[Finding]:
        """Hold the rolling metrics against the performance rules; give what changed."""
        return judge_rules(self._profile.performance.rules, windows, self._breached, sequence, now_ms)

    # --------------------------------------------------------------------------------------------- state

    def snapshot(self) -> VersionState:
        """Give everything but the rows of the windows, which `changed_blocks` gives."""
        return {
            "version": _VERSION,
            "regression": self._is_regression,
            "counts": dict(self.counts.values),
            "features": self.features.snapshot(),
            "embeddings": self.embeddings.snapshot(),
            "predictions": self.predictions.snapshot(),
            "labels": self.labels.snapshot(),
            "latency": self.latency.snapshot(),
            "window": self.window.snapshot(),
            "segments": self.segments.snapshot(),
            "loss": self.loss.snapshot(),
            "estimate": self.estimate.snapshot(),
            "label_delay": self.delays.snapshot(),
            "breached": sorted(self._breached),
            "limits_told": sorted(self._limits_told),
            "meaning": self.meaning.snapshot(),
            "held": self.held.snapshot(),
            "interval": (self._interval_start_ms, self._interval_predictions, self._interval_errors),
        }

    def _windows(self) -> dict[str, OutcomeWindow | RecentPredictions]:
        segments = {str(place): window for place, window in enumerate(self.segments.windows.values())}
        return {"all": self.window, "recent": self.estimate.recent, **segments}

    def blocks(self) -> dict[str, dict[str, bytes]]:
        """Give the blocks of all windows, by window and key."""
        return {owner: dict(window.snapshot_blocks()) for owner, window in self._windows().items()}

    def changed_blocks(self) -> Iterator[tuple[str, bytes | None]]:
        """Give the blocks of all windows that changed since the last call, by window and number; None: vanished."""
        for owner, window in self._windows().items():
            changed, vanished = window.changed_blocks()
            yield from ((f"{owner}/{key}", block) for key, block in changed)
            yield from ((f"{owner}/{key}", None) for key in vanished)

    def restore(self, state: VersionState, blocks: Mapping[str, Mapping[str, bytes]]) -> None:
        """Take over a snapshot and the blocks of each window."""
        require_version(state, _VERSION, "version monitor")
        self._judge_as(regression=state["regression"])
        self.counts.values.update(state["counts"])
        parts: dict[str, Callable[[], None]] = {
            "features": lambda: self.features.restore(state["features"]),
            "embeddings": lambda: self.embeddings.restore(state["embeddings"]),
            "predictions": lambda: self.predictions.restore(state["predictions"]),
            "labels": lambda: self.labels.restore(state["labels"]),
            "latency": lambda: self.latency.restore(state["latency"]),
            "window": lambda: self.window.restore(state["window"], blocks.get("all", {})),
            "segments": lambda: self.segments.restore(state["segments"], blocks),
            "loss": lambda: self.loss.restore(state["loss"], self.window.total),
            "estimate": lambda: self.estimate.restore(state["estimate"], blocks.get("recent", {})),
            "label_delay": lambda: self.delays.restore(state["label_delay"]),
        }
        for name, restore in parts.items():
            with inside(name):
                restore()
        self._breached = set(state["breached"])
        self._limits_told = set(state["limits_told"])
        self.meaning.restore(state["meaning"])
        self.held.restore(state["held"])
        self._interval_start_ms, self._interval_predictions, self._interval_errors = state["interval"]
