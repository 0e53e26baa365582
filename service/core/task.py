"""The core of one task: records in, outputs and state out. Pure: same records in same steps give the same bytes.

A step's records are merged (intake), turned into columns (prepare) and joined (stretch), in order. Then each model
takes its part by itself (shares), cut where its own timers may fire or a command applies: models do not touch each
other, and each has a clock of its own (model_clocks, timers). Between cuts every monitor works on whole columns. Where
a batch happens to end changes nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Self

import numpy as np

from schemas.outputs import Output
from service.core.addressed import addressed, under
from service.core.batches import Watermarks, count_by_place
from service.core.clock import RobustClock
from service.core.columns import Int
from service.core.effects import Caused, StepResult
from service.core.failures import ModelError, at_work_on
from service.core.intake import Intake, Merged, Positions, Role
from service.core.join import JoinBuffer, Spill
from service.core.late import NO_PREDICTION, bury_late, bury_orphans, note_late
from service.core.layout import inside
from service.core.model import ModelMonitor
from service.core.model_clocks import Rows, begun_at
from service.core.prepare import ControlRow, LabelBatch, PredictionBatch, Prepared, TaskTopics, prepare
from service.core.quarantine import HELD, Mark, mark_of
from service.core.settings import CoreSettings
from service.core.shares import shares_of
from service.core.state import CorruptStateError
from service.core.strays import StrayBook
from service.core.stretch import Operations, StepJoin, Stop, find_ticks
from service.core.task_state import TaskHeader, blaming, read_entry, read_join, read_models
from service.core.units import as_told
from service.core.verdicts import Quarantine, Verdict
from service.core.waiting_names import WaitingNames, follow_names
from service.core.watch import Watch


class Task(Watch):
    """One partition number of the inputs: its join, its models, its timers."""

    def __init__(
        self, settings: CoreSettings, topics: TaskTopics, positions: Positions, *, spill: Spill | None = None
    ) -> None:
        super().__init__(settings, topics)
        self.intake = Intake(positions)
        self.join = JoinBuffer(settings.join, spill=spill)
        self.strays = StrayBook()
        self.names = WaitingNames()
        self._verdicts: list[Verdict] = []
        """Of the step that comes next."""
        self.sequence = 0
        """Records taken since the task began."""
        self.log_clock = RobustClock()
        self._begun_ms = 0
        """Where models' clocks go on of which an older program kept none."""

    @property
    def watermark_ms(self) -> int:
        """How far the task has come: clock of the log, by the timestamps of its records. Each model has its own."""
        return self.log_clock.now_ms

    def watermark_of(self, model_id: str) -> int:
        """Give a model's own watermark, to which the clock of the log has carried it."""
        model = self.roster.model(model_id)
        if model is None:
            raise KeyError(model_id)
        return self.timers.watermark(self.clocks.time_of(model.place).at(self.watermark_ms))

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
            outputs += self.models[model_id].finish(self.watermark_of(model_id) + 1, self.sequence)
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
        before_ms = self.log_clock.now_ms
        log_ms = self.log_clock.advance(merged.log_times_ms)
        said: list[Caused] = []
        if count and (self._verdicts or self.quarantine.held):
            merged = self._keep_away(merged, log_ms, said)
        prepared = prepare(merged, sequence, log_ms, self.roster, self.topics)
        outputs = prepared.dead
        outputs.extend(said)
        self.strays.expect(merged, sequence, log_ms)
        self._flow(prepared, find_ticks(sequence, log_ms, self.settings.tick_ms, before_ms), outputs)
        outputs.extend(self.strays.until(None))
        self.sequence += count
        outputs.sort(key=attrgetter("sequence"))
        return StepResult([as_told(caused.output) for caused in outputs], merged.end, merged.forced, count)

    def _flow(self, prepared: Prepared, stops: list[Stop], outputs: list[Caused]) -> None:
        stops += [Stop(row.sequence, None, row) for row in prepared.controls]
        for stop in sorted(stops, key=_in_turn):
            self._stretch(prepared.before(stop.sequence), outputs)
            prepared = prepared.behind(stop.sequence)
            if stop.log_ms is not None:
                self._tick(stop.log_ms, stop.sequence, outputs)
            if stop.control is not None:
                self._command(stop.control, outputs)
        self._stretch(prepared, outputs)

    # ------------------------------------------------------------------------------ between two stops

    def _stretch(self, prepared: Prepared, outputs: list[Caused]) -> None:
        if not (len(prepared.predictions.events) or len(prepared.labels.events)):
            return
        operations = Operations(prepared, self.roster)
        joined = StepJoin(operations.sequence, self.join.apply(operations.ops))
        names = follow_names(self.names, prepared.labels, operations.ops.is_label, joined.result)
        after = joined.sequence[joined.result.evicted_labels_after]
        evicted = joined.result.evicted.labels
        outputs.extend(bury_orphans(evicted, names, self.topics, self.roster, after, "the join was full"))
        course = self.clocks.advance(self._timed(prepared.predictions), self._timed(prepared.labels))
        watermarks = Watermarks(
            self.timers.watermarks(course.predictions_ms),
            self.timers.watermarks(course.labels_ms),
            self.timers.watermarks(operations.in_order(course.predictions_ms, course.labels_ms)),
        )
        shares = shares_of(prepared, joined, course, watermarks, self.roster)
        for model, moment in self.timers.moments(course):
            shares[model].moments.append(moment)
        for model in sorted(shares):
            self._walk(model, shares[model], outputs)

    def _timed(self, batch: PredictionBatch | LabelBatch) -> Rows:
        models = batch.place if isinstance(batch, LabelBatch) else self.roster.models_of(batch.place)
        return Rows(models, batch.sequence, batch.told_ms, batch.log_ms)

    # ------------------------------------------------------------------------------- what is kept away

    def _keep_away(self, merged: Merged, log_ms: Int, told: list[Caused]) -> Merged:
        verdicts, self._verdicts = self._verdicts, []
        mark = mark_of(merged, self.sequence, int(log_ms[0]), self.topics)
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

    def _tick(self, log_ms: int, sequence: int, outputs: list[Caused]) -> None:
        """Let expire what waited too long, and fire what is due of models that were silent."""
        self._last_tick = log_ms // self.settings.tick_ms
        now_ms = self._last_tick * self.settings.tick_ms
        gone = self.join.expire(now_ms)
        for place, count in count_by_place(gone.predictions["monitor"].astype(np.int64)):
            model_id = self.roster.versions[place].model_id
            if model_id not in self.quarantine.held:
                with at_work_on(model_id, "tick"):
                    self._let_go(place, "expired", count, sequence - 1)
                self._set_timer(self.roster.model_place(model_id))
        at = np.full(len(gone.labels), sequence)
        waited = [*gone.labels["offset"].tolist(), *gone.late.labels["offset"].tolist()]
        names = {offset: self.names.take(offset) for offset in waited}
        outputs.extend(bury_orphans(gone.labels, names, self.topics, self.roster, at, NO_PREDICTION))
        if len(gone.late.labels):
            outputs.extend(bury_late(gone.late, names, self.topics, self.roster, self.settings.join, now_ms, sequence))
            watermark_of = self._watermark_at(log_ms)
            for model_id in note_late(gone.late, self.topics, self.roster, self.models, watermark_of, sequence):
                self._changed.add(model_id)
                self._set_timer(self.roster.model_place(model_id))
        self.names.forget_before(now_ms - self.settings.join.longest_orphan_ms - self.settings.tick_ms)
        outputs.extend(self.limits.tick(now_ms, sequence, self.roster))
        outputs.extend(self.strays.tick(now_ms, sequence))
        for model in self.timers.due(log_ms):
            model_id = self.roster.models[model].model_id
            if model_id in self.models:
                self._fire(model_id, self.timers.tick(self.clocks.time_of(model).at(log_ms)), sequence, outputs)
            self._set_timer(model)
        self._settle_memory(now_ms, sequence, outputs)

    def _command(self, row: ControlRow, outputs: list[Caused]) -> None:
        ended = self.quarantine.released_by(row.event, row.log_ms)
        outputs.extend(Caused(row.sequence, transition.alert) for transition in ended)
        units = addressed(row, self.roster, self.quarantine.held, self._model)
        for model in units:
            own = under(row, model)._replace(watermark_ms=self._watermark_at(row.log_ms)(model.place))
            try:
                outputs.extend(self._model(model.model_id).command(own))
            except Exception as error:
                raise ModelError(model.model_id, "command", error) from error
            self._set_timer(model.place)
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
            "log_clock": self.log_clock.snapshot(),
            "input_clocks": self.intake.clocks,
            "clocks": self._unwatched_clocks(),
            "begun_ms": self._begun_ms,
            "roster": self.roster.snapshot(),
            "limits": self.limits.snapshot(),
            "quarantine": self.quarantine.snapshot(),
            "strays": self.strays.snapshot(),
            "memory": self.memory.snapshot(self.models, self.roster),
            "names": self.names.snapshot(),
            "models": list(self.models),
        }
        yield from self._state.changes(header, self.join, self.models, self.roster, self._changed, self.clocks)
        self._changed.clear()

    def _unwatched_clocks(self) -> dict[str, list[int]]:
        """Give the clocks of models that have no monitor, and so no entry of their own."""
        models = [model for model in self.roster.models if model.model_id not in self.models]
        return {model.model_id: self.clocks.snapshot(model.place) for model in models}

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
        for model_id, monitor, clock in read_models(header["models"], task.roster, topics, entries, task.memory):
            task._adopt(model_id, monitor, clock)
            yield task
        task.memory.measure_all(task.models, task.roster)
        yield task

    def _take_header(self, header: TaskHeader, positions: Positions) -> None:
        self.sequence = header["sequence"]
        self.log_clock = RobustClock.restore(header["log_clock"])
        self._last_tick = self.log_clock.now_ms // self.settings.tick_ms
        self.intake = Intake(positions, header["input_clocks"])
        self._begun_ms = header["begun_ms"]
        with inside("roster"):
            self.roster.restore(header["roster"])
        with inside("clocks"):
            for model_id, clock in header["clocks"].items():
                self._set_clock(model_id, clock)
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

    def _adopt(self, model_id: str, monitor: ModelMonitor, clock: list[int] | None) -> None:
        """Take over a model. `clock`: None where an older program kept none; it goes on from where that task stood."""
        self.models[model_id] = monitor
        place = self._set_clock(model_id, begun_at(self._begun_ms) if clock is None else clock)
        self.timers.set(place, monitor.next_deadline_ms(), self.clocks.time_of(place))

    def _set_clock(self, model_id: str, clock: list[int]) -> int:
        model = self.roster.model(model_id)
        if model is None:
            raise CorruptStateError(f"task: the roster does not know {model_id}, which has a clock")
        self.clocks.restore(model.place, clock)
        return model.place


def _in_turn(stop: Stop) -> tuple[int, bool]:
    return stop.sequence, stop.control is not None
