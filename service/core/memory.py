"""How much memory the monitors of a task may take, and which are put by where that is not enough.

All versions of a task share one budget. At a tick at which they are beyond it, those that have had no event for longest
are put by (see Shelf) until nine tenths of it are in use; what is put by has a bound of its own, and beyond it those
without an event for longest are forgotten. All of that follows from the records alone, wherever batches were cut and
whenever the task was restored: sizes are those of what monitors hold and not of what was allocated.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypedDict

from service.core.failures import at_work_on
from service.core.model import ModelMonitor
from service.core.roster import Roster
from service.core.settings import CoreSettings
from service.core.version import VersionMonitor

_LOW: Final = 0.9
"""How full the budget is left, so that not every tick puts one by."""

_NEVER: Final = -1


_BASE_BYTES: Final = 38_000
"""What a version takes before it has seen anything: detectors, histograms, small arrays and their heads."""

_RECENT_BYTES: Final = 13
"""A recent prediction without its label."""


def held_bytes(version: VersionMonitor) -> int:
    """Say what a version's monitors hold in memory, within a fifth; it costs microseconds.

    A function of what is stored of it, and not of what was allocated: the same after a restart, wherever batches were
    cut. The base is small beside the rest where there are features: 9 kB for a numeric one of 20 bins, 45 kB for a text
    of 100 categories.
    """
    recent = min(version.counts.values["predictions"], version.estimate.recent.capacity) * _RECENT_BYTES
    windows = version.window.size_bytes + version.segments.size_bytes + recent
    answers = version.predictions.size_bytes + version.labels.size_bytes
    return _BASE_BYTES + windows + version.features.size_bytes + version.embeddings.size_bytes + answers


class MemoryState(TypedDict):
    """The snapshot of a MonitorMemory. Versions by their places in the roster."""

    spoken: list[int]
    """Of each place the number of the last tick before its newest event; -1: unknown."""
    parked: list[tuple[int, int]]
    """Places that are put by, and their bytes before compression."""
    evicted_total: int
    dropped_total: int


class MonitorMemory:
    """Keeps the books: who spoke last, who takes how much."""

    def __init__(self, settings: CoreSettings) -> None:
        self.max_bytes = settings.max_monitor_bytes
        self.max_parked_bytes = settings.max_parked_monitor_bytes
        self._spoken: dict[int, int] = {}
        self._sizes: dict[int, int] = {}
        self._parked: dict[int, int] = {}
        self.awake_bytes = 0
        """What the monitors in memory hold, as of the last tick."""
        self.evicted_total = 0
        """Times that a version was put by."""
        self.dropped_total = 0
        """Versions that were forgotten."""

    @property
    def parked_raw_bytes(self) -> int:
        """Bytes of what is put by, before compression."""
        return sum(self._parked.values())

    @property
    def parked_count(self) -> int:
        """Versions that are put by."""
        return len(self._parked)

    def spoke(self, place: int, tick: int) -> None:
        """Note that a version has an event, behind the tick of this number."""
        self._spoken[place] = tick

    # ------------------------------------------------------------------------------------------------- ticks

    def settle(self, stirred: Iterable[str], models: Mapping[str, ModelMonitor], roster: Roster) -> list[int]:
        """Bring the books up to date with models that were touched, and keep the bounds; call it at each tick.

        Gives the places of versions that were forgotten.
        """
        for model_id in stirred:
            if model_id in models:
                with at_work_on(model_id, "tick"):
                    self._measure(model_id, models[model_id], roster)
        if self.awake_bytes <= self.max_bytes:
            return []
        for place in self._oldest(self._sizes):
            if self.awake_bytes <= _LOW * self.max_bytes or len(self._sizes) == 1:
                break
            with at_work_on(roster.versions[place].model_id, "tick"):
                self._park(place, models, roster)
        return list(self._forget(models, roster))

    def measure_all(self, models: Mapping[str, ModelMonitor], roster: Roster) -> None:
        """Measure every version that is awake, as after a restart."""
        for model_id, model in models.items():
            model.versions.stirred.update(name for name, _ in model.versions.awake())
            self._measure(model_id, model, roster)

    def release(self, places: Iterable[int]) -> None:
        """Forget what was noted of versions that are gone."""
        for place in places:
            self.awake_bytes -= self._sizes.pop(place, 0)
            self._parked.pop(place, None)
            self._spoken.pop(place, None)

    def is_parked(self, place: int) -> bool:
        """Whether a version is put by, as of the last tick."""
        return place in self._parked

    def _measure(self, model_id: str, model: ModelMonitor, roster: Roster) -> None:
        for name in model.versions.stirred if model.PARKS else ():
            place = roster.place_of(model_id, name)
            size = held_bytes(model.versions[name])
            self.awake_bytes += size - self._sizes.get(place, 0)
            self._sizes[place] = size
            self._parked.pop(place, None)
        model.versions.stirred.clear()

    def _oldest(self, places: Iterable[int]) -> list[int]:
        return sorted(places, key=lambda place: (self._spoken.get(place, _NEVER), place))

    def _park(self, place: int, models: Mapping[str, ModelMonitor], roster: Roster) -> None:
        key = roster.versions[place]
        self._parked[place] = models[key.model_id].versions.park(key.model_version)
        self.awake_bytes -= self._sizes.pop(place)
        self.evicted_total += 1

    def _forget(self, models: Mapping[str, ModelMonitor], roster: Roster) -> Iterator[int]:
        total = self.parked_raw_bytes
        for place in self._oldest(self._parked):
            if total <= self.max_parked_bytes:
                return
            key = roster.versions[place]
            models[key.model_id].versions.forget(key.model_version)
            total -= self._parked[place]
            self.dropped_total += 1
            self.release([place])
            yield place

    # ------------------------------------------------------------------------------------------------- state

    def snapshot(self, models: Mapping[str, ModelMonitor], roster: Roster) -> MemoryState:
        """Give it as plain data. Whoever woke since the last tick is not put by."""
        asleep = [
            (place, size)
            for place, size in self._parked.items()
            if not models[roster.versions[place].model_id].versions.is_awake(roster.versions[place].model_version)
        ]
        count = max(self._spoken, default=-1) + 1
        return {
            "spoken": [self._spoken.get(place, _NEVER) for place in range(count)],
            "parked": asleep,
            "evicted_total": self.evicted_total,
            "dropped_total": self.dropped_total,
        }

    def restore(self, state: MemoryState) -> None:
        """Take over a snapshot; see `measure_all`."""
        self._spoken = {place: tick for place, tick in enumerate(state["spoken"]) if tick != _NEVER}
        self._parked = dict(state["parked"])
        self.evicted_total, self.dropped_total = state["evicted_total"], state["dropped_total"]
