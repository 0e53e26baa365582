"""One task at work: fetch, step, commit, until it is told to stop. Steps C1 to C5 of docs/delivery-guarantee.md.

Any failure of a commit means that its outcome is unknown: writer and state are dropped, and the caller acquires the
task again. There is no cleverer recovery.
"""

import asyncio
from collections.abc import Callable

from service.core.effects import StepResult
from service.core.failures import ModelError
from service.core.intake import Intake, Positions, Role
from service.core.overview import overview
from service.core.verdicts import Verdict
from service.eventlog.errors import RecordTooLargeError
from service.runtime.acquire import Acquired, acquire, state_records
from service.runtime.changelog import cut_record
from service.runtime.context import TaskContext
from service.runtime.isolation import Alone, Attempt, Isolation, Sentence, StepError, say_verdicts
from service.runtime.ledger import Ledger
from service.runtime.outbox import Outbox
from service.runtime.pacing import IdleWatch, StepSize
from service.runtime.reading import open_positions, read_some

SHOW_SHARE = 50
"""How many times as long as it took to show the models they are not shown again."""


class TaskRunner:
    """Runs one task from acquisition to release."""

    def __init__(self, context: TaskContext, isolation: Isolation) -> None:
        self._context = context
        self._isolation = isolation
        self._stopping = asyncio.Event()
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._at_rest = asyncio.Event()

    def stop(self) -> None:
        """Ask for a graceful end: finish the step, commit, snapshot."""
        self._stopping.set()
        self._wanted.set()

    async def suspend(self) -> None:
        """Commit and do nothing until `resume` or `stop`: the group is deciding whose task this is.

        Returns when the task is at rest. The state stays, and so does the lock; if another worker takes the task, our
        next commit is refused.
        """
        self._wanted.clear()
        await self._at_rest.wait()

    def resume(self) -> None:
        """Go on: the task is still ours."""
        self._wanted.set()

    async def run(self) -> None:
        """Acquire the task, work until stopped, release it. Raises LogError, StepError, or an error of the state."""
        try:
            acquired = await acquire(self._context)
            try:
                await self._work(_Work(self._context, acquired, self._isolation))
            finally:
                self._context.stats.phase = "stopping"
                self._context.stats.released()
                await acquired.reader.close()
                await acquired.writer.close()
        finally:
            self._at_rest.set()

    async def _work(self, work: "_Work") -> None:
        while not self._stopping.is_set():
            await work.turn()
            if not self._wanted.is_set():
                await self._rest(work)
        if not self._at_rest.is_set():
            await work.finish()

    async def _rest(self, work: "_Work") -> None:
        await work.commit(snapshot=False)
        self._context.stats.phase = "suspended"
        self._at_rest.set()
        await self._wanted.wait()
        if not self._stopping.is_set():  # a task that was taken away is not ours to write any more
            self._at_rest.clear()
            self._context.stats.phase = "running"


class _Work:
    """What an acquired task does, turn by turn."""

    def __init__(self, context: TaskContext, acquired: Acquired, isolation: Isolation) -> None:
        self._context = context
        self._isolation = isolation
        self._repeated = acquired.repeated > 0
        self._last_attempt: Attempt | None = None
        self._settings = context.settings
        self._inputs = context.inputs
        self._writer = acquired.writer
        self._reader = acquired.reader
        self._task = acquired.task
        self._marks = acquired.marks
        self._clock = asyncio.get_running_loop().time
        outbox = Outbox(context.topics, context.settings, context.partition)
        self._ledger = Ledger(context.settings, outbox, acquired.task.intake.taken, acquired.number, self._clock())
        if acquired.repeated:
            self._ledger.catch_up_snapshot()
        self._idle_watch = IdleWatch(context.settings, self._clock())
        self._step_size = StepSize(context.settings.max_step_records)
        self._more_in_hand = False
        self._shown = True
        self._show_at = 0.0
        self._reader.seek(open_positions(context, acquired.task))

    async def turn(self) -> None:
        """Fetch, take a step, and commit if it is time."""
        await self._fetch()
        if self._isolation.size is not None:
            await self._careful_turn(self._isolation.size)
            return
        idle, size = self._idle(), self._step_size.records
        took_s = self._step(lambda: self._task.step(idle, size))
        self._more_in_hand = took_s is not None
        if took_s is not None:
            self._step_size.took(took_s)
            await asyncio.sleep(0)  # other tasks, the heartbeat and the HTTP endpoint get their turn
        if self._ledger.due(self._clock()):
            await self.commit(snapshot=self._ledger.snapshot_due(self._clock()))
        self._show()

    async def _careful_turn(self, size: int) -> None:
        """Take a few records as a step of their own and commit it: one of those that come is known to fail."""
        sentence = self._isolation.sentence_at(self._ledger.start)
        if self._repeated and sentence is None:  # whoever fails next should not have to repeat the same again
            await self.commit(snapshot=True)
            self._repeated = False
        end = self._careful_end(size, sentence)
        self._more_in_hand = end is not None
        if end is None:
            return
        verdicts = () if sentence is None else sentence.verdicts
        self._task.judge(verdicts)
        self._step(lambda: self._task.step_to(end), verdicts)
        records = self._ledger.records
        await self.commit(snapshot=False)
        self._isolation.stepped(records)
        say_verdicts(self._context, verdicts)

    def _careful_end(self, size: int, sentence: Sentence | None) -> Positions | None:
        """Say where the next careful step ends; None while its records are not there."""
        intake = self._task.intake
        if sentence is None or sentence.end is None:
            return intake.end_of(self._idle(), size if sentence is None else 1)
        there = all(intake.position(role) >= sentence.end[role] for role in Role)
        return sentence.end if there else None

    def _step(self, take: Callable[[], StepResult | None], verdicts: tuple[Verdict, ...] = ()) -> float | None:
        """Take a step and keep what came of it; give how long it took, None where there was nothing to take.

        Raises StepError, which says what was being done.
        """
        began, attempt = self._clock(), self._before()
        try:
            result = take()
            took_s = self._clock() - began
            if result is not None:
                self._ledger.record(result, took_s, verdicts)
        except Exception as error:
            raise StepError(error, attempt(self._task.intake)) from error
        if result is not None:
            self._last_attempt = attempt(self._task.intake)
            self._context.stats.stepped(result, self._task.watermark_ms, took_s)
        for role, partition in self._inputs.items():
            self._context.stats.behind(role, self._reader.lag(partition) + self._task.intake.buffered(role)[0])
        return None if result is None else took_s

    def _attempted(self) -> Attempt:
        """Say what was done since the last commit, of which something cannot be written."""
        last, start = self._last_attempt, self._ledger.start
        held = len(self._task.quarantine.held)
        return last if last is not None and last.start == start else Attempt(start, 0, None, held=held)

    def _before(self) -> Callable[[Intake], Attempt]:
        """Note how things stand before a step; what that gives says, after its failure, what was attempted."""
        intake, done = self._task.intake, self._ledger.records
        waited = [intake.buffered(role)[0] for role in Role]
        heads = [intake.next_offset(role) for role in Role]
        in_a_row, held = self._task.isolated_in_a_row(), len(self._task.quarantine.held)

        def attempt(after: Intake) -> Attempt:
            taken: list[int] = [before - after.buffered(role)[0] for role, before in zip(Role, waited, strict=True)]
            alone = None
            if taken.count(1) == 1 and done + sum(taken) == 1:
                role = Role(taken.index(1))
                alone = Alone(role, heads[role] or 0, after.taken)
            return Attempt(self._ledger.start, done + sum(taken), alone, in_a_row, held)

        return attempt

    async def finish(self) -> None:
        """Leave everything as the next owner needs it."""
        if self._ledger.unsaved:
            await self.commit(snapshot=True)

    async def _fetch(self) -> None:
        room = [self._inputs[role] for role in Role if self._has_room(role)]
        wait_ms = 0 if self._more_in_hand else self._settings.poll_ms
        heard = await read_some(self._context, self._reader, self._task, self._marks, wait_ms=wait_ms, only=room)
        self._idle_watch.heard(heard, self._clock())

    def _has_room(self, role: Role) -> bool:
        records, size_bytes = self._task.intake.buffered(role)
        return records < self._settings.max_buffered_records and size_bytes < self._settings.max_buffered_bytes

    def _idle(self) -> frozenset[Role]:
        buffered = {role: self._task.intake.buffered(role)[0] for role in Role}
        at_end = {role: self._reader.at_end(partition) for role, partition in self._inputs.items()}
        return self._idle_watch.idle(buffered, at_end, self._clock())

    async def commit(self, *, snapshot: bool) -> None:
        """Make everything since the last commit count, or nothing of it. Does nothing where nothing happened."""
        context, ledger = self._context, self._ledger
        if not ledger.unsaved:
            return
        began = self._clock()
        # C1 the outputs of all steps since the last commit, in order.
        records = ledger.outbox.peek()
        # C2 where those steps ended.
        cut = ledger.cut(self._task.watermark_ms)
        records.append(cut_record(context.topics, context.task_id, cut))
        # C3 now and then, and at a graceful end, what changed of the state.
        if snapshot:
            try:
                records.extend(await state_records(context, self._task, cut.number, cut.end, self._marks))
            except ModelError as error:
                raise StepError(error, self._attempted()) from error
        # C4 all or nothing.
        try:
            await context.bounded(self._writer.commit(records))
        except RecordTooLargeError as error:
            blamed = ledger.outbox.blamed(error)
            if blamed is None:
                raise
            raise StepError(blamed, self._attempted()) from error
        # C5 only now is it done.
        ledger.outbox.clear()
        ledger.committed(cut, self._clock(), snapshot=snapshot)
        context.stats.committed(cut.end, took_s=self._clock() - began, snapshot=snapshot)
        self._shown = False
        self._show()

    def _show(self) -> None:
        """Tell those who watch what the models are now, as committed. Takes at most a fiftieth of the time."""
        began = self._clock()
        if not self._shown and self._ledger.settled and began >= self._show_at:
            self._context.stats.overview = overview(self._task)
            self._shown = True
            self._show_at = began + SHOW_SHARE * (self._clock() - began)
