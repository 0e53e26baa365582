"""Runs a sweep and ranks what came of it."""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from schemas.outputs import Output
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
from service.replay.sweep.task import Group, SweepTask, group
from service.replay.timeline import Timeline
from service.replay.truth import Truth

MEASURES: Final = ("missed", "false_alarms", "delay_events", "alarms", "fine_tunes", "loss_saved")
"""What a sweep may rank by. All but loss_saved are the better the smaller; a minus in front turns an order round."""

WITH_TRUTH: Final = ("missed", "false_alarms", "delay_events", "fine_tunes")
WITHOUT_TRUTH: Final = ("-loss_saved", "fine_tunes", "alarms")

UNKNOWN: Final = float("inf")
"""A measure that there is none of (the delay where nothing was detected) is worse than any."""


class ObjectiveError(ValueError):
    """An objective names what is not measured."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What one configuration came to, over all models."""

    number: int
    """Its place in the sweep."""
    missed: float | None
    false_alarms: float | None
    delay_events: float | None
    """Mean over all that was detected; null where nothing was."""
    alarms: int
    fine_tunes: int
    loss_saved: float | None


async def sweep(
    cores: Sequence[CoreSettings],
    settings: Settings,
    origin: Origin,
    plans: Sequence[TaskPlan],
    truth: Truth | None,
    report: Report,
) -> list[Measured]:
    """Run configurations; give what each came to, in their order. Raises what the origin raises.

    Those that differ before the monitors do (in the join, in lateness, in classes and segments) take a pass each.
    """
    found: dict[int, Measured] = {}
    for each in group(cores):
        digests = [Digest() for _ in each.numbers]
        timelines = await _pass(each, digests, settings, origin, plans, report)
        for number, core, digest in zip(each.numbers, each.cores, digests, strict=True):
            found[number] = measure(number, score(digest, timelines, truth, core))
    return [found[number] for number in sorted(found)]


async def _pass(
    each: Group,
    digests: Sequence[Digest],
    settings: Settings,
    origin: Origin,
    plans: Sequence[TaskPlan],
    report: Report,
) -> dict[str, Timeline]:
    timelines: dict[str, Timeline] = {}
    tasks: list[SweepTask] = []

    def make_task(core: CoreSettings, topics: TaskTopics, positions: Positions) -> Task:
        del core  # that of the base: the group's have taken its place
        task = SweepTask(each.cores, topics, positions)
        task.timelines = timelines
        tasks.append(task)
        return task

    def take(outputs: Sequence[Output]) -> None:
        del outputs  # dead letters, which are the same for all
        for digest, caused in zip(digests, tasks[-1].outputs, strict=True):
            digest.take([one.output for one in caused])
            caused.clear()

    async def make_sink(plan: TaskPlan, marks: Marks | None) -> Sink:  # noqa: ARG001  # all tasks go into one score
        return CallSink(take)

    await replay_tasks(settings, origin, plans, make_sink, None, report, make_task)
    return timelines


def measure(number: int, scores: Sequence[ModelScore]) -> Measured:
    """Add up the models' scores."""
    own = [model.tallies[0] for model in scores]
    delays = [item.delay_events for model in scores for item in model.detections if item.delay_events is not None]
    return Measured(
        number=number,
        missed=_sum([tally.missed for tally in own]),
        false_alarms=_sum([tally.false_alarms for tally in own]),
        delay_events=float(np.mean(delays)) if delays else None,
        alarms=sum(tally.alarms for tally in own),
        fine_tunes=sum(tally.cost.fine_tunes for tally in own),
        loss_saved=_sum([tally.cost.loss_saved for tally in own]),
    )


def _sum(values: Sequence[float | None]) -> float | None:
    """Add up what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def check_objective(objective: Sequence[str], *, known: bool) -> None:
    """Raise ObjectiveError where an objective names what is not measured, or not without a truth."""
    for name in objective:
        bare = name.removeprefix("-")
        if bare not in MEASURES:
            raise ObjectiveError(f"objective {name!r}: expected one of {', '.join(MEASURES)}, a minus in front or not")
        if not known and bare in ("missed", "false_alarms", "delay_events"):
            raise ObjectiveError(f"objective {name!r}: needs the truth (--truth, --drift-at, --incident or --no-drift)")


def rank(results: Sequence[Measured], objective: Sequence[str]) -> list[Measured]:
    """Put the best first: by the first measure, of equal ones by the second, and so on; at last by place."""

    def key(result: Measured) -> tuple[float, ...]:
        values = [getattr(result, name.removeprefix("-")) for name in objective]
        signs = [-1.0 if name.startswith("-") else 1.0 for name in objective]
        known = [UNKNOWN if value is None else sign * value for value, sign in zip(values, signs, strict=True)]
        return (*known, result.number)

    return sorted(results, key=key)
