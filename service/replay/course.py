"""One task replayed: its records in the order of the live run where that was recorded, else merged by event time.

Why small steps are taken together: a service that keeps up makes a step of a few records many times a second. What a
step gives does not depend on where batches are cut, so their records are put in the recorded order and taken as one.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.core.effects import StepResult
from service.core.intake import Positions, Role
from service.core.task import Task
from service.core.verdicts import Verdict
from service.replay.feed import Feed, LogFeed

BATCH_RECORDS: Final = 4_000
"""Records that are taken at once: the live service's own default."""


async def merged(task: Task, feed: Feed, end: Positions) -> AsyncIterator[StepResult]:
    """Take everything before `end` in order of event time; an input is waited for until it has no more. Bounded memory.

    This is also what one long recorded step did, for a step is the merge of all that lies before its end.
    """
    while True:
        await feed.offer(task.intake, end)
        idle = frozenset(role for role in Role if feed.finished(task.intake, role, end))
        while (result := task.step(idle, BATCH_RECORDS)) is not None:
            yield result
        if len(idle) == len(Role):
            return


async def recorded(
    task: Task, feed: LogFeed, ends: NDArray[np.int64], verdicts: Mapping[Positions, tuple[Verdict, ...]]
) -> AsyncIterator[StepResult]:
    """Take the steps that ended at `ends`, shape (steps, 3), as they were taken.

    `verdicts`: by where a step begins, what was decided before it.
    """
    row = 0
    judged = _judged(ends, verdicts)
    while row < len(ends):
        task.judge(verdicts.get(task.intake.taken, ()))
        stop = min(_fitting(ends, row, task.intake.taken), next((at for at in judged if at > row), len(ends)))
        if stop > row:
            await feed.offer_all(task.intake, Positions(*ends[stop - 1].tolist()))
            yield task.step_through(ends[row:stop])
            row = stop
        else:
            end = Positions(*ends[row].tolist())
            async for result in merged(task, feed, end):
                yield result
            yield task.step_to(end)  # moves the positions past offsets that hold no record
            row += 1


def _judged(ends: NDArray[np.int64], verdicts: Mapping[Positions, tuple[Verdict, ...]]) -> list[int]:
    """Find the rows, but for the first, before which something was decided; they rise."""
    rows = (np.flatnonzero((ends == np.array(start)).all(axis=1)) + 1 for start in verdicts)
    return sorted(int(at) for found in rows for at in found)


def _fitting(ends: NDArray[np.int64], row: int, taken: Positions) -> int:
    """Find how far steps can be taken together; `row` itself where one step alone is too large."""
    # Offsets may have gaps, so this counts at least as many records as there are.
    window = ends[row : row + BATCH_RECORDS].sum(axis=1) - sum(taken)
    return row + int(np.searchsorted(window, BATCH_RECORDS, side="right"))


def quiet_steps(ends: NDArray[np.int64], until: Positions) -> int:
    """Count the first steps that end before a range begins."""
    return int(np.count_nonzero((ends <= np.array(until)).all(axis=1)))


def clipped(ends: NDArray[np.int64], start: Positions, end: Positions) -> NDArray[np.int64]:
    """Cut recorded steps to a range; `end` closes the last one, also where the record ends before it."""
    inside = np.clip(ends, np.array(start), np.array(end))
    inside = np.concatenate([inside, np.array([end], dtype=np.int64)])
    before = np.concatenate([np.array([start], dtype=np.int64), inside[:-1]])
    kept: NDArray[np.int64] = inside[(inside != before).any(axis=1)]
    return kept
