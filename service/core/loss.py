"""Concept drift: the loss of one model version on its labelled outcomes, held against its reference window.

The first `reference_outcomes` outcomes are the reference. From then on every configured detector watches the loss
(0 or 1 for classes; for regression the absolute error, divided by a quantile of the reference and clipped to 1). A
drift towards a *larger* loss opens the cause; it is gone when the mean of the last `recovered_outcomes` losses is back
within the reference's chance. Detectors that find the loss falling are rebased, and nobody is woken.
"""

from typing import Any, TypedDict

import msgspec
import numpy as np

from detectors import registry
from detectors.columns import SHORT
from detectors.dependence import Dependence
from detectors.protocol import Detector, Level, State
from schemas.outputs import ChangePoint, Evidence
from service.core.columns import Float, Outcomes
from service.core.findings import Finding
from service.core.inputs.versions import require_version
from service.core.loss_feed import NEVER, Drift, LossFeed
from service.core.metrics.window import OutcomeWindow
from service.core.settings import ConceptDriftSettings, DetectorSettings

_VERSION = 1

_CHECKS_PER_SPAN = 4
"""How often, within `recovered_outcomes` outcomes, an open cause is looked at again."""

_RECOVERED_SIGMAS = 1.645
"""One-sided 95 %: a stable stream at its reference mean passes this check 19 times in 20."""


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
    opened_at: int | None


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
        self._stored = reference
        self._settings = settings
        self._span = recovered_outcomes
        self._bernoulli = bernoulli
        self._chosen = [item for item in settings.detectors if bernoulli or fits_numbers(item)]
        self._start()

    def _start(self) -> None:
        self.detectors: list[Detector] = [
            make_detector(item, self._settings.reference_outcomes) for item in self._chosen
        ]
        self._bases = [0] * len(self.detectors)
        self._votes: dict[int, tuple[int, Evidence]] = {}
        self._pending: Float = np.empty(0)
        self.reference_mean: float | None = None
        self._reference_std = 0.0
        self._cap = 1.0
        self._scaled_mean = self._scaled_variance = 0.0
        self._dependence = 1.0
        self._first_number = 0
        self._opened_at: int | None = None
        self._reference_count = self._settings.reference_outcomes
        if self._stored is not None:
            self._adopt(self._stored)

    def _adopt(self, reference: State) -> None:
        self._reference_count = reference["count"]
        self.reference_mean = reference["mean"]
        self._reference_std = reference["std"]
        self._cap = reference["cap"]
        self._scaled_mean, self._scaled_variance = reference["scaled"]
        self._dependence = reference.get("dependence", 1.0)
        for place in range(len(self.detectors)):
            self._restart(place, 0)

    def close_reference(self, outcomes_so_far: int) -> None:
        """End the reference window with the outcomes that came; nothing where it is whole, or none came."""
        if self.reference_mean is not None or not len(self._pending):
            return
        self._reference_count = len(self._pending)
        self._learn(self._pending)
        self._pending = np.empty(0)
        for place in range(len(self.detectors)):
            self._restart(place, outcomes_so_far)

    def reference(self) -> State | None:
        """Give the reference window as plain data; None until it is whole."""
        if self.reference_mean is None:
            return None
        return {
            "count": self._reference_count,
            "mean": self.reference_mean,
            "std": self._reference_std,
            "cap": self._cap,
            "scaled": [self._scaled_mean, self._scaled_variance],
            "dependence": self._dependence,
        }

    def reset(self, outcomes_so_far: int) -> None:
        """Learn the reference anew from the next outcome on."""
        self._start()
        self._first_number = outcomes_so_far
        self._bases = [outcomes_so_far] * len(self.detectors)  # they count from here

    def feed(self, outcomes: Outcomes, losses: Float, window: OutcomeWindow) -> LossFeed:
        """Begin to take outcomes (with finite losses): they go into the window as the feed advances."""
        return LossFeed(self, outcomes, losses, window, self._drifts(losses, window.total))

    # ------------------------------------------------------------------------------------------ detectors

    def _drifts(self, losses: Float, start: int) -> list[Drift]:
        if self.reference_mean is not None:
            return self._feed(losses, start, 0)
        held = len(self._pending)
        self._pending = np.concatenate([self._pending, losses[: self._settings.reference_outcomes - held]])
        if len(self._pending) < self._settings.reference_outcomes:
            return []
        reference, self._pending = self._pending, np.empty(0)
        self._learn(reference)
        self._feed(reference, start - held, 0)  # what they find in the reference itself is not news
        taken = len(reference) - held
        return self._feed(losses[taken:], start + taken, taken)

    def _learn(self, reference: Float) -> None:
        self.reference_mean = float(np.mean(reference))
        self._reference_std = float(np.std(reference))
        if not self._bernoulli:
            cap = float(np.quantile(reference, self._settings.loss_cap_quantile))
            self._cap = cap or float(np.max(reference)) or 1.0
        scaled = reference if self._bernoulli else np.minimum(reference / self._cap, 1.0)
        self._scaled_mean, self._scaled_variance = float(np.mean(scaled)), float(np.var(scaled))
        sums = Dependence()
        sums.take(scaled)
        self._dependence = sums.inflation

    def _feed(self, losses: Float, start: int, first_row: int) -> list[Drift]:
        values = losses if self._bernoulli else np.minimum(losses / self._cap, 1.0)
        # A few plain floats cost a detector less than an array of them does.
        part: Float | list[float] = values.tolist() if len(values) < SHORT else values
        found: list[Drift] = []
        for place in range(len(self.detectors)):
            consumed = 0
            while consumed < len(part):
                detector = self.detectors[place]
                progress = detector.update_many(part[consumed:] if consumed else part)
                consumed += progress.consumed
                if progress.level is Level.DRIFT:
                    verdict = detector.verdict()
                    number = start + consumed
                    change = number - 1 if verdict.change_point is None else self._bases[place] + verdict.change_point
                    found.append(Drift(first_row + consumed - 1, place, verdict, min(change, number - 1)))
                    self._restart(place, number)
        found.sort(key=lambda drift: (drift.row, drift.place))
        return found

    def _restart(self, place: int, number: int) -> None:
        """Let a detector that drifted go on, from an outcome on.

        One that can be given a reference keeps the monitor's: it must not take the worse loss for normal.
        """
        item = self._chosen[place]
        if "reference_count" in registry.parameters(item.name) and self.reference_mean is not None:
            self.detectors[place] = self._with_reference(item)
        else:
            self.detectors[place].rebase()
        self._bases[place] = number

    def _with_reference(self, item: DetectorSettings) -> Detector:
        given = {
            "reference_count": self._reference_count,
            "reference_mean": self._scaled_mean,
            "reference_inflation": self._dependence,
        }
        if not self._bernoulli:
            given["reference_variance"] = self._scaled_variance
        return registry.make(item.name, **(item.params | given))

    # --------------------------------------------------------------------------------------------- causes

    def judge(self, drift: Drift, outcomes: Outcomes, window: OutcomeWindow) -> Finding | None:
        """Decide whether a drift opens the cause. The window holds the outcomes up to it."""
        since = window.since(drift.change)
        if self.reference_mean is None or since.mean_loss is None or since.mean_loss <= self.reference_mean:
            return None
        changed = window.changed_at(since.first_number)
        if changed is None:
            return None
        point = ChangePoint(
            sample_index=drift.change - self._first_number,
            event_time_ms=changed.time_ms,
            prediction_offset=changed.offset,
            outcome_time_ms=since.whole_ms,
        )
        verdict = drift.verdict
        self._votes[drift.place] = (
            window.total,
            Evidence(
                detector=self._chosen[drift.place].name,
                subject="error",
                statistic=verdict.statistic,
                threshold=verdict.threshold,
                sample_count=verdict.sample_count,
                p_value=verdict.p_value,
                reference_count=self._reference_count,
                change_point=point,
                before=self.reference_mean,
                after=since.mean_loss,
            ),
        )
        if self._opened_at is not None or not self._agreed(window.total, drift.place):
            return None
        self._opened_at = window.total
        return self._finding(drift, outcomes, point, window.total)

    def _agreed(self, number: int, place: int) -> bool:
        recent = self._recent(number)
        count = len(self.detectors)
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
        """Say behind how many outcomes, more than `count`, an open cause is looked at again."""
        if self._opened_at is None:
            return NEVER
        step = max(self._span // _CHECKS_PER_SPAN, 1)
        first = self._opened_at + self._span
        passed = max((count - first) // step + 1, 0)
        return first + passed * step

    def check(self, row: int, outcomes: Outcomes, window: OutcomeWindow) -> Finding | None:
        """Look whether an open cause is gone."""
        recent = window.since(window.total - self._span).mean_loss
        allowed = (self.reference_mean or 0.0) + _RECOVERED_SIGMAS * self._reference_std / self._span**0.5
        if recent is None or recent > allowed:
            return None
        self._opened_at = None
        self._votes.clear()
        return Finding(
            sequence=int(outcomes.sequence[row]),
            time_ms=int(outcomes.watermark_ms[row]),
            kind="concept_drift",
            subject="error",
            level=Level.STABLE,
            resolution=f"mean loss of the last {self._span} outcomes is {recent:.4g}, back at its reference",
        )

    # ---------------------------------------------------------------------------------------------- state

    def verdicts(self) -> dict[str, dict[str, float | None]]:
        """Give what each detector says now: statistic, threshold, level, mean."""
        said = {}
        for item, detector in zip(self._chosen, self.detectors, strict=True):
            verdict = detector.verdict()
            said[item.name] = {
                "level": float(verdict.level),
                "statistic": _finite(verdict.statistic),
                "threshold": _finite(verdict.threshold),
                "sample_count": float(verdict.sample_count),
            }
        return said

    def snapshot(self) -> LossState:
        """Give everything as plain data."""
        return {
            "version": _VERSION,
            "detectors": [detector.snapshot() for detector in self.detectors],
            "chosen": [(item.name, item.params) for item in self._chosen],
            "bases": list(self._bases),
            "votes": {str(place): (at, msgspec.to_builtins(evidence)) for place, (at, evidence) in self._votes.items()},
            "pending": self._pending.tobytes(),
            "reference_count": self._reference_count,
            "reference_mean": self.reference_mean,
            "reference_std": self._reference_std,
            "cap": self._cap,
            "scaled": (self._scaled_mean, self._scaled_variance),
            "dependence": self._dependence,
            "first_number": self._first_number,
            "opened_at": self._opened_at,
        }

    def restore(self, state: LossState, outcomes_so_far: int) -> None:
        """Take over a snapshot. Detectors whose settings are no longer the same begin as new, with what comes next."""
        require_version(state, _VERSION, "loss monitor")
        self._restore_reference(state)
        held = list(zip(state["chosen"], state["detectors"], state["bases"], strict=True))
        for place, item in enumerate(self._chosen):
            # What is pending they will still be given, when the reference is whole.
            self._restart(place, outcomes_so_far - len(self._pending))
            for chosen, snapshot, base in held:
                if tuple(chosen) == (item.name, item.params):
                    self.detectors[place], self._bases[place] = registry.restore(snapshot), base
        for voter, (at, evidence) in state["votes"].items():
            if int(voter) < len(self.detectors):
                self._votes[int(voter)] = (at, msgspec.convert(evidence, Evidence))
        self._first_number = state["first_number"]
        self._opened_at = state["opened_at"]

    def _restore_reference(self, state: LossState) -> None:
        self._pending = np.frombuffer(state["pending"], dtype=np.float64)
        self._reference_count = state["reference_count"]
        self.reference_mean = state["reference_mean"]
        self._reference_std = state["reference_std"]
        self._cap = state["cap"]
        self._scaled_mean, self._scaled_variance = state["scaled"]
        self._dependence = state["dependence"]


def make_detector(settings: DetectorSettings, reference_outcomes: int) -> Detector:
    """Make a configured detector; one that learns a reference learns it from as many outcomes as the monitor does."""
    params = dict(settings.params)
    known = registry.parameters(settings.name)
    if "reference_size" in known:
        params.setdefault("reference_size", reference_outcomes)
    return registry.make(settings.name, **params)


def fits_numbers(settings: DetectorSettings) -> bool:
    """Whether a detector takes losses between 0 and 1; those for 0 or 1 alone are left out of regressions."""
    return registry.make(settings.name, **settings.params).domain != "bernoulli"


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
