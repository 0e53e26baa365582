"""A replay that is scored."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from service.core.intake import Positions
from service.core.prepare import TaskTopics
from service.core.settings import CoreSettings
from service.core.task import Task
from service.replay.digest import Digest
from service.replay.plan import TaskPlan
from service.replay.run import Origin, Report
from service.replay.score import ModelScore, score
from service.replay.session import Settings, replay_tasks
from service.replay.sinks import CallSink, Marks, Sink
from service.replay.timeline import MeasuredTask, Timeline
from service.replay.truth import Truth, not_scored


class Backtest(NamedTuple):
    """What a scored replay found."""

    scores: list[ModelScore]
    digest: Digest
    timelines: dict[str, Timeline]
    records: int
    not_scored: Sequence[str] = ()
    """Happenings that lie behind the last event of a model, or are of one that is not there, in words."""

    def as_plain(self) -> dict[str, Any]:
        """Give the scores as plain data."""
        return {
            "records": self.records,
            "dead_letters": dict(sorted(self.digest.dead_letters.items())),
            "outputs_left_out": self.digest.left_out,
            "not_scored": self.not_scored,
            "models": msgspec.to_builtins(self.scores),
        }


async def backtest(
    settings: Settings, origin: Origin, plans: Sequence[TaskPlan], truth: Truth | None, report: Report
) -> Backtest:
    """Replay and score. Raises what the origin raises."""
    digest = Digest()
    timelines: dict[str, Timeline] = {}

    async def make(plan: TaskPlan, marks: Marks | None) -> Sink:  # noqa: ARG001  # all tasks go into one score
        return CallSink(digest.take)

    def make_task(core: CoreSettings, topics: TaskTopics, positions: Positions) -> Task:
        task = MeasuredTask(core, topics, positions)
        task.timelines = timelines  # a model lives in one task, so all tasks may share
        return task

    records = await replay_tasks(settings, origin, plans, make, None, report, make_task)
    scores = score(digest, timelines, truth, settings.core)
    return Backtest(scores, digest, timelines, records, [] if truth is None else not_scored(truth, timelines))
