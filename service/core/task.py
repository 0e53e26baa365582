"""The core of one task: records in, outputs and state out. Pure: same records in same steps give the same bytes.

A step's records are merged (intake), turned into columns (prepare), and flow in stretches: a stretch ends where a timer
may fire (the watermark reaches a multiple of `tick_ms`) or a command applies. Within a stretch the join and every
monitor work on whole columns. Where a batch happens to end changes nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Self

import numpy as np

from schemas.outputs import Output
from service.core.addressed import addressed, under
from service.core.batches import count_by_place, group, version_batches
from service.core.columns import Bool, Int
from service.core.effects import Caused, StepResult
from service.core.failures import ModelError, at_work_on
from service.core.intake import Intake, Merged, Positions, Role
from service.core.join import Gone, JoinBuffer, JoinResult, LabelFate, Spill
from service.core.label_flow import Unmet
from service.core.late import NO_PREDICTION, bury_late, bury_orphans, note_late
from service.core.layout import inside
from service.core.limits import TaskLimits
from service.core.memory import MonitorMemory
from service.core.model import ModelMonitor
from service.core.prepare import ControlRow, Prepared, TaskTopics, prepare
from service.core.quarantine import HELD, Mark, QuarantineBook, mark_of
from service.core.repeated_ids import Repeated
from service.core.roster import Roster, VersionKey
from service.core.settings import CoreSettings
from service.core.strays import StrayBook
from service.core.stretch import Stretch, Stretches, find_stops
from service.core.task_state import TaskHeader, TaskState, blaming, read_entry, read_join, read_models
from service.core.units import as_told
from service.core.verdicts import Quarantine, Verdict
from service.core.version_batch import VersionBatch
from service.core.version_state import JoinCounts
from service.core.waiting_names import WaitingNames, follow_names


class Task:
    """One partition number of the inputs: its join, its models, its timers."""

    def __init__(
        self, settings: CoreSettings, topics: TaskTopics, positions: Positions, *, spill: Spill | None = None
    ) -> None:
        self.settings = settings
        self.topics = topics
        self.intake = Intake(positions)
        self.roster = Roster(settings)
        self.models: dict[str, ModelMonitor] = {}
        self.join = JoinBuffer(settings.join, spill=spill)
        self.limits = TaskLimits(settings)
        self.quarantine = QuarantineBook()
        self.strays = StrayBook()
        self.memory = MonitorMemory(settings)
        self._stirred: set[str] = set()
        """Models that were touched since the last tick."""
        self.names = WaitingNames()
        self._verdicts: list[Verdict] = []
        """Of the step that comes next."""
        self.sequence = 0
        """Records taken since the task began."""
        self._newest_ms = 0
        self._last_tick = 0
        self._changed: set[str] = set()
        self._state = TaskState()

    @property
    def watermark_ms(self) -> int:
        """No record is expected any more from before this event time."""
        return self._newest_ms - self.settings.allowed_lateness_ms

    # -------------------------------------------------------------------------------------------------- step

    def step(self, idle: frozenset[Role], max_records: int) -> StepResult | None:
        """Take the records whose turn has come; None where there are none."""
        merged = self.intake.take(idle, max_records)
        return None if merged is None else self._apply(merged)

    def finish(self) -> list[Output]:
        """Tell what no metric snapshot has told yet: the input has an end, and it is reached. A live one has none."""
        outputs: list[Caused] = []
        for model_id in sorted(self.models):
            self._changed.add(model_id)
            outputs += self.models[model_id].finish(self.watermark_ms + 1, self.sequence)
        return [as_told(caused.output) for caused in outputs]

    def step_to(self, end: Positions) -> StepResult:
        """Take exactly the records before `end`, as a step did before."""
        return self._apply(self.intake.take_to(end))

    def step_through(self, ends: Int) -> StepResult:
        """Take exactly the records of several steps that were taken before; see `Intake.take_through`."""
        return self._apply(self.intake.take_through(ends))

    def judge(self, verdicts: Iterable[Verdict]) -> None:
        """Let verdicts take effect at the first record of the step that comes next, which isolated ones belong to."""
        self._verdicts += verdicts

    def _apply(self, merged: Merged) -> StepResult:
        count = len(merged.roles)
        sequence = np.arange(self.sequence, self.sequence + count, dtype=np.int64)
        newest = np.maximum.accumulate(np.maximum(merged.keys, self._newest_ms))
        watermark_ms = newest - self.settings.allowed_lateness_ms
        said: list[Caused] = []
        if count and (self._verdicts or self.quarantine.held):
            merged = self._keep_away(merged, watermark_ms, said)
        prepared = prepare(merged, sequence, watermark_ms, self.roster, self.topics)
        outputs = prepared.dead
        outputs.extend(said)
        self.strays.expect(merged, sequence, watermark_ms)
        self._flow(prepared, outputs)
        outputs.extend(self.strays.until(None))
        self.sequence += count
        if count:
            self._newest_ms = int(newest[-1])
        outputs.sort(key=attrgetter("sequence"))
        return StepResult([as_told(caused.output) for caused in outputs], merged.end, merged.forced, count)

    def _flow(self, prepared: Prepared, outputs: list[Caused]) -> None:
        stretches = Stretches(prepared, self.roster)
        for stop in find_stops(prepared, self.settings.tick_ms, self._last_tick):
            self._observe(prepared, stretches.until(stop.sequence), outputs)
            if stop.tick_ms is not None:
                self._last_tick = stop.tick_ms // self.settings.tick_ms
                self._tick(stop.tick_ms, stop.sequence, outputs)
            if stop.control is not None:
                self._command(stop.control, outputs)
        self._observe(prepared, stretches.until(None), outputs)

    # --------------------------------------------------------------------------------------------- stretches

    def _observe(self, prepared: Prepared, stretch: Stretch, outputs: list[Caused]) -> None:
        if not len(stretch.sequence):
            return
        result = self.join.apply(stretch.ops)
        for place, batch in version_batches(prepared, stretch, result):
            key = self.roster.versions[place]
            self.memory.spoke(place, self._last_tick)
            try:
                outputs.extend(self._deliver(key, batch))
            except Exception as error:
                raise ModelError(key.model_id, "observe", error) from error
        self._count(prepared, stretch, result)
        names = follow_names(self.names, prepared.labels, stretch, result)
        if len(result.evicted.labels):
            after = stretch.sequence[result.evicted_labels_after]
            evicted = result.evicted.labels
            outputs.extend(bury_orphans(evicted, names, self.topics, self.roster, after, "the join was full"))

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

    def _counts(self, place: int) -> JoinCounts:
        """Give what the join counts of a version, whether its monitor is in memory or not."""
        key = self.roster.versions[place]
        model, name = self._model(key.model_id), key.model_version
        return model.versions.counts(name) if name in model.versions else model.version(name).counts

    def _count(self, prepared: Prepared, stretch: Stretch, result: JoinResult) -> None:
        self._note_repeated(prepared, stretch, ~result.new_prediction)
        self._count_gone(result.evicted, "evicted")
        self._note_unmatched(prepared, stretch, result.label_fate == LabelFate.WAITING)
        duplicate = result.label_fate == LabelFate.DUPLICATE
        if not duplicate.any():
            return
        labels = slice(stretch.first_label, stretch.first_label + len(duplicate))
        models, numbers = prepared.labels.place[labels][duplicate], prepared.labels.sequence[labels][duplicate]
        for place in np.unique(models).tolist():
            model_id = self.roster.models[place].model_id
            monitor = self.models.get(model_id)
            if monitor is not None:  # else there is no version that it could be put down to
                self._changed.add(model_id)
                with at_work_on(model_id, "observe"):
                    monitor.count_duplicate_labels(numbers[models == place])

    def _note_repeated(self, prepared: Prepared, stretch: Stretch, repeated: Bool) -> None:
        if not repeated.any():
            return
        batch, start = prepared.predictions, stretch.first_prediction
        groups = group(batch.place[start : start + len(repeated)], repeated)
        for place, first, stop in groups.shares:
            rows = start + groups.rows[first:stop]
            row, last = int(rows[0]), int(rows[-1])
            identifier, sequence = batch.events[row].prediction_id, int(batch.sequence[row])
            said = Repeated(stop - first, sequence, identifier, int(batch.watermark_ms[last]))
            with at_work_on(self.roster.versions[place].model_id, "observe"):
                self._counts(place).add("duplicates", stop - first)
                self._model(self.roster.versions[place].model_id).note_repeated(said)

    def _note_unmatched(self, prepared: Prepared, stretch: Stretch, unmatched: Bool) -> None:
        if not unmatched.any():
            return
        batch, start = prepared.labels, stretch.first_label
        groups = group(batch.place[start : start + len(unmatched)], unmatched)
        for place, first, stop in groups.shares:
            monitor = self.models.get(self.roster.models[place].model_id)
            if monitor is not None:
                rows = start + groups.rows[first:stop]
                ids = [batch.events[row].prediction_id for row in rows.tolist()]
                self._changed.add(self.roster.models[place].model_id)
                with at_work_on(self.roster.models[place].model_id, "observe"):
                    monitor.note_unmatched(Unmet(batch.sequence[rows], batch.watermark_ms[rows], ids))

    def _count_gone(self, gone: Gone, name: str) -> None:
        for place, count in count_by_place(gone.predictions["monitor"].astype(np.int64)):
            model_id = self.roster.versions[place].model_id
            if model_id not in self.quarantine.held:
                with at_work_on(model_id, "tick" if name == "expired" else "observe"):
                    self._counts(place).add(name, count)

    # ------------------------------------------------------------------------------- what is kept away

    def _keep_away(self, merged: Merged, watermark_ms: Int, told: list[Caused]) -> Merged:
        verdicts, self._verdicts = self._verdicts, []
        mark = mark_of(merged, self.sequence, int(watermark_ms[0]), self.topics)
        for verdict in verdicts:
            if isinstance(verdict, Quarantine):
                told += self._hold(verdict, mark)
            else:
                self.quarantine.strike(verdict, self._progress(verdict.model_id, verdict.role))
        return self.quarantine.screened(merged, verdicts)

    def _hold(self, verdict: Quarantine, mark: Mark) -> list[Caused]:
        """Drop a model's monitors; what they had told of as firing ends."""
        monitor = self.models.pop(verdict.model_id, None)
        self._changed.discard(verdict.model_id)
        transitions = []
        if monitor is not None:
            places = [self.roster.place_of(verdict.model_id, version) for version in monitor.versions]
            self._state.drop(verdict.model_id, places)
            self.memory.release(places)
            with at_work_on(verdict.model_id, "command"):
                transitions += [] if verdict.silent else monitor.alerts.withdraw(None, HELD, mark.time_ms)
        transitions += self.quarantine.hold(verdict, mark)
        return [Caused(mark.sequence, transition.alert) for transition in transitions if not transition.alert.muted]

    def _progress(self, model_id: str | None, role: int) -> int:
        """Count the records of one input that a model's monitors have taken in."""
        monitor = self.models.get(model_id or "")
        return 0 if monitor is None else monitor.versions.taken(labels=role == Role.LABELS)

    def isolated_in_a_row(self) -> dict[tuple[str, int], int]:
        """Count, by model and input, the records that were isolated since the model last took one in."""
        return {key: self.quarantine.in_a_row(*key, self._progress(*key)) for key in self.quarantine.strikes}

    # ------------------------------------------------------------------------------------ timers and commands

    def _tick(self, now_ms: int, sequence: int, outputs: list[Caused]) -> None:
        gone = self.join.expire(now_ms)
        self._count_gone(gone, "expired")
        at = np.full(len(gone.labels), sequence)
        waited = [*gone.labels["offset"].tolist(), *gone.late.labels["offset"].tolist()]
        names = {offset: self.names.take(offset) for offset in waited}
        outputs.extend(bury_orphans(gone.labels, names, self.topics, self.roster, at, NO_PREDICTION))
        if len(gone.late.labels):
            outputs.extend(bury_late(gone.late, names, self.topics, self.roster, self.settings.join, now_ms, sequence))
            self._changed.update(note_late(gone.late, self.topics, self.roster, self.models, now_ms, sequence))
        self.names.forget_before(now_ms - self.settings.join.orphan_horizon_ms - self.settings.tick_ms)
        outputs.extend(self.limits.tick(now_ms, sequence, self.roster))
        outputs.extend(self.strays.tick(now_ms, sequence))
        for model_id in sorted(self.models):
            model = self.models[model_id]
            try:
                if model.next_deadline_ms() <= now_ms:
                    self._changed.add(model_id)
                    self._stirred.add(model_id)
                    outputs.extend(model.tick(now_ms, sequence))
            except Exception as error:
                raise ModelError(model_id, "tick", error) from error
        self._settle_memory(now_ms, sequence, outputs)

    def _settle_memory(self, now_ms: int, sequence: int, outputs: list[Caused]) -> None:
        memory, before = self.memory, self.memory.evicted_total
        forgotten = memory.settle(sorted(self._stirred), self.models, self.roster)
        self._stirred.clear()
        self._state.drop_versions(forgotten)
        self._changed.update(self.roster.versions[place].model_id for place in forgotten)
        if memory.evicted_total > before:
            outputs.extend(self.limits.tell_memory(memory.evicted_total, memory.dropped_total, sequence, now_ms))

    def _command(self, row: ControlRow, outputs: list[Caused]) -> None:
        ended = self.quarantine.released_by(row.event, max(row.watermark_ms, 0))
        outputs.extend(Caused(row.sequence, transition.alert) for transition in ended)
        units = addressed(row, self.roster, self.quarantine.held, self._model)
        for model in units:
            try:
                outputs.extend(self._model(model.model_id).command(under(row, model)))
            except Exception as error:
                raise ModelError(model.model_id, "command", error) from error
        if not units:
            outputs.append(Caused(row.sequence, self.quarantine.unreached(row, self.topics)))

    # ------------------------------------------------------------------------------------------------- state

    def changed_state(self) -> dict[str, bytes | None]:
        """Give the entries that changed since the last call (None: removed). They count as stored from now on."""
        return {name: entry for part in self.changed_parts() for name, entry in part.items()}

    def changed_parts(self) -> Iterator[dict[str, bytes | None]]:
        """Give them in parts of some hundred microseconds, between which the caller may do anything but step.

        A thousand models take a second: too long for one who has to answer others meanwhile.
        """
        header: TaskHeader = {
            "sequence": self.sequence,
            "newest_ms": self._newest_ms,
            "last_tick": self._last_tick,
            "clocks_ms": self.intake.clocks_ms,
            "roster": self.roster.snapshot(),
            "limits": self.limits.snapshot(),
            "quarantine": self.quarantine.snapshot(),
            "strays": self.strays.snapshot(),
            "memory": self.memory.snapshot(self.models, self.roster),
            "names": self.names.snapshot(),
            "models": list(self.models),
        }
        yield from self._state.changes(header, self.join, self.models, self.roster, self._changed)
        self._changed.clear()

    @classmethod
    def restore(
        cls,
        settings: CoreSettings,
        topics: TaskTopics,
        positions: Positions,
        entries: Mapping[str, bytes],
        *,
        spill: Spill | None = None,
    ) -> Self:
        """Make the task that gave these entries at these positions.

        Raises CorruptStateError, NewerStateError or StateError that names the entry.
        """
        *_, task = cls.restoring(settings, topics, positions, entries, spill=spill)
        return task

    @classmethod
    def restoring(
        cls,
        settings: CoreSettings,
        topics: TaskTopics,
        positions: Positions,
        entries: Mapping[str, bytes],
        *,
        spill: Spill | None = None,
    ) -> Iterator[Self]:
        """Do the same in parts of milliseconds: gives the task after each of them. Only at the end it is whole."""
        task = cls(settings, topics, positions, spill=spill)
        task._state.adopt(entries)
        header = read_entry(entries, "task", "task")
        with blaming("task"):
            task._take_header(header, positions)
        task.join = read_join(entries, settings.join, spill)
        yield task
        for model_id, monitor in read_models(header["models"], task.roster, topics, entries, task.memory):
            task.models[model_id] = monitor
            yield task
        task.memory.measure_all(task.models, task.roster)
        yield task

    def _take_header(self, header: TaskHeader, positions: Positions) -> None:
        self.sequence = header["sequence"]
        self._newest_ms = header["newest_ms"]
        self._last_tick = header["last_tick"]
        control, predictions, labels = header["clocks_ms"]
        self.intake = Intake(positions, (control, predictions, labels))
        with inside("roster"):
            self.roster.restore(header["roster"])
        with inside("limits"):
            self.limits.restore(header["limits"])
        with inside("quarantine"):
            self.quarantine.restore(header["quarantine"])
        with inside("strays"):
            self.strays.restore(header["strays"])
        with inside("memory"):
            self.memory.restore(header["memory"])
        with inside("names"):
            self.names.restore(header["names"])
