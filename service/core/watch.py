"""The models of a task: their monitors, clocks and timers, and how each is taken through a stretch of records."""

from collections.abc import Callable, Sequence

from service.core.effects import Caused
from service.core.failures import ModelError, at_work_on
from service.core.limits import TaskLimits
from service.core.memory import MonitorMemory
from service.core.model import ModelMonitor
from service.core.model_clocks import ModelClocks
from service.core.prepare import TaskTopics
from service.core.quarantine import QuarantineBook
from service.core.roster import Roster, VersionKey
from service.core.settings import CoreSettings
from service.core.shares import Share
from service.core.task_state import TaskState
from service.core.timers import NEVER, Timers
from service.core.version_batch import VersionBatch
from service.core.version_state import JoinCounts


class Watch:
    """Watches models. They do not touch each other between two ticks of the log's clock; at those, memory is shared."""

    def __init__(self, settings: CoreSettings, topics: TaskTopics) -> None:
        self.settings = settings
        self.topics = topics
        self.roster = Roster(settings)
        self.models: dict[str, ModelMonitor] = {}
        self.clocks = ModelClocks()
        self.timers = Timers(settings)
        self.limits = TaskLimits(settings)
        self.quarantine = QuarantineBook()
        self.memory = MonitorMemory(settings)
        self._last_tick = 0
        """Of the log's clock."""
        self._changed: set[str] = set()
        """Models that are to be stored."""
        self._stirred: set[str] = set()
        """Models that were touched since the last tick."""
        self._state = TaskState()

    def _walk(self, model: int, share: Share, outputs: list[Caused]) -> None:
        """Take one model through the stretch: its records, and between them its timers and commands."""
        model_id = share.model_id
        if model_id in self.models:
            self._changed.add(model_id)  # its clock has gone on
        moments, segments = share.moments_in_order(), share.segments()
        for moment in moments:
            self._observe(next(segments), outputs)
            self._count(share, moment.sequence)
            if self._deadline_ms(model_id) <= self.timers.tick(moment.clock_ms):
                self._fire(model_id, self.timers.tick(moment.clock_ms), moment.sequence, outputs)
        self._observe(next(segments), outputs)
        self._count(share, NEVER)
        self._set_timer(model)

    def _set_timer(self, model: int) -> None:
        deadline_ms = self._deadline_ms(self.roster.models[model].model_id)
        self.timers.set(model, deadline_ms, self.clocks.time_of(model))

    def _deadline_ms(self, model_id: str) -> int:
        monitor = self.models.get(model_id)
        try:
            return NEVER if monitor is None else monitor.next_deadline_ms()
        except Exception as error:
            raise ModelError(model_id, "tick", error) from error

    def _observe(self, batches: Sequence[tuple[int, VersionBatch]], outputs: list[Caused]) -> None:
        if len(batches) < 2:
            self._deliver_each(batches, outputs)
            return
        model_id = self.roster.versions[batches[0][0]].model_id
        model = self._model(model_id)
        model.together()
        self._deliver_each(batches, outputs)
        with at_work_on(model_id, "observe"):
            outputs.extend(model.part())

    def _deliver_each(self, batches: Sequence[tuple[int, VersionBatch]], outputs: list[Caused]) -> None:
        for place, batch in batches:
            key = self.roster.versions[place]
            self.memory.spoke(place, self._last_tick)
            try:
                outputs.extend(self._deliver(key, batch))
            except Exception as error:
                raise ModelError(key.model_id, "observe", error) from error

    def _deliver(self, key: VersionKey, batch: VersionBatch) -> list[Caused]:
        """Hand a stretch of a version's records to its monitor. A backtest looks on here."""
        return self._model(key.model_id).observe(key.model_version, batch)

    def _model(self, model_id: str) -> ModelMonitor:
        self._changed.add(model_id)
        self._stirred.add(model_id)
        monitor = self.models.get(model_id)
        if monitor is None:
            model = self.roster.model(model_id)
            if model is None:
                raise KeyError(model_id)
            monitor = self.models[model_id] = ModelMonitor(model, self.topics)
        return monitor

    def _counts(self, place: int, sequence: int) -> JoinCounts:
        """Give what the join counts of a version, whether its monitor is in memory or not.

        `sequence`: number of the record from which on it is watched, should it not be yet.
        """
        key = self.roster.versions[place]
        model, name = self._model(key.model_id), key.model_version
        return model.versions.counts(name) if name in model.versions else model.version(name, sequence).counts

    def _let_go(self, place: int, why: str, predictions: int, sequence: int) -> None:
        """Count predictions of a version that came to nothing at a record, by a name of `JoinCounts`."""
        self._counts(place, sequence).add(why, predictions)
        if why != "duplicates":
            self._model(self.roster.versions[place].model_id).note_gone(predictions)

    def _count(self, share: Share, sequence: int) -> None:
        """Count and note what the join has said before a record, and was not told yet."""
        with at_work_on(share.model_id, "observe"):
            for counted in share.counted_until(2 * sequence):
                if share.model_id not in self.quarantine.held:
                    self._let_go(counted.place, counted.name, counted.predictions, counted.at // 2)
            share.tell(self.models.get(share.model_id), sequence)

    def _fire(self, model_id: str, now_ms: int, sequence: int, outputs: list[Caused]) -> None:
        try:
            outputs.extend(self._model(model_id).tick(now_ms, sequence))
        except Exception as error:
            raise ModelError(model_id, "tick", error) from error

    def _settle_memory(self, now_ms: int, sequence: int, outputs: list[Caused]) -> None:
        memory, before = self.memory, self.memory.evicted_total
        forgotten = memory.settle(sorted(self._stirred), self.models, self.roster)
        self._stirred.clear()
        self._state.drop_versions(forgotten)
        self._changed.update(self.roster.versions[place].model_id for place in forgotten)
        if memory.evicted_total > before:
            outputs.extend(self.limits.tell_memory(memory.evicted_total, memory.dropped_total, sequence, now_ms))

    def _watermark_at(self, log_ms: int) -> Callable[[int], int]:
        return lambda model: self.timers.watermark(self.clocks.time_of(model).at(log_ms))
