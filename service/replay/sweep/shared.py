"""Monitors that several configurations share: what two of them would compute alike is computed once.

Every configuration has its own ModelMonitor, which hands the same batches, in the same order, to its monitors. A
monitor whose settings are the same in many of them stands in all of them as one object, and gives the others what it
gave the first. The law that the tests hold it to: each configuration's alerts and triggers are, byte for byte, those
of a replay of its own.
"""

from collections.abc import Callable, Sequence
from typing import Final, ParamSpec

from detectors.feature_bets import Bank, bank_of
from detectors.histogram import ReferenceHistogram
from detectors.protocol import State
from service.core.columns import Bool, Float, Outcomes, Predictions
from service.core.findings import Finding
from service.core.inputs.blocks import RowTimes
from service.core.inputs.embeddings import EmbeddingMonitor
from service.core.inputs.feature_monitor import FeatureMonitor, Features
from service.core.inputs.feature_table import FeatureTable
from service.core.inputs.latency import LatencyMonitor
from service.core.inputs.value_monitor import LabelMonitor, PredictionMonitor
from service.core.metrics import PerformanceEstimate
from service.core.settings import (
    DataQualitySettings,
    FeatureDriftSettings,
    LatencySettings,
    ModelProfile,
    PerformanceSettings,
)

P = ParamSpec("P")


class Moment:
    """Counts batches and commands. What happens to a shared monitor more than once within one, happens once."""

    def __init__(self) -> None:
        self.number = 0

    def advance(self) -> None:
        """Begin the next one."""
        self.number += 1


class _Once:
    """Remembers what a monitor gave at this moment, and whether it was reset."""

    def __init__(self, moment: Moment) -> None:
        self._moment = moment
        self._kept_at = self._reset_at = -1
        self._found: list[Finding] = []

    def observe(self, observe: Callable[P, list[Finding]], *given: P.args, **named: P.kwargs) -> list[Finding]:
        """Observe, or recall."""
        if self._kept_at != self._moment.number:
            self._found = observe(*given, **named)
            self._kept_at = self._moment.number
        return list(self._found)  # who takes it adds to it

    def reset(self, reset: Callable[[], None]) -> None:
        """Reset, unless that was done at this moment."""
        if self._reset_at != self._moment.number:
            self._reset_at = self._moment.number
            reset()


MAX_BANKS: Final = 256
"""Banks of one version that are remembered, up to 0.5 MB each; at the limit the oldest is made anew when asked for."""


class SharedBanks:
    """The bets against references of one version. Those against the same reference are made once."""

    def __init__(self) -> None:
        self._made: dict[tuple[bytes, ...], Bank] = {}

    def make(self, reference: ReferenceHistogram, tolerance: float, delta: float) -> Bank:
        """Make, or recall."""
        told = (reference.counts, reference.categorical, reference.bins)  # all of a reference that a bank is made of
        key = (*(column.tobytes() for column in told), repr((reference.counts.shape, tolerance, delta)).encode())
        if key not in self._made:
            if len(self._made) >= MAX_BANKS:
                del self._made[next(iter(self._made))]
            self._made[key] = bank_of(reference, tolerance, delta)
        return self._made[key]


class SharedRows:
    """The features of a batch as rows, encoded once for all monitors whose tables are alike.

    Only where the batch teaches a table nothing: what is learnt behind a block's end must not reach that block, and
    blocks end elsewhere in each configuration.
    """

    def __init__(self, moment: Moment) -> None:
        self._moment = moment
        self._at = -1
        self._table: FeatureTable | None = None
        self._rows: Float | None = None

    def rows(self, table: FeatureTable, features: Features) -> Float | None:
        """Give the rows of the whole batch; None where the table has to encode its part of it itself."""
        if self._at != self._moment.number:
            self._at = self._moment.number
            self._table = table.copy() if self._table is None or not self._table.is_like(table) else self._table
            counted = self._table.features_over_limit, self._table.categories_over_limit
            self._rows = self._table.encode(features)
            if self._table.wrong or counted != (self._table.features_over_limit, self._table.categories_over_limit):
                self._rows = None  # each counts, and keeps its example
            self._table.wrong = {}
        # A table that has learnt from the batch is no longer like one that has yet to do so.
        return self._rows if self._table is not None and self._table.is_like(table) else None


class SharedFeatures(FeatureMonitor):
    """Features of one version."""

    def __init__(
        self,
        settings: FeatureDriftSettings,
        quality: DataQualitySettings,
        reference: State | None,
        rows: SharedRows,
        banks: SharedBanks,
        moment: Moment,
    ) -> None:
        self._once = _Once(moment)
        self._rows = rows
        super().__init__(settings, quality, reference, banks.make)

    def _encode(self, features: Features, start: int, end: int) -> Float:
        rows = self._rows.rows(self.table, features)
        return super()._encode(features, start, end) if rows is None else rows[start:end]

    def observe(self, predictions: Predictions) -> list[Finding]:
        """Observe, or recall."""
        return self._once.observe(super().observe, predictions)

    def reset(self) -> None:
        """Reset once."""
        self._once.reset(super().reset)


class SharedEmbeddings(EmbeddingMonitor):
    """Embeddings of one version."""

    def __init__(self, profile: ModelProfile, reference: State | None, moment: Moment) -> None:
        self._once = _Once(moment)
        super().__init__(profile, reference)

    def observe(self, predictions: Predictions) -> list[Finding]:
        """Observe, or recall."""
        return self._once.observe(super().observe, predictions)

    def reset(self) -> None:
        """Reset once."""
        self._once.reset(super().reset)


class SharedPredictions(PredictionMonitor):
    """Predictions of one version."""

    def __init__(
        self, settings: FeatureDriftSettings, reference: State | None, banks: SharedBanks, moment: Moment
    ) -> None:
        self._once = _Once(moment)
        super().__init__(settings, reference, banks.make)

    def observe_predictions(self, predictions: Predictions, classes: Sequence[str] | None) -> list[Finding]:
        """Observe, or recall."""
        return self._once.observe(super().observe_predictions, predictions, classes)

    def reset(self) -> None:
        """Reset once."""
        self._once.reset(super().reset)


class SharedLabels(LabelMonitor):
    """Labels of one version."""

    def __init__(
        self, settings: FeatureDriftSettings, reference: State | None, banks: SharedBanks, moment: Moment
    ) -> None:
        self._once = _Once(moment)
        super().__init__(settings, reference, banks.make)

    def observe_outcomes(self, outcomes: Outcomes, classes: Sequence[str] | None) -> list[Finding]:
        """Observe, or recall."""
        return self._once.observe(super().observe_outcomes, outcomes, classes)

    def reset(self) -> None:
        """Reset once."""
        self._once.reset(super().reset)


class SharedEstimate(PerformanceEstimate):
    """The estimated performance of one version."""

    def __init__(
        self, settings: PerformanceSettings, reference_outcomes: int, stored: State | None, moment: Moment
    ) -> None:
        self._once = _Once(moment)
        self._observed = self._learnt = -1
        """Number of the last record that was taken: what comes again is not taken again."""
        super().__init__(settings, reference_outcomes, stored)

    def observe(self, predictions: Predictions) -> None:
        """Observe once."""
        if int(predictions.sequence[-1]) > self._observed:
            self._observed = int(predictions.sequence[-1])
            super().observe(predictions)

    def learn(self, outcomes: Outcomes) -> None:
        """Learn once."""
        if len(outcomes.sequence) and int(outcomes.sequence[-1]) > self._learnt:
            self._learnt = int(outcomes.sequence[-1])
            super().learn(outcomes)

    def reset(self) -> None:
        """Reset once."""
        self._once.reset(super().reset)


class SharedLatency(LatencyMonitor):
    """Latency and failed calls of one version."""

    def __init__(self, settings: LatencySettings, moment: Moment) -> None:
        self._once = _Once(moment)
        super().__init__(settings)

    def observe(self, latency_ms: Float, error: Bool, times: RowTimes) -> list[Finding]:
        """Observe, or recall."""
        return self._once.observe(super().observe, latency_ms, error, times)

    def reset(self) -> None:
        """Reset once."""
        self._once.reset(super().reset)
