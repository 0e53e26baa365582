"""One task at work: fetch, step, commit, until it is told to stop. Steps C1 to C5 of docs/delivery-guarantee.md.

Any failure of a commit means that its outcome is unknown: writer and state are dropped, and the caller acquires the
task again. There is no cleverer recovery.
"""

import asyncio

from service.core.intake import Role
from service.core.overview import overview
from service.runtime.acquire import Acquired, acquire, state_records
from service.runtime.changelog import cut_record
from service.runtime.context import TaskContext
from service.runtime.ledger import Ledger
from service.runtime.outbox import Outbox
from service.runtime.pacing import IdleWatch, StepSize
from service.runtime.reading import open_positions, read_some


class TaskRunner:
    """Runs one task from acquisition to release."""

    def __init__(self, context: TaskContext) -> None:
        self._context = context
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
        """Acquire the task, work until stopped, release it. Raises LogError, or an error of the state."""
        try:
            acquired = await acquire(self._context)
            try:
                await self._work(_Work(self._context, acquired))
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

    def __init__(self, context: TaskContext, acquired: Acquired) -> None:
        self._context = context
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
        self._reader.seek(open_positions(context, acquired.task))

    async def turn(self) -> None:
        """Fetch, take a step, and commit if it is time."""
        await self._fetch()
        began = self._clock()
        result = self._task.step(self._idle(), self._step_size.records)
        self._more_in_hand = result is not None
        if result is not None:
            took_s = self._clock() - began
            self._step_size.took(took_s)
            self._ledger.record(result, took_s)
            self._context.stats.stepped(result, self._task.watermark_ms, took_s)
        for role, partition in self._inputs.items():
            self._context.stats.behind(role, self._reader.lag(partition) + self._task.intake.buffered(role)[0])
        if result is not None:
            await asyncio.sleep(0)  # other tasks, the heartbeat and the HTTP endpoint get their turn
        if self._ledger.due(self._clock()):
            await self.commit(snapshot=self._ledger.snapshot_due(self._clock()))

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
            records.extend(await state_records(context, self._task, cut.number, cut.end, self._marks))
        # C4 all or nothing.
        await context.bounded(self._writer.commit(records))
        # C5 only now is it done.
        ledger.outbox.clear()
        ledger.committed(cut, self._clock(), snapshot=snapshot)
        context.stats.committed(cut.end, overview(self._task), took_s=self._clock() - began, snapshot=snapshot)
