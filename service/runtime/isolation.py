"""What a task does that fails again at the same place: smaller steps, until the record or the model is found.

Knows no log and no clock. One failure may be of the moment, so the task is first acquired again as it was. If it then
fails in the same way, at the same place in the code and of the input, it takes exact prefixes of the merged order,
each committed alone, half as long after each failure, down to one record. Then a verdict is passed (see
service/core/verdicts), applied before that record, and recorded with its commit.
"""

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from service.core.failures import TIMER_PHASES, ModelError, Phase
from service.core.intake import Positions, Role
from service.core.quarantine import MAX_HELD, STRIKES
from service.core.units import shown
from service.core.verdicts import Isolate, Quarantine, Verdict, reason
from service.eventlog.errors import LogError, RecordTooLargeError
from service.runtime.context import TaskContext

log = structlog.get_logger(__name__)

CLEAN_RECORDS: Final = 1_000
"""Records in careful steps without a failure, after which steps are as large as ever again."""

MAX_UNNAMED_IN_A_ROW: Final = 100
"""Records isolated one after the other at which no model is to blame. Beyond it the fault is not the records'."""

ENVIRONMENT = (LogError, OSError, MemoryError)
"""Errors of the surroundings: smaller steps find nothing there."""

_ROOT = Path(__file__).parents[2]


class IsolationError(Exception):
    """A failure that comes again and is neither one record's nor one model's. A person must decide."""

    retriable = False


class Failure(NamedTuple):
    """What is known of an error. Two of the same `kind`, `place`, `model_id` and `phase` are the same failure."""

    kind: str
    place: str
    model_id: str | None
    phase: Phase | None
    why: str

    def same_as(self, other: "Failure") -> bool:
        """Whether it happened again, whatever the words."""
        return self[:4] == other[:4]


class Alone(NamedTuple):
    """The only record of a step."""

    role: Role
    offset: int
    end: Positions
    """Where the step would have ended."""


class Attempt(NamedTuple):
    """What a task had done since its last commit when it failed."""

    start: Positions
    """Where the last commit ended."""
    records: int
    """Taken since then, those of the step that failed included."""
    alone: Alone | None
    """The record, where that was one."""
    in_a_row: Mapping[tuple[str, int], int] = {}
    """By model and input, records isolated in a row before this step."""
    held: int = 0
    """Models in quarantine."""


class StepError(Exception):
    """A step, or writing what came of it, raised; the cause is chained."""

    def __init__(self, cause: Exception, attempt: Attempt) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.attempt = attempt


class Sentence(NamedTuple):
    """Verdicts that are passed and not yet committed."""

    start: Positions
    end: Positions | None
    """Where the step of one record ends that they apply to; None: whichever record comes next."""
    verdicts: tuple[Verdict, ...]


def describe(error: Exception) -> Failure | None:
    """Say what failed; None where it was the surroundings, and not what the task was given."""
    named = error if isinstance(error, ModelError) else None
    root: BaseException = error if named is None else (named.__cause__ or named)
    if isinstance(root, ENVIRONMENT) and not isinstance(root, RecordTooLargeError):
        return None
    frames = traceback.extract_tb(root.__traceback__)
    place = "" if not frames else f"{_relative(frames[-1].filename)}:{frames[-1].lineno}"
    model_id, phase = (None, None) if named is None else (named.model_id, named.phase)
    return Failure(type(root).__name__, place, model_id, phase, reason(root))


def _relative(filename: str) -> str:
    path = Path(filename)
    return path.relative_to(_ROOT).as_posix() if path.is_relative_to(_ROOT) else path.name


class Isolation:
    """Remembers a task's failures from one acquisition to the next, and says how large its steps may be."""

    def __init__(self) -> None:
        self.size: int | None = None
        """Records of a careful step; None: steps are as large as ever."""
        self._last: tuple[Failure, Positions] | None = None
        self._sentence: Sentence | None = None
        self._remaining = 0
        """Records among which the one must be that fails."""
        self._clean = 0
        self._unnamed_in_a_row = 0

    def sentence_at(self, positions: Positions) -> Sentence | None:
        """Give the verdicts that apply where the task stands; those for elsewhere are void."""
        if self._sentence is not None and self._sentence.start != positions:
            self._sentence = None
        return self._sentence

    def failed(self, failure: Failure, attempt: Attempt) -> None:
        """Take note of a failure. Raises IsolationError where no verdict can help."""
        if self.size is None and not self._again(failure, attempt):
            self._last = failure, attempt.start
            return
        self._last = failure, attempt.start
        self._clean = 0
        self._remaining = attempt.records
        self.size = max(attempt.records // 2, 1)
        if failure.phase == "snapshot":
            self._pass(failure, attempt, None)
        elif attempt.alone is not None:
            self._pass(failure, attempt, attempt.alone)

    def stepped(self, records: int) -> None:
        """Take note of a careful step that was committed."""
        if self.size is None:
            return
        if self._sentence is not None:
            self._sentence, self._remaining, self.size = None, 0, 1
            return
        self._unnamed_in_a_row = 0
        self._remaining = max(self._remaining - records, 0)
        self._clean += records
        if self._remaining:
            self.size = max(self._remaining // 2, 1)
        elif self._clean >= CLEAN_RECORDS:
            self.size, self._last = None, None
        else:
            self.size *= 2

    def _again(self, failure: Failure, attempt: Attempt) -> bool:
        return self._last is not None and self._last[1] == attempt.start and self._last[0].same_as(failure)

    def _pass(self, failure: Failure, attempt: Attempt, alone: Alone | None) -> None:
        before = self.sentence_at(attempt.start)
        verdicts = () if before is None else before.verdicts
        verdict = _verdict(failure, attempt, alone, verdicts)
        if isinstance(verdict, Isolate) and verdict.model_id is None:
            self._unnamed_in_a_row += 1
            if self._unnamed_in_a_row > MAX_UNNAMED_IN_A_ROW:
                raise IsolationError(
                    f"{MAX_UNNAMED_IN_A_ROW} records in a row failed, each alone ({failure.why}): {_DECIDE}"
                )
        kept = tuple(one for one in verdicts if not _replaced(one, verdict))
        end = alone.end if alone is not None else None
        self._sentence = Sentence(attempt.start, end, (*kept, verdict))


def say_verdicts(context: TaskContext, verdicts: tuple[Verdict, ...]) -> None:
    """Write to the log what was decided, now that it is committed."""
    for verdict in verdicts:
        if isinstance(verdict, Quarantine):
            log.error(
                "model_quarantined", partition=context.partition, model_id=shown(verdict.model_id), why=verdict.why
            )
        else:
            topic = context.topics.inputs[verdict.role]
            log.error(
                "record_isolated", partition=context.partition, topic=topic, offset=verdict.offset, why=verdict.why
            )


_DECIDE = (
    "the fault is neither one record's nor one model's, so nothing more is left out; run another version of the "
    "program or another configuration, or `tidegauge state rebuild`, and start the process again"
)


def _verdict(failure: Failure, attempt: Attempt, alone: Alone | None, verdicts: tuple[Verdict, ...]) -> Verdict:
    isolated = any(isinstance(one, Isolate) for one in verdicts)
    model_id = failure.model_id
    held = {one.model_id: one for one in verdicts if isinstance(one, Quarantine)}
    before = held.get(model_id or "")
    if model_id is not None and (alone is None or isolated or before or _is_the_model(failure, attempt, alone)):
        if before is not None and before.silent:
            raise IsolationError(
                f"model {shown(model_id)} fails though its monitors were dropped ({failure.why}): {_DECIDE}"
            )
        if before is None and attempt.held + len(held) >= MAX_HELD:
            many = f"{MAX_HELD} models are in quarantine"
            raise IsolationError(f"{many}, and {shown(model_id)} fails too ({failure.why}): {_DECIDE}")
        return Quarantine(model_id, failure.why, silent=before is not None)
    if alone is None or isolated:
        raise IsolationError(f"the task fails before any record, or without it ({failure.why}): {_DECIDE}")
    return Isolate(int(alone.role), alone.offset, model_id, failure.why)


def _is_the_model(failure: Failure, attempt: Attempt, alone: Alone) -> bool:
    """Whether the model is to blame, and not the record at which it failed."""
    struck = attempt.in_a_row.get((failure.model_id or "", int(alone.role)), 0)
    return failure.phase in TIMER_PHASES or struck + 1 >= STRIKES


def _replaced(one: Verdict, by: Verdict) -> bool:
    """Whether a verdict is void now: of a model that is known to be at fault itself, or passed again."""
    return isinstance(by, Quarantine) and one.model_id == by.model_id
