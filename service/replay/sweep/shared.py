"""Monitors that several configurations share: what two of them would compute alike is computed once.

Every configuration has its own ModelMonitor, which hands the same batches, in the same order, to its monitors. A
monitor whose settings are the same in many of them stands in all of them as one object, and gives the others what it
gave the first. The law that the tests hold it to: each configuration's alerts and triggers are, byte for byte, those
of a replay of its own.
"""

from collections.abc import Sequence

from detectors.protocol import State
from service.core.columns import Bool, Float, Outcomes, Predictions
from service.core.findings import Finding
from service.core.inputs.blocks import RowTimes
from service.core.inputs.embeddings import EmbeddingMonitor
from service.core.inputs.feature_monitor import FeatureMonitor
from service.core.inputs.latency import LatencyMonitor
from service.core.inputs.value_monitor import LabelMonitor, PredictionMonitor
from service.core.loss import LossMonitor
from service.core.loss_feed import Drift
from service.core.settings import (
    ConceptDriftSettings,
    DataQualitySettings,
    DetectorSettings,
    FeatureDriftSettings,
    LatencySettings,
    ModelProfile,
)


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

    def recall(self) -> list[Finding] | None:
        return list(self._found) if self._kept_at == self._moment.number else None

    def keep(self, found: list[Finding]) -> list[Finding]:
        self._kept_at, self._found = self._moment.number, found
        return list(found)  # who takes it adds to it

    def is_first_reset(self) -> bool:
        is_first = self._reset_at != self._moment.number
        self._reset_at = self._moment.number
        return is_first


class SharedFeatures(FeatureMonitor):
    """Features of one version."""

    def __init__(
        self, settings: FeatureDriftSettings, quality: DataQualitySettings, reference: State | None, moment: Moment
    ) -> None:
        self._once = _Once(moment)
        super().__init__(settings, quality, reference)

    def observe(self, predictions: Predictions) -> list[Finding]:
        """Observe, or recall."""
        found = self._once.recall()
        return self._once.keep(super().observe(predictions)) if found is None else found

    def reset(self) -> None:
        """Reset once."""
        if self._once.is_first_reset():
            super().reset()


class SharedEmbeddings(EmbeddingMonitor):
    """Embeddings of one version."""

    def __init__(self, profile: ModelProfile, reference: State | None, moment: Moment) -> None:
        self._once = _Once(moment)
        super().__init__(profile, reference)

    def observe(self, predictions: Predictions) -> list[Finding]:
        """Observe, or recall."""
        found = self._once.recall()
        return self._once.keep(super().observe(predictions)) if found is None else found

    def reset(self) -> None:
        """Reset once."""
        if self._once.is_first_reset():
            super().reset()


class SharedPredictions(PredictionMonitor):
    """Predictions of one version."""

    def __init__(self, settings: FeatureDriftSettings, reference: State | None, moment: Moment) -> None:
        self._once = _Once(moment)
        super().__init__(settings, reference)

    def observe_predictions(self, predictions: Predictions, classes: Sequence[str] | None) -> list[Finding]:
        """Observe, or recall."""
        found = self._once.recall()
        return self._once.keep(super().observe_predictions(predictions, classes)) if found is None else found

    def reset(self) -> None:
        """Reset once."""
        if self._once.is_first_reset():
            super().reset()


class SharedLabels(LabelMonitor):
    """Labels of one version."""

    def __init__(self, settings: FeatureDriftSettings, reference: State | None, moment: Moment) -> None:
        self._once = _Once(moment)
        super().__init__(settings, reference)

    def observe_outcomes(self, outcomes: Outcomes, classes: Sequence[str] | None) -> list[Finding]:
        """Observe, or recall."""
        found = self._once.recall()
        return self._once.keep(super().observe_outcomes(outcomes, classes)) if found is None else found

    def reset(self) -> None:
        """Reset once."""
        if self._once.is_first_reset():
            super().reset()


class SharedLatency(LatencyMonitor):
    """Latency and failed calls of one version."""

    def __init__(self, settings: LatencySettings, moment: Moment) -> None:
        self._once = _Once(moment)
        super().__init__(settings)

    def observe(self, latency_ms: Float, error: Bool, times: RowTimes) -> list[Finding]:
        """Observe, or recall."""
        found = self._once.recall()
        return self._once.keep(super().observe(latency_ms, error, times)) if found is None else found

    def reset(self) -> None:
        """Reset once."""
        if self._once.is_first_reset():
            super().reset()


_NO_MATTER = 100
"""Outcomes over which a loss must recover: a track judges no recovery."""


class Track(LossMonitor):
    """One detector on the losses of one version, from a reset to the next."""

    def __init__(
        self, settings: ConceptDriftSettings, moment: Moment, *, bernoulli: bool, reference: State | None
    ) -> None:
        super().__init__(settings, _NO_MATTER, bernoulli=bernoulli, reference=reference)
        self._moment = moment
        self._told_at = -1
        self._told: dict[tuple[int, int], list[Drift]] = {}

    def drifts(self, losses: Float, start: int) -> list[Drift]:
        """Give the drifts in a batch; asked for the same one again, the same."""
        if self._told_at != self._moment.number:
            self._told_at = self._moment.number
            self._told.clear()
        # A stretch comes in several batches where corrections lie between; each is known by its place and length.
        key = (start, len(losses))
        if key not in self._told:
            self._told[key] = self._drifts(losses, start)
        return self._told[key]

    @property
    def reference_std(self) -> float:
        """Standard deviation of the reference's losses."""
        return self._reference_std


class Tracks:
    """The detectors of one version that are at work, by what makes them what they are."""

    def __init__(self, moment: Moment, *, bernoulli: bool, reference: State | None) -> None:
        self._moment = moment
        self._bernoulli = bernoulli
        self._reference = reference
        self._made: dict[tuple[str, int, float, int], Track] = {}

    def track(self, settings: ConceptDriftSettings, since: int) -> Track:
        """Give the track of the one detector in the settings, begun at an outcome."""
        item = settings.detectors[0]
        name = f"{item.name} {sorted(item.params.items())!r}"
        key = (name, settings.reference_outcomes, settings.loss_cap_quantile, since)
        if key not in self._made:
            for old in [old for old in self._made if old[3] < since]:
                del self._made[old]  # the monitors were reset, all of them at the same moment
            track = Track(settings, self._moment, bernoulli=self._bernoulli, reference=self._reference)
            self._made[key] = track
            if since:
                track.reset(since)
        return self._made[key]


class SharedLoss(LossMonitor):
    """The loss of one version under one configuration: its own votes and causes, on shared detectors."""

    def __init__(
        self,
        settings: ConceptDriftSettings,
        recovered_outcomes: int,
        tracks: Tracks,
        *,
        bernoulli: bool,
        reference: State | None,
    ) -> None:
        self._tracks = tracks
        super().__init__(settings, recovered_outcomes, bernoulli=bernoulli, reference=reference)
        self._singles = [_single(settings, item) for item in self._chosen]

    def _drifts(self, losses: Float, start: int) -> list[Drift]:
        if not self._singles:
            return super()._drifts(losses, start)
        found: list[Drift] = []
        for place, single in enumerate(self._singles):
            track = self._tracks.track(single, self._first_number)
            found.extend(drift._replace(place=place) for drift in track.drifts(losses, start))
            self.reference_mean, self._reference_std = track.reference_mean, track.reference_std
        return sorted(found, key=lambda drift: (drift.row, drift.place))


def _single(settings: ConceptDriftSettings, item: DetectorSettings) -> ConceptDriftSettings:
    # A track has one detector; nothing else in the settings concerns it.
    return ConceptDriftSettings(
        detectors=(item,),
        reference_outcomes=settings.reference_outcomes,
        loss_cap_quantile=settings.loss_cap_quantile,
    )
