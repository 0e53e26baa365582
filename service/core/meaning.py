"""What the numbers of one model version mean: which problem it solves, and how its scores are read."""

from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

import numpy as np

from schemas.outputs import Evidence
from service.core.advice import NAMED_FEATURES, PROBLEM_SUBJECT, SCORE_SUBJECT, figure
from service.core.columns import Int
from service.core.findings import Finding, Level
from service.core.metrics import (
    ANSWER,
    UNDECIDED,
    OutcomeWindow,
    PerformanceEstimate,
    ResolvedProblem,
    ScoreReading,
    positive_class,
    shown_by_answers,
)
from service.core.metrics.scores import MANY, Shown
from service.core.misfit import Misfit, misfit_of
from service.core.roster import Model
from service.core.settings import WindowSettings

_LATEST = 500
"""Outcomes by which is judged whether the problem fits."""


class MeaningState(TypedDict):
    """The snapshot of a Meaning."""

    decided: tuple[str | None, str | None, str] | None
    """What answers showed: the positive class, of which class scores speak, why."""
    told: list[str]
    """Subjects of what was told already."""


class Meaning:
    """Says what is known before a record; what answers show is decided once and holds until a reset.

    Everything that hangs on how scores are read is computed when it is told, of scores as they came: so what is decided
    late is right for what came before as well.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._decided: ScoreReading | None = None
        self._told: set[str] = set()

    def reset(self) -> None:
        """Find out anew."""
        self._decided = None
        self._told.clear()

    def problem(self, sequence: int, *, regression: bool) -> ResolvedProblem | None:
        """Say which problem the model solves; None while its first events do not tell."""
        if self._model.decided_at >= sequence:
            return None
        return "regression" if regression else self._model.classification(len(self._names(sequence)))

    def reading(self, estimate: PerformanceEstimate, sequence: int) -> ScoreReading:
        """Say how scores of a classification are read; of three classes and more, as confidence in the answer."""
        names = self._names(sequence)
        if self._model.classification(len(names)) != "binary":
            return ScoreReading(None, ANSWER)
        said = self._model.scores.reading(sequence) or self._decided
        if said is not None:
            return said
        answers = estimate.scores_by_answer()
        if not answers.any():
            return ScoreReading()
        shown = _shown(names, answers)
        return UNDECIDED if shown is None else _as_reading(names, shown)

    def decide(self, estimate: PerformanceEstimate, sequence: int) -> None:
        """Let what answers show hold from now on, where nobody has said how scores are read and they do tell."""
        if self._decided is None and self._model.scores.reading(sequence) is None:
            reading = self.reading(estimate, sequence)
            if reading.reason and not reading.undecided:
                self._decided = reading

    def described(self, estimate: PerformanceEstimate, sequence: int, *, regression: bool) -> dict[str, Any]:
        """Say for a snapshot what the numbers in it mean."""
        problem = self.problem(sequence, regression=regression)
        if problem != "binary":
            return {"problem": problem}
        reading = self.reading(estimate, sequence)
        if reading.undecided:
            return {"problem": problem, "score_class_reason": reading.reason}
        return {
            "problem": problem,
            "positive_class": positive_class(self._names(sequence), reading.positive),
            "score_class": ANSWER if reading.is_of_answers else reading.speaks_of,
            "score_class_reason": reading.reason or None,
        }

    def judge(
        self, window: OutcomeWindow, estimate: PerformanceEstimate, sequence: int, now_ms: int, *, regression: bool
    ) -> Iterator[Finding]:
        """Tell, once each until a reset, what in the data contradicts what it is taken to mean."""
        problem = self.problem(sequence, regression=regression)
        if problem in ("binary", "multiclass") and SCORE_SUBJECT not in self._told:
            if problem == "binary":
                finding = self._scores_misread(estimate, sequence, now_ms)
            else:
                finding = self._scores_unread(window, sequence, now_ms)
            if finding is not None:
                self._told.add(SCORE_SUBJECT)
                yield finding
        if problem is not None and PROBLEM_SUBJECT not in self._told and window.total >= MANY:
            latest = window.select(WindowSettings(last=_LATEST), now_ms)
            misfit = misfit_of(problem, latest.predicted, latest.actual, self._names(sequence))
            if misfit is not None:
                self._told.add(PROBLEM_SUBJECT)
                yield _unfit(problem, misfit, sequence, now_ms)

    def _scores_misread(self, estimate: PerformanceEstimate, sequence: int, now_ms: int) -> Finding | None:
        reading, answers = self.reading(estimate, sequence), estimate.scores_by_answer()
        if reading.undecided or reading.speaks_of is None or int(answers.sum()) < MANY:
            return None
        names = self._names(sequence)
        shown = _shown(names, answers)
        if shown is None or shown.is_assumed:
            return None
        other = _as_reading(names, shown)
        if other.speaks_of == reading.speaks_of:
            return None
        return _misread(reading, other, int(answers.sum()), sequence, now_ms)

    def _scores_unread(self, window: OutcomeWindow, sequence: int, now_ms: int) -> Finding | None:
        """Find scores of one fixed class beside more than two classes: what is made of two classes' scores is missing.

        A misspelt score_class, or one odd label, makes a third class of a model that has two.
        """
        said, names = self._model.scores.reading(sequence) or self._decided, self._names(sequence)
        if said is None or said.is_of_answers or said.undecided or window.total < MANY:
            return None
        if said.speaks_of in (None, ANSWER):
            return None
        return _unread(said, names, window, sequence, now_ms) if len(names) > 2 else None

    def _names(self, sequence: int) -> list[str]:
        return self._model.table.names_before(sequence)

    def snapshot(self) -> MeaningState:
        """Give it as plain data."""
        decided = self._decided
        return {
            "decided": None if decided is None else (decided.positive, decided.speaks_of, decided.reason),
            "told": sorted(self._told),
        }

    def restore(self, state: MeaningState) -> None:
        """Take over a snapshot."""
        decided = state["decided"]
        self._decided = None if decided is None else ScoreReading(*decided)
        self._told = set(state["told"])


def _shown(names: Sequence[str], answers: Int) -> Shown | None:
    greater = positive_class(names)
    return None if greater is None else shown_by_answers(answers, names.index(greater))


def _as_reading(names: Sequence[str], shown: Shown) -> ScoreReading:
    if shown.speaks == "answer":
        return ScoreReading(None, ANSWER, shown.reason)
    return ScoreReading(names[shown.speaks], names[shown.speaks], shown.reason)


def _operational(evidence: Evidence, summary: str, sequence: int, now_ms: int) -> Finding:
    """Tell of what one piece of evidence shows, under its subject."""
    return Finding(
        sequence=sequence,
        time_ms=now_ms,
        kind="operational",
        subject=evidence.subject,
        level=Level.DRIFT,
        evidence=(evidence,),
        summary=summary,
    )


def _misread(reading: ScoreReading, shown: ScoreReading, count: int, sequence: int, now_ms: int) -> Finding:
    evidence = Evidence(
        detector="score_class",
        subject=SCORE_SUBJECT,
        statistic=float(count),
        threshold=float(MANY),
        sample_count=count,
        before=reading.speaks_of,
        after=shown.speaks_of,
    )
    summary = (
        f"scores are read as the probability of {_named(reading.speaks_of)} ({reading.reason}), and the latest "
        f"answers show {_named(shown.speaks_of)}: {shown.reason}"
    )
    return _operational(evidence, summary, sequence, now_ms)


def _unread(said: ScoreReading, names: Sequence[str], window: OutcomeWindow, sequence: int, now_ms: int) -> Finding:
    latest = window.select(WindowSettings(last=_LATEST), now_ms)
    came = [int(np.sum(latest.predicted == code) + np.sum(latest.actual == code)) for code in range(len(names))]
    rarest = min(range(len(names)), key=lambda code: came[code])
    more = f"{figure(names[rarest])} came {came[rarest]:,} times among the latest {2 * len(latest.actual):,}"
    evidence = Evidence(
        detector="score_class",
        subject=SCORE_SUBJECT,
        statistic=float(len(names)),
        threshold=2.0,
        sample_count=len(latest.actual),
    )
    summary = (
        f"scores are of {_named(said.speaks_of)} ({said.reason}), which serves two classes, and there are "
        f"{len(names)} ({', '.join(map(figure, names[:NAMED_FEATURES]))}): {more} answers and labels. "
        "So there is no auc and no log_loss"
    )
    return _operational(evidence, summary, sequence, now_ms)


def _unfit(problem: ResolvedProblem, misfit: Misfit, sequence: int, now_ms: int) -> Finding:
    evidence = Evidence(
        detector="problem",
        subject=PROBLEM_SUBJECT,
        statistic=misfit.statistic,
        threshold=misfit.threshold,
        sample_count=misfit.outcomes,
    )
    kind = "regression" if problem == "regression" else "classification"
    summary = f"it is watched as a {kind}, and {misfit.words}"
    return _operational(evidence, summary, sequence, now_ms)


def _named(name: str | None) -> str:
    return "the class that was answered" if name == ANSWER else f"class {name}"
