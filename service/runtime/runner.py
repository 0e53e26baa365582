"""One task at work: fetch, step, commit, until it is told to stop. Steps C1 to C5 of docs/delivery-guarantee.md.

Any failure of a commit means that its outcome is unknown: writer and state are dropped, and the caller acquires the
task again. There is no cleverer recovery.
"""

import asyncio

from service.core.intake import Role
from service.core.task import Task
from service.eventlog.protocol import Reader, Writer
from service.runtime.acquire import Acquired, acquire, offer, state_records
from service.runtime.changelog import cut_record
from service.runtime.context import TaskContext
from service.runtime.ledger import Ledger
from service.runtime.outbox import Outbox


class TaskRunner:
    """Runs one task from acquisition to release."""

    def __init__(self, context: TaskContext) -> None:
        self._context = context
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ask for a graceful end: finish the step, commit, snapshot."""
        self._stopping.set()

    async def run(self) -> None:
        """Acquire the task, work until stopped, release it. Raises LogError, or an error of the state."""
        acquired = await acquire(self._context)
        try:
            await _Work(self._context, acquired).run(self._stopping)
        finally:
            self._context.stats.phase = "stopping"
            await acquired.reader.close()
            await acquired.writer.close()


class _Work:
    """The loop of an acquired task."""

    def __init__(self, context: TaskContext, acquired: Acquired) -> None:
        self._context = context
        self._settings = context.settings
        self._inputs = context.inputs
        self._writer: Writer = acquired.writer
        self._reader: Reader = acquired.reader
        self._task: Task = acquired.task
        self._clock = asyncio.get_running_loop().time
        outbox = Outbox(context.topics, context.settings, context.partition)
        self._ledger = Ledger(context.settings, outbox, acquired.task.intake.taken, acquired.number, self._clock())
        self._heard_at = dict.fromkeys(Role, self._clock())
        self._more_in_hand = False

    async def run(self, stopping: asyncio.Event) -> None:
        self._reader.seek({self._inputs[role]: self._task.intake.position(role) for role in Role})
        while not stopping.is_set():
            await self._turn()
            if self._ledger.due(self._clock()):
                await self._commit(snapshot=self._ledger.snapshot_due(self._clock()))
        if self._ledger.unsaved:
            await self._commit(snapshot=True)

    async def _turn(self) -> None:
        await self._fetch()
        limit = self._settings.max_step_records
        result = self._task.step(self._idle(), limit)
        self._more_in_hand = result is not None
        if result is not None:
            self._ledger.record(result)
            self._context.stats.stepped(result, self._task.watermark_ms)
            await asyncio.sleep(0)  # other tasks, the heartbeat and the HTTP endpoint get their turn

    async def _fetch(self) -> None:
        room = [self._inputs[role] for role in Role if self._has_room(role)]
        wait_ms = 0 if self._more_in_hand else self._settings.poll_ms
        chunks = await self._reader.fetch(max_records=self._settings.max_step_records, wait_ms=wait_ms, only=room)
        now = self._clock()
        for chunk in chunks:
            self._heard_at[offer(self._context, self._task, chunk)] = now

    def _has_room(self, role: Role) -> bool:
        records, size_bytes = self._task.intake.buffered(role)
        return records < self._settings.max_buffered_records and size_bytes < self._settings.max_buffered_bytes

    def _idle(self) -> frozenset[Role]:
        # An input with records in hand is waited for; one without is not, at its end or when silent for too long.
        silent_since = self._clock() - self._settings.max_idle_ms / 1000
        return frozenset(
            role
            for role, partition in self._inputs.items()
            if self._task.intake.buffered(role)[0] == 0
            and (self._reader.at_end(partition) or self._heard_at[role] <= silent_since)
        )

    async def _commit(self, *, snapshot: bool) -> None:
        context, ledger = self._context, self._ledger
        # C1 the outputs of all steps since the last commit, in order.
        records = ledger.outbox.peek()
        # C2 where those steps ended.
        cut = ledger.cut(self._task.watermark_ms)
        records.append(cut_record(context.topics, context.task_id, cut))
        # C3 now and then, and at a graceful end, what changed of the state.
        if snapshot:
            records.extend(await state_records(context, self._task, number=cut.number))
        # C4 all or nothing.
        await context.bounded(self._writer.commit(records))
        # C5 only now is it done.
        ledger.outbox.clear()
        ledger.committed(cut, self._clock(), snapshot=snapshot)
        context.stats.committed(cut.end, snapshot=snapshot)
