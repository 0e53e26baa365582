"""When a model's events came, and what its outcomes lost: the ruler against which a backtest is scored.

Bounded: at MAX_POINTS neighbours are put together, so that a ruler over a billion events has a thousand events between
its marks and still fits in memory.
"""

from typing import Final, NamedTuple

import numpy as np

from service.core.columns import Float, Int
from service.core.effects import Caused
from service.core.intake import Positions
from service.core.metrics import loss
from service.core.metrics.catalogue import ResolvedProblem
from service.core.prepare import TaskTopics
from service.core.roster import VersionKey
from service.core.settings import CoreSettings
from service.core.task import Task
from service.core.units import model_of
from service.core.version_batch import VersionBatch

MAX_POINTS: Final = 1_000_000
"""Marks of a ruler, 8 to 24 bytes each."""
MAX_MODELS: Final = 1_000
"""Models that are measured; events of further ones are counted, and not scored."""


class Losses(NamedTuple):
    """Outcomes in order, in groups. Shape (n,) each."""

    watermark_ms: Int
    """Of the last outcome of each group."""
    outcomes: Int
    """How many each group has."""
    total: Float
    """Sum of the losses."""
    prediction_ms: Int
    """Newest event time of a prediction among the outcomes up to this group: never falls."""


class Timeline:
    """One model's events and losses."""

    def __init__(self) -> None:
        self.events = 0
        self.outcomes = 0
        self.first_ms: int | None = None
        self.last_ms = 0
        self._times = _Marks()
        self._losses = _Groups()

    def add(self, batch: VersionBatch, problem: ResolvedProblem) -> None:
        """Take a stretch of one version's records."""
        if batch.predictions is not None and len(batch.predictions.sequence):
            watermarks = batch.predictions.watermark_ms
            self.first_ms = int(watermarks[0]) if self.first_ms is None else self.first_ms
            self.last_ms = int(watermarks[-1])
            self._times.add(watermarks)
            self.events += len(watermarks)
        if batch.outcomes is not None and len(batch.outcomes.sequence):
            losses = loss(problem, batch.outcomes.predicted, batch.outcomes.actual)
            usable = np.isfinite(losses)
            outcomes = batch.outcomes
            self._losses.add(outcomes.watermark_ms[usable], losses[usable], outcomes.prediction_time_ms[usable])
            self.outcomes += int(usable.sum())

    def event_at(self, time_ms: int) -> int:
        """Count the events up to a moment of event time: exact for MAX_POINTS events, else to the nearest mark."""
        return min(self._times.count_through(time_ms), self.events)

    def time_of(self, event: int) -> int:
        """Say when an event came, by its number from 0; beyond the last one: when that came."""
        return self._times.at(event) if self.events else 0

    @property
    def losses(self) -> Losses:
        """What the outcomes lost, in order."""
        return self._losses.columns()


class _Marks:
    """Rising numbers, of which every `stride`-th is kept."""

    def __init__(self) -> None:
        self._stride = 1
        self._parts: list[Int] = []
        self._kept = 0
        self._seen = 0

    def add(self, values: Int) -> None:
        first = -self._seen % self._stride
        kept = values[first :: self._stride].copy()
        self._seen += len(values)
        self._parts.append(kept)
        self._kept += len(kept)
        while self._kept > MAX_POINTS:
            self._parts = [np.concatenate(self._parts)[::2]]
            self._kept = len(self._parts[0])
            self._stride *= 2

    def _all(self) -> Int:
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return self._parts[0] if self._parts else np.empty(0, dtype=np.int64)

    def count_through(self, value: int) -> int:
        return int(np.searchsorted(self._all(), value, side="right")) * self._stride

    def at(self, number: int) -> int:
        marks = self._all()
        return int(marks[min(number // self._stride, len(marks) - 1)])


class _Groups:
    """Sums over groups of `size` outcomes."""

    def __init__(self) -> None:
        self._parts: list[Losses] = []
        self._kept = 0
        self._newest_ms = 0

    def add(self, watermark_ms: Int, losses: Float, prediction_ms: Int) -> None:
        if not len(losses):
            return
        newest = np.maximum.accumulate(np.maximum(prediction_ms, self._newest_ms))
        self._newest_ms = int(newest[-1])
        self._parts.append(Losses(watermark_ms.copy(), np.ones(len(losses), dtype=np.int64), losses.copy(), newest))
        self._kept += len(losses)
        while self._kept > MAX_POINTS:
            self._parts = [_pairs(self.columns())]
            self._kept = len(self._parts[0].outcomes)

    def columns(self) -> Losses:
        if not self._parts:
            none = np.empty(0, dtype=np.int64)
            return Losses(none, none, np.empty(0), none)
        if len(self._parts) > 1:
            columns = [np.concatenate([part[place] for part in self._parts]) for place in range(len(Losses._fields))]
            self._parts = [Losses(*columns)]
        return self._parts[0]


def _pairs(groups: Losses) -> Losses:
    starts = np.arange(0, len(groups.outcomes), 2)
    last = np.minimum(starts + 1, len(groups.outcomes) - 1)
    return Losses(
        groups.watermark_ms[last],
        np.add.reduceat(groups.outcomes, starts),
        np.add.reduceat(groups.total, starts),
        groups.prediction_ms[last],
    )


class MeasuredTask(Task):
    """A task that keeps a ruler for each of its models."""

    def __init__(self, settings: CoreSettings, topics: TaskTopics, positions: Positions) -> None:
        super().__init__(settings, topics, positions)
        self.timelines: dict[str, Timeline] = {}
        self.beyond_limit = 0
        """Stretches of models beyond MAX_MODELS."""

    def _deliver(self, key: VersionKey, batch: VersionBatch) -> list[Caused]:
        name = model_of(key.model_id)
        if self.roster.units(name)[0].model_id == key.model_id:  # a model's ruler is that of its first target
            self._measure(name, key, batch)
        return super()._deliver(key, batch)

    def _measure(self, name: str, key: VersionKey, batch: VersionBatch) -> None:
        timeline = self.timelines.get(name)
        if timeline is None and len(self.timelines) < MAX_MODELS:
            timeline = self.timelines[name] = Timeline()
        model = self.roster.model(key.model_id)
        if timeline is None or model is None:
            self.beyond_limit += 1
        else:
            read = batch if model.coded is None else batch.read_by(model.coded)
            timeline.add(read, "regression" if model.problem == "regression" else "multiclass")
