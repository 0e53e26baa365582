"""The service broken on purpose, one way at a time: a proof is worth what it would have noticed.

Each mutant is a change that a reasonable person might make, or one that was made and that the simulator found.
"""

import secrets
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import msgspec
import pytest

from service.core import task as core_task
from service.core.classes import ClassTable
from service.core.intake import Intake, Positions, Role
from service.core.join import JoinBuffer
from service.core.quarantine import QuarantineBook
from service.eventlog.errors import FencedError, OutcomeUnknownError
from service.eventlog.memory import MemoryLog, MemoryWriter
from service.eventlog.protocol import NewRecord
from service.runtime import acquire, runner, worker
from service.runtime.changelog import Cut, Recovered, barrier_records, read_state
from service.runtime.context import TaskContext
from service.runtime.inputs_check import MarkBook
from service.runtime.ledger import Ledger
from tests.simulation.run import Judgement, judge

Patch = pytest.MonkeyPatch
_commit = MemoryWriter.commit


def state_is_read_before_the_fence(patch: Patch) -> None:
    original = acquire.acquire
    read_early: ContextVar[Recovered] = ContextVar("read_early")

    async def hasty(context: TaskContext) -> acquire.Acquired:
        token = secrets.token_bytes(16)
        appender = await context.carrier.appender()
        await appender.append(barrier_records(context.topics, context.task_id, token))
        read_early.set(await read_state(context.carrier, context.topics, context.task_id, token))
        return await original(context)

    async def give_what_was_read(*_: object) -> Recovered:
        return read_early.get()

    patch.setattr(acquire, "read_state", give_what_was_read)
    patch.setattr(runner, "acquire", hasty)


def a_fenced_writer_may_commit(patch: Patch) -> None:
    original = MemoryLog.commit

    def commit(self: MemoryLog, writer_id: str, epoch: int, records: Sequence[NewRecord]) -> None:
        original(self, writer_id, self._epochs[writer_id], records)

    patch.setattr(MemoryLog, "commit", commit)


def an_unknown_outcome_counts_as_done(patch: Patch) -> None:
    async def commit(self: MemoryWriter, records: Sequence[NewRecord]) -> None:
        try:
            await _commit(self, records)
        except OutcomeUnknownError:
            self._ended = None

    patch.setattr(MemoryWriter, "commit", commit)


def an_unknown_outcome_is_tried_again(patch: Patch) -> None:
    async def commit(self: MemoryWriter, records: Sequence[NewRecord]) -> None:
        while True:
            try:
                return await _commit(self, records)
            except FencedError:
                raise
            except OutcomeUnknownError:
                self._ended = None

    patch.setattr(MemoryWriter, "commit", commit)


def outputs_and_positions_are_two_transactions(patch: Patch) -> None:
    async def commit(self: MemoryWriter, records: Sequence[NewRecord]) -> None:
        outputs = [record for record in records if record.headers]
        if outputs:
            await _commit(self, outputs)
        await _commit(self, [record for record in records if not record.headers])

    patch.setattr(MemoryWriter, "commit", commit)


def state_and_positions_are_two_transactions(patch: Patch) -> None:
    async def commit(self: MemoryWriter, records: Sequence[NewRecord]) -> None:
        first = [record for record in records if record.key is not None and record.key.startswith(b"entry/")]
        if first:
            await _commit(self, first)
        await _commit(self, [record for record in records if record not in first])

    patch.setattr(MemoryWriter, "commit", commit)


def _with_cuts(patch: Patch, change: Callable[[tuple[Cut, ...]], tuple[Cut, ...]]) -> None:
    async def read(*args: Any) -> Recovered:
        found = await read_state(*args)
        return Recovered(found.head, found.entries, change(found.cuts))

    patch.setattr(acquire, "read_state", read)


def the_last_cut_is_overlooked(patch: Patch) -> None:
    _with_cuts(patch, lambda cuts: cuts[:-1])


def recovery_merges_the_steps_of_a_cut(patch: Patch) -> None:
    _with_cuts(patch, lambda cuts: tuple(Cut(c.number, c.start, c.steps[-1:], c.watermark_ms) for c in cuts))


def a_step_cut_by_an_idle_input_is_not_recorded(patch: Patch) -> None:
    original = Ledger.record

    def record(self: Ledger, result: Any, took_s: float) -> None:
        original(self, result._replace(forced=False), took_s)

    patch.setattr(Ledger, "record", record)


def verdicts_are_not_recorded(patch: Patch) -> None:
    patch.setattr(Ledger, "cut", _without_verdicts(Ledger.cut))


def _without_verdicts(original: Callable[[Ledger, int], Cut]) -> Callable[[Ledger, int], Cut]:
    def cut(self: Ledger, watermark_ms: int) -> Cut:
        return msgspec.structs.replace(original(self, watermark_ms), verdicts=())

    return cut


def recovery_forgets_verdicts(patch: Patch) -> None:
    _with_cuts(patch, lambda cuts: tuple(msgspec.structs.replace(cut, verdicts=()) for cut in cuts))


def who_is_in_quarantine_is_not_restored(patch: Patch) -> None:
    patch.setattr(QuarantineBook, "restore", lambda self, state: None)


def clocks_are_not_restored(patch: Patch) -> None:
    original = Intake.__init__

    def forget(self: Intake, positions: Positions, clocks_ms: tuple[int, int, int] = (0, 0, 0)) -> None:
        original(self, positions)

    patch.setattr(Intake, "__init__", forget)


def waiting_predictions_are_not_restored(patch: Patch) -> None:
    patch.setattr(core_task, "read_join", lambda entries, settings, spill: JoinBuffer(settings))


def a_task_goes_on_after_a_failed_commit(patch: Patch) -> None:
    original = runner._Work.commit

    async def commit(self: runner._Work, *, snapshot: bool) -> None:
        try:
            await original(self, snapshot=snapshot)
        except OutcomeUnknownError:
            self._writer = await self._context.carrier.writer(self._context.task_id.writer_id)

    patch.setattr(runner._Work, "commit", commit)


def a_snapshot_names_where_reading_stands(patch: Patch) -> None:
    original = acquire.state_records

    async def records(
        context: TaskContext, task: Any, number: int, positions: Positions, marks: MarkBook
    ) -> list[NewRecord]:
        return await original(context, task, number, task.intake.taken, marks)

    patch.setattr(runner, "state_records", records)


def a_repeated_step_ends_at_the_next_record(patch: Patch) -> None:
    original = Intake.take_through

    def take(self: Intake, ends: Any) -> Any:
        before = {role: self._queues[role].taken for role in Role}
        merged = original(self, ends)
        for role in Role:
            queue = self._queues[role]
            following = int(queue.blocks[0][0].offsets[queue.blocks[0][2]]) if queue.blocks else queue.position
            if queue.taken != before[role]:
                queue.taken = max(queue.taken, following)
        return merged._replace(end=self.taken)

    patch.setattr(Intake, "take_through", take)


def classes_of_the_whole_step_are_known_in_its_middle(patch: Patch) -> None:
    patch.setattr(ClassTable, "names_before", lambda self, sequence: list(self.names))


def a_failed_task_is_not_acquired_again(patch: Patch) -> None:
    def failed(self: Any, error: Exception) -> None:
        raise error

    patch.setattr(worker._Running, "_failed", failed)


MUTANTS: dict[str, Callable[[Patch], None]] = {
    mutant.__name__: mutant
    for mutant in (
        state_is_read_before_the_fence,
        a_fenced_writer_may_commit,
        an_unknown_outcome_counts_as_done,
        an_unknown_outcome_is_tried_again,
        outputs_and_positions_are_two_transactions,
        state_and_positions_are_two_transactions,
        the_last_cut_is_overlooked,
        recovery_merges_the_steps_of_a_cut,
        a_step_cut_by_an_idle_input_is_not_recorded,
        clocks_are_not_restored,
        waiting_predictions_are_not_restored,
        a_task_goes_on_after_a_failed_commit,
        a_snapshot_names_where_reading_stands,
        a_repeated_step_ends_at_the_next_record,
        classes_of_the_whole_step_are_known_in_its_middle,
        a_failed_task_is_not_acquired_again,
        verdicts_are_not_recorded,
        recovery_forgets_verdicts,
        who_is_in_quarantine_is_not_restored,
    )
}


def first_to_catch(name: str, seeds: Sequence[int]) -> Judgement | None:
    """Give the verdict of the first seed that notices a mutant; None where none does."""
    with pytest.MonkeyPatch.context() as patch:
        MUTANTS[name](patch)
        for seed in seeds:
            verdict = judge(seed)
            if verdict.violation is not None:
                return verdict
    return None
