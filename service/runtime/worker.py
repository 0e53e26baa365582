"""One process in the group: runs the tasks that it is assigned, and starts again what failed.

An assignment is a hint. A task that is taken away is stopped gracefully, within a bound, before the group is told that
it may move; a task that fails is acquired again after a growing wait, for as long as it is assigned.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from service.core.overview import scattered_models
from service.core.state import CorruptStateError, NewerStateError
from service.eventlog.errors import FencedError, LogError, LogLostError, UnknownCodecError
from service.eventlog.protocol import Assignment, Log, Membership, TopicPartition
from service.runtime.changelog import StateMismatchError
from service.runtime.context import TaskContext
from service.runtime.inputs_check import InputLostError
from service.runtime.isolation import Isolation, IsolationError, StepError, describe
from service.runtime.runner import TaskRunner
from service.runtime.settings import RuntimeSettings, TopicSettings
from service.runtime.stats import TaskStats

log = structlog.get_logger(__name__)

PERMANENT = (CorruptStateError, NewerStateError, StateMismatchError, InputLostError, UnknownCodecError, IsolationError)
"""Errors that trying again cannot mend: a person must decide. The task stays failed and says so."""

MAX_BACKOFF_FACTOR = 60
FENCED_PAUSE_S = 3.0
"""Longer than a rebalance of a healthy group takes to tell us that the task is no longer ours."""

PUBLISH_INTERVAL_S = 5.0
MAX_SCATTERED = 100
"""Models of which a line says that they live in several tasks. The metric tidegauge_model_tasks has all."""
SUSPENDED_LIMIT_S = 120.0
"""A task that was taken back and not given back for this long is another worker's: its memory is let go."""


class _Running:
    """A task and the coroutine that keeps it going."""

    def __init__(self, context: TaskContext, lost: "asyncio.Future[LogLostError]") -> None:
        self.context = context
        self._lost = lost
        self.suspended_at: float | None = None
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._stopped = False
        self._runner: TaskRunner | None = None
        self._isolation = Isolation()
        self.coroutine = asyncio.create_task(self._supervise(), name=f"task-{context.partition}")

    def stop(self) -> None:
        self._stopped = True
        if self._runner is not None:
            self._runner.stop()
        else:
            self.coroutine.cancel()

    async def suspend(self) -> None:
        self.suspended_at = asyncio.get_running_loop().time()
        self._wanted.clear()
        if self._runner is not None:
            await self._runner.suspend()

    def resume(self) -> None:
        self.suspended_at = None
        self._wanted.set()
        if self._runner is not None:
            self._runner.resume()

    async def _supervise(self) -> None:
        context, failures = self.context, 0
        while not self._stopped:
            await self._wanted.wait()
            began = asyncio.get_running_loop().time()
            try:
                self._runner = TaskRunner(context, self._isolation)
                await self._runner.run()
            except PERMANENT as error:
                self._failed(error)
                return
            except LogLostError as error:
                self._failed(error)
                if not self._lost.done():
                    self._lost.set_result(error)
                return
            except FencedError:
                await self._step_back()
            except StepError as error:
                self._failed(error.cause)
                if not self._isolate(error):
                    return
            except Exception as error:  # noqa: BLE001  # whatever it was: drop what is not committed, acquire again
                self._failed(error)
            finally:
                self._runner = None
            if asyncio.get_running_loop().time() - began > 60 or self._isolation.size is not None:
                failures = 0
            if not self._stopped:
                context.stats.restarts_total += 1
                await asyncio.sleep(context.settings.restart_backoff_ms / 1000 * min(2**failures, MAX_BACKOFF_FACTOR))
                failures += 1

    def _isolate(self, error: StepError) -> bool:
        """Look for the record or the model at which the task fails; say whether to go on."""
        failure = describe(error.cause)
        if failure is None:
            return True
        try:
            self._isolation.failed(failure, error.attempt)
        except IsolationError as permanent:
            self._failed(permanent)
            return False
        if self._isolation.size is not None:
            log.warning("task_isolating", partition=self.context.partition, records=self._isolation.size)
        return True

    async def _step_back(self) -> None:
        """Leave the task to whoever took it. If it is still ours later on, that was a zombie: take it back."""
        self._runner = None
        self.context.stats.phase = "waiting"
        self.context.stats.fenced_total += 1
        log.info("task_fenced", partition=self.context.partition)
        if not self._stopped:
            await asyncio.sleep(FENCED_PAUSE_S)

    def _failed(self, error: Exception) -> None:
        stats = self.context.stats
        stats.phase = "failed"
        stats.last_error = f"{type(error).__name__}: {error}"
        expected = isinstance(error, (LogError, *PERMANENT))
        log.error("task_failed", partition=self.context.partition, error=stats.last_error, exc_info=not expected)


class Worker:
    """Takes part in the group until it is stopped."""

    def __init__(
        self,
        carrier: Log,
        topics: TopicSettings,
        settings: RuntimeSettings,
        make_context: Callable[[int, TaskStats], TaskContext],
    ) -> None:
        self._carrier = carrier
        self._topics = topics
        self._settings = settings
        self._make_context = make_context
        self._running: dict[int, _Running] = {}
        self._lost: asyncio.Future[LogLostError] = asyncio.get_running_loop().create_future()
        self.stats: dict[int, TaskStats] = {}
        self._told_scattered: set[str] = set()
        self.assigned = False
        """Whether the group has told this worker its share, be it empty: more workers than tasks are no error."""

    @property
    def ready(self) -> bool:
        """Whether all assigned tasks have their state and work."""
        return self.assigned and all(self.stats[partition].ready for partition in self._running)

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until `stopping` is set; then stop every task gracefully and leave the group.

        Raises LogError where the group cannot be taken part in, LogLostError where the log is gone under its tasks.
        """
        async with self._carrier.membership(self._settings.group, list(self._topics.inputs)) as membership:
            follow = asyncio.create_task(self._follow(membership))
            publish = asyncio.create_task(self._publish(membership))
            stopped = asyncio.create_task(stopping.wait())
            try:
                ends: set[asyncio.Future[Any]] = {follow, stopped, self._lost}
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                if self._lost.done():
                    raise self._lost.result()
                if follow.done():
                    follow.result()
            finally:
                for job in (follow, publish, stopped):
                    job.cancel()
                await asyncio.gather(follow, publish, stopped, return_exceptions=True)
                await self._stop(set(self._running))

    async def _follow(self, membership: Membership) -> None:
        async for assignment in membership.assignments():
            await self._assign(membership, assignment)

    async def _assign(self, membership: Membership, assignment: Assignment) -> None:
        if not assignment.settled:  # all were taken back, and most will be given back: keep their state, but at rest
            await self._suspend()
            await membership.released(assignment.generation)
            return
        await self._stop(set(self._running) - assignment.tasks)
        await membership.released(assignment.generation)
        for running in self._running.values():
            running.resume()
        for partition in sorted(assignment.tasks - set(self._running)):
            stats = self.stats.setdefault(partition, TaskStats(partition))
            self._running[partition] = _Running(self._make_context(partition, stats), self._lost)
        self.assigned = True
        log.info("assigned", generation=assignment.generation, tasks=sorted(assignment.tasks))

    async def _suspend(self) -> None:
        jobs = [asyncio.create_task(running.suspend()) for running in self._running.values()]
        if jobs:
            _, late = await asyncio.wait(jobs, timeout=self._settings.stop_timeout_ms / 1000)
            for job in late:
                job.cancel()

    async def _release_forgotten(self) -> None:
        """Let go of tasks that were taken back and not given back."""
        limit = asyncio.get_running_loop().time() - SUSPENDED_LIMIT_S
        forgotten = {
            partition
            for partition, running in self._running.items()
            if running.suspended_at is not None and running.suspended_at < limit
        }
        await self._stop(forgotten)

    async def _stop(self, partitions: set[int]) -> None:
        leaving = {partition: self._running.pop(partition) for partition in partitions}
        for running in leaving.values():
            running.stop()
        jobs = [running.coroutine for running in leaving.values()]
        if jobs:
            await asyncio.wait(jobs, timeout=self._settings.stop_timeout_ms / 1000)
            for job in jobs:  # what a late one had not committed is done again by the next owner
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
        for partition in leaving:
            self.stats[partition].phase = "waiting"

    async def _publish(self, membership: Membership) -> None:
        while True:
            await asyncio.sleep(PUBLISH_INTERVAL_S)
            await self._release_forgotten()
            positions = {
                TopicPartition(topic, partition): offset
                for partition in self._running
                if (committed := self.stats[partition].positions) is not None
                for topic, offset in zip(self._topics.inputs, committed, strict=True)
            }
            await membership.publish_positions(positions)
            self._tell_scattered()

    def _tell_scattered(self) -> None:
        """Say once of each model that lives in several tasks: none of them sees all of it."""
        for model_id, partitions in scattered_models(self.stats).items():
            if model_id not in self._told_scattered and len(self._told_scattered) < MAX_SCATTERED:
                self._told_scattered.add(model_id)
                log.warning(
                    "model_in_several_tasks",
                    model_id=model_id,
                    partitions=partitions,
                    hint="its producers choose partitions by different rules or keys: see its alerts",
                )
