"""Concept drift: the loss of one model version on its labelled outcomes, held against its reference window.

The first `reference_outcomes` outcomes are the reference. From then on every configured detector watches the loss
(0 or 1 for classes; for regression the absolute error, divided by a quantile of the reference and clipped to 1). A
drift towards a *larger* loss opens the cause. From then on `detectors.aftermath` follows the loss: it ends the cause
where the loss is back at its reference, and tells each further change of the level on the way. What was learnt as
normal stays. Detectors that find the loss falling are rebased, and nobody is woken.
"""

from typing import Any, TypedDict

import msgspec
import numpy as np

from detectors.aftermath import Limits, Turn
from detectors.level import LevelSums
from detectors.level_interval import LevelEstimate, estimate_level
from detectors.protocol import Level, State
from schemas.outputs import ChangePoint, Evidence
from service.core.columns import Float, Outcomes
from service.core.findings import Finding
from service.core.inputs.versions import require_version
from service.core.loss_course import CourseState, LossCourse
from service.core.loss_detectors import BankState, DetectorBank, LossReference, fits_numbers, stored_reference_of
from service.core.loss_feed import NEVER, Drift, LossFeed
from service.core.metrics.window import OutcomeWindow
from service.core.settings import ConceptDriftSettings

_VERSION = 1

_LOOKED_BACK = 5_000
"""Outcomes within which the change behind an alarm is looked for when the level since is estimated."""


class LossState(TypedDict):
    """The snapshot of a LossMonitor; `pending`: float64, little-endian."""

    version: int
    detectors: list[dict[str, Any]]
    chosen: list[tuple[str, dict[str, Any]]]
    bases: list[int]
    votes: dict[str, tuple[int, Any]]
    """Place of a detector to the outcome at which it drifted, and its Evidence."""
    pending: bytes
    reference_count: int
    reference_mean: float | None
    reference_std: float
    cap: float
    scaled: tuple[float, float]
    dependence: float
    first_number: int
    course: Any
    """A CourseState; null until the reference window is whole."""


class LossMonitor:
    """Watches the loss of one model version."""

    def __init__(
        self,
        settings: ConceptDriftSettings,
        recovered_outcomes: int,
        *,
        bernoulli: bool,
        reference: State | None = None,
    ) -> None:
        self._stored = None if reference is None else stored_reference_of(reference)
        self._settings = settings
        self._limits = Limits(
            smallest_harm=settings.smallest_harm,
            between_false_resolutions=settings.expected_outcomes_between_false_resolutions,
            between_false_updates=settings.expected_outcomes_between_false_updates,
            least_outcomes=recovered_outcomes,
        )
        self._bernoulli = bernoulli
        self._chosen = [item for item in settings.detectors if bernoulli or fits_numbers(item)]
        self._start(0)

    def _start(self, number: int) -> None:
        self.bank = DetectorBank(self._chosen, self._settings.reference_outcomes, bernoulli=self._bernoulli)
        self.bank.bases = [number] * len(self.bank)  # they count from here
        self._votes: dict[int, tuple[int, Evidence]] = {}
        self._pending: Float = np.empty(0)
        self._known: LossReference | None = None
        self._course: LossCourse | None = None
        self._first_number = number
        if self._stored is not None:
            self._know(self._stored, number)
            self.bank.hold_against(self._stored, number)

    def _know(self, reference: LossReference, number: int) -> None:
        """Hold the loss against a whole reference window that ended behind `number` outcomes."""
        self._known = reference
        self._course = LossCourse.begin(self._limits, reference.dependence, reference.level, number)
        self.bank.learn(reference)

    @property
    def reference_mean(self) -> float | None:
        """Mean loss of the reference window; None until it is whole."""
        return None if self._known is None else self._known.mean

    def close_reference(self, outcomes_so_far: int) -> None:
        """End the reference window with the outcomes that came; nothing where it is whole, or none came."""
        if self._known is not None or not len(self._pending):
            return
        learnt = self._learnt(self._pending)
        self._pending = np.empty(0)
        self._know(learnt, outcomes_so_far)
        self.bank.hold_against(learnt, outcomes_so_far)

    def reference(self) -> State | None:
        """Give the reference window as plain data; None until it is whole."""
        known = self._known
        if known is None:
            return None
        return {
            "count": known.count,
            "mean": known.mean,
            "std": known.std,
            "cap": known.cap,
            "scaled": list(known.scaled),
            "dependence": known.dependence,
        }

    def reset(self, outcomes_so_far: int) -> None:
        """Learn the reference anew from the next outcome on."""
        self._start(outcomes_so_far)

    def feed(self, outcomes: Outcomes, losses: Float, window: OutcomeWindow) -> LossFeed:
        """Begin to take outcomes (with finite losses): they go into the window as the feed advances."""
        return LossFeed(self, outcomes, losses, window, self._drifts(losses, window.total))

    # ------------------------------------------------------------------------------------------ detectors

    def _drifts(self, losses: Float, start: int) -> list[Drift]:
        if self._known is not None:
            return self.bank.feed(self._scaled(losses), start, 0)
        held = len(self._pending)
        self._pending = np.concatenate([self._pending, losses[: self._settings.reference_outcomes - held]])
        if len(self._pending) < self._settings.reference_outcomes:
            return []
        reference, self._pending = self._pending, np.empty(0)
        taken = len(reference) - held
        self._know(self._learnt(reference), start + taken)
        self.bank.feed(self._scaled(reference), start - held, 0)  # what they find in the reference itself is not news
        return self.bank.feed(self._scaled(losses[taken:]), start + taken, taken)

    def _learnt(self, losses: Float) -> LossReference:
        return LossReference.learn(losses, None if self._bernoulli else self._settings.loss_cap_quantile)

    def _scaled(self, losses: Float) -> Float:
        return self.bank.scaled(losses, self._cap)

    @property
    def _cap(self) -> float:
        return 1.0 if self._known is None else self._known.cap

    # --------------------------------------------------------------------------------------------- causes

    def judge(self, drift: Drift, outcomes: Outcomes, window: OutcomeWindow) -> Finding | None:
        """Decide whether a drift opens the cause. The window holds the outcomes up to it."""
        course, number = self._course, window.total
        if course is None or self._known is None or course.is_open:
            return None
        since = window.since(drift.change)
        if since.mean_loss is None or since.mean_loss <= self._known.mean:
            return None
        point = self._point(drift.change, window)
        if point is None:
            return None
        level = self._estimate(course, self._known, window)
        self._votes[drift.place] = number, self._vote(drift, point, course.normal_before(drift.change), level)
        if not self._agreed(number, drift.place):
            return None
        course.open(drift.change, number)
        return self._finding(drift, outcomes, point, number)

    def _point(self, change: int, window: OutcomeWindow) -> ChangePoint | None:
        """Say where the change was behind which an outcome is the first; None where nothing is kept of it."""
        since = window.since(change)
        changed = window.changed_at(since.first_number)
        if changed is None:
            return None
        return ChangePoint(
            sample_index=change - self._first_number,
            event_time_ms=changed.time_ms,
            prediction_offset=changed.offset,
            outcome_time_ms=since.whole_ms,
        )

    def _vote(self, drift: Drift, point: ChangePoint, normal: LevelSums, level: LevelEstimate) -> Evidence:
        """Say what a detector saw, and what the level since then may be."""
        verdict = drift.verdict
        return Evidence(
            detector=self._chosen[drift.place].name,
            subject="error",
            statistic=verdict.statistic,
            threshold=verdict.threshold,
            sample_count=verdict.sample_count,
            p_value=verdict.p_value,
            reference_count=normal.count,
            change_point=point,
            before=self._cap * normal.total / normal.count,
            after=self._cap * level.mean,
            after_low=self._cap * level.low,
            after_high=self._cap * level.high,
        )

    def _estimate(self, course: LossCourse, known: LossReference, window: OutcomeWindow) -> LevelEstimate:
        """Estimate the level that the newest outcomes have reached, not looking back behind an earlier alarm."""
        start = max(window.total - _LOOKED_BACK, course.since)
        normal = course.normal
        weight = 1.0 / (normal.spread * known.dependence)
        return estimate_level(self._scaled(window.losses(start, window.total)), normal.mean, weight)

    def _agreed(self, number: int, place: int) -> bool:
        recent = self._recent(number)
        count = len(self.bank)
        return {
            "first": place == 0,
            "any": True,
            "majority": 2 * len(recent) > count,
            "all": len(recent) == count,
        }[self._settings.alert_on]

    def _recent(self, number: int) -> list[int]:
        """Detectors that drifted within the last reference window's length."""
        horizon = number - self._settings.reference_outcomes
        return sorted(place for place, (at, _) in self._votes.items() if at > horizon)

    def _finding(self, drift: Drift, outcomes: Outcomes, point: ChangePoint, number: int) -> Finding:
        recent = [place for place in self._recent(number) if place != drift.place]
        return Finding(
            sequence=int(outcomes.sequence[drift.row]),
            time_ms=int(outcomes.watermark_ms[drift.row]),
            kind="concept_drift",
            subject="error",
            level=Level.DRIFT,
            severity="critical",
            evidence=tuple(self._votes[place][1] for place in [drift.place, *recent]),
            change_outcome=drift.change,
            change_time_ms=point.event_time_ms,
        )

    def next_check(self, count: int) -> int:
        """Say behind how many outcomes, more than `count`, the window is looked at again."""
        return NEVER if self._course is None else self._course.next_look(count)

    def check(self, row: int, outcomes: Outcomes, window: OutcomeWindow) -> Finding | None:
        """Sum up what is normal, or look whether an open cause has changed or is gone."""
        course = self._course
        if course is None:
            return None
        losses = self._scaled(window.losses(*course.pending(window.total)))
        turn = course.look(losses, window.total)
        if turn is None:
            return None
        finding = Finding(
            sequence=int(outcomes.sequence[row]),
            time_ms=int(outcomes.watermark_ms[row]),
            kind="concept_drift",
            subject="error",
            level=Level.STABLE,
        )
        if turn.kind == "back":
            self._votes.clear()
            return msgspec.structs.replace(finding, resolution=self._back(turn))
        return msgspec.structs.replace(
            finding, level=Level.DRIFT, severity="critical", further=turn.kind, evidence=(self._moved(turn, window),)
        )

    def _back(self, turn: Turn) -> str:
        return (
            f"mean loss of the last {turn.level.count:,} outcomes is {self._cap * turn.level.plain_mean:.4g}, back at "
            f"its reference of {self._cap * turn.reference.plain_mean:.4g} over {turn.reference.count:,}"
        )

    def _moved(self, turn: Turn, window: OutcomeWindow) -> Evidence:
        """Say from which level to which the loss has moved while its cause was open."""
        low, high = turn.level.interval(1.0 if self._known is None else self._known.dependence)
        return Evidence(
            detector="aftermath",
            subject="error",
            statistic=turn.statistic,
            threshold=turn.threshold,
            sample_count=turn.level.count,
            reference_count=turn.before.count,
            change_point=self._point(window.total - turn.level.count, window),
            before=self._cap * turn.before.plain_mean,
            after=self._cap * turn.level.plain_mean,
            after_low=self._cap * low,
            after_high=self._cap * high,
        )

    def accept(self, outcomes_so_far: int) -> LevelSums | None:
        """Take the level that an open cause has led to for normal; gives it. None where there is none to take."""
        level = None if self._course is None else self._course.accept(outcomes_so_far)
        if level is None or self._known is None:
            return None
        self._known = self._known.accepting(level)
        self._votes.clear()
        self.bank.hold_against(self._known, outcomes_so_far)
        return level

    # ---------------------------------------------------------------------------------------------- state

    def verdicts(self) -> dict[str, dict[str, float | None]]:
        """Give what each detector says now: statistic, threshold, level, sample count."""
        return self.bank.verdicts()

    def snapshot(self) -> LossState:
        """Give everything as plain data."""
        bank, known = self.bank.snapshot(), self._known
        return {
            "version": _VERSION,
            "detectors": bank.detectors,
            "chosen": bank.chosen,
            "bases": bank.bases,
            "votes": {str(place): (at, msgspec.to_builtins(evidence)) for place, (at, evidence) in self._votes.items()},
            "pending": self._pending.tobytes(),
            "reference_count": self._settings.reference_outcomes if known is None else known.count,
            "reference_mean": self.reference_mean,
            "reference_std": 0.0 if known is None else known.std,
            "cap": self._cap,
            "scaled": (0.0, 0.0) if known is None else known.scaled,
            "dependence": 1.0 if known is None else known.dependence,
            "first_number": self._first_number,
            "course": None if self._course is None else msgspec.to_builtins(self._course.state, builtin_types=(bytes,)),
        }

    def restore(self, state: LossState, outcomes_so_far: int) -> None:
        """Take over a snapshot. Detectors whose settings are no longer the same begin as new, with what comes next."""
        require_version(state, _VERSION, "loss monitor")
        self._restore_reference(state)
        # What is pending they will still be given, when the reference is whole.
        held = BankState(state["chosen"], state["detectors"], state["bases"])
        self.bank.restore(held, self._known, outcomes_so_far - len(self._pending))
        for voter, (at, evidence) in state["votes"].items():
            if int(voter) < len(self.bank):
                self._votes[int(voter)] = (at, msgspec.convert(evidence, Evidence))
        self._first_number = state["first_number"]
        if state["course"] is not None and self._known is not None:
            course = msgspec.convert(state["course"], CourseState, builtin_types=(bytes,))
            self._course = LossCourse(self._limits, self._known.dependence, course)

    def _restore_reference(self, state: LossState) -> None:
        self._pending = np.frombuffer(state["pending"], dtype=np.float64)
        self._known = self._course = None
        if state["reference_mean"] is not None:
            self._known = LossReference(
                count=state["reference_count"],
                mean=state["reference_mean"],
                std=state["reference_std"],
                cap=state["cap"],
                scaled=state["scaled"],
                dependence=state["dependence"],
            )
