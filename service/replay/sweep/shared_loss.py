"""The detectors on the loss, as `sweep.shared` shares the other monitors: each votes in many configurations."""

from detectors.protocol import State
from service.core.columns import Float
from service.core.loss import LossMonitor
from service.core.loss_detectors import LossReference
from service.core.loss_feed import Drift
from service.core.settings import ConceptDriftSettings, DetectorSettings
from service.replay.sweep.shared import Moment

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

    @property
    def known(self) -> LossReference | None:
        """The reference window; None until it is whole."""
        return self._known

    @property
    def reference_end(self) -> int:
        """Outcomes that had come when the reference window was whole."""
        return 0 if self._course is None else self._course.state.notes[0].number

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
            self._share_reference(track)
        return sorted(found, key=lambda drift: (drift.row, drift.place))

    def _share_reference(self, track: Track) -> None:
        """Hold the loss against the reference window that the shared detector has learnt."""
        if track.known is not None and self._known is None:
            self._know(track.known, track.reference_end)


def _single(settings: ConceptDriftSettings, item: DetectorSettings) -> ConceptDriftSettings:
    # A track has one detector; nothing else in the settings concerns it.
    return ConceptDriftSettings(
        detectors=(item,),
        reference_outcomes=settings.reference_outcomes,
        loss_cap_quantile=settings.loss_cap_quantile,
    )
