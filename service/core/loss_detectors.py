"""The reference window of a loss, and the detectors that watch what comes after it."""

from typing import Any, NamedTuple, Self

import msgspec
import numpy as np

from detectors import registry
from detectors.columns import SHORT
from detectors.dependence import Dependence
from detectors.level import LevelSums
from detectors.protocol import Detector, Level, Rearming, State
from service.core.columns import Float
from service.core.loss_feed import Drift
from service.core.settings import DetectorSettings


class LossReference(msgspec.Struct, frozen=True, kw_only=True):
    """What a whole reference window says of a loss. Scaled losses lie in [0, 1], as detectors take them."""

    count: int
    mean: float
    std: float
    cap: float = 1.0
    """What a loss is divided by and clipped to: 1 where losses are 0 or 1."""
    scaled: tuple[float, float]
    """Mean and variance of the scaled losses."""
    dependence: float = 1.0
    """By how much the dependence of the losses on each other raises the variance of their mean."""

    @classmethod
    def learn(cls, losses: Float, cap_quantile: float | None) -> Self:
        """Learn from losses, shape (n,). `cap_quantile`: None where they are 0 or 1."""
        cap = 1.0
        if cap_quantile is not None:
            cap = float(np.quantile(losses, cap_quantile)) or float(np.max(losses)) or 1.0
        scaled = losses if cap_quantile is None else np.minimum(losses / cap, 1.0)
        sums = Dependence()
        sums.take(scaled)
        return cls(
            count=len(losses),
            mean=float(np.mean(losses)),
            std=float(np.std(losses)),
            cap=cap,
            scaled=(float(np.mean(scaled)), float(np.var(scaled))),
            dependence=sums.inflation,
        )

    @property
    def level(self) -> LevelSums:
        """The scaled losses as sums."""
        mean, variance = self.scaled
        return LevelSums(self.count, self.count * mean, self.count * (variance + mean * mean))

    def accepting(self, level: LevelSums) -> "LossReference":
        """Give the reference that a level of scaled losses makes, with this one's cap and dependence."""
        mean = level.plain_mean
        variance = max(level.squares / level.count - mean * mean, 0.0)
        return LossReference(
            count=level.count,
            mean=self.cap * mean,
            std=self.cap * variance**0.5,
            cap=self.cap,
            scaled=(mean, variance),
            dependence=self.dependence,
        )


class BankState(NamedTuple):
    """The detectors' part of a snapshot; one entry for each detector in each list."""

    chosen: list[tuple[str, dict[str, Any]]]
    detectors: list[dict[str, Any]]
    bases: list[int]


class DetectorBank:
    """The configured detectors of one loss. Each restarts behind its own drift, whatever becomes of the alarm."""

    def __init__(self, chosen: list[DetectorSettings], reference_outcomes: int, *, bernoulli: bool) -> None:
        self.chosen = chosen
        self._bernoulli = bernoulli
        self.detectors = [make_detector(item, reference_outcomes) for item in chosen]
        self.bases = [0] * len(chosen)
        """Outcomes that had come when each began to count."""
        self._reference: LossReference | None = None

    def __len__(self) -> int:
        return len(self.chosen)

    def scaled(self, losses: Float, cap: float) -> Float:
        """Bring losses into [0, 1], as detectors take them."""
        return losses if self._bernoulli else np.minimum(losses / cap, 1.0)

    def feed(self, values: Float, start: int, first_row: int) -> list[Drift]:
        """Take scaled losses, shape (n,), behind `start` outcomes; give the drifts by row, from `first_row` on."""
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
                    change = number - 1 if verdict.change_point is None else self.bases[place] + verdict.change_point
                    found.append(Drift(first_row + consumed - 1, place, verdict, min(change, number - 1)))
                    self._go_on(place, number)
        found.sort(key=lambda drift: (drift.row, drift.place))
        return found

    def hold_against(self, reference: LossReference | None, number: int) -> None:
        """Let all detectors begin anew behind `number` outcomes, against a reference where they can be given one."""
        self._reference = reference
        for place in range(len(self)):
            self._restart(place, number)

    def learn(self, reference: LossReference) -> None:
        """Let detectors that are new from now on be held against a reference. Nothing changes for the others."""
        self._reference = reference

    def _go_on(self, place: int, number: int) -> None:
        """Let a detector that drifted go on, from an outcome on: it must not take the worse loss for normal.

        One that can forget the evidence alone keeps all that it has learnt as normal since its reference.
        """
        detector = self.detectors[place]
        if isinstance(detector, Rearming):
            detector.rearm()
            self.bases[place] = number
        else:
            self._restart(place, number)

    def _restart(self, place: int, number: int) -> None:
        item = self.chosen[place]
        if self._reference is not None and "reference_count" in registry.parameters(item.name):
            self.detectors[place] = self._with_reference(item, self._reference)
        else:
            self.detectors[place].rebase()
        self.bases[place] = number

    def _with_reference(self, item: DetectorSettings, reference: LossReference) -> Detector:
        given = {
            "reference_count": reference.count,
            "reference_mean": reference.scaled[0],
            "reference_inflation": reference.dependence,
        }
        if not self._bernoulli:
            given["reference_variance"] = reference.scaled[1]
        return registry.make(item.name, **(item.params | given))

    def verdicts(self) -> dict[str, dict[str, float | None]]:
        """Give what each detector says now: statistic, threshold, level, sample count."""
        said = {}
        for item, detector in zip(self.chosen, self.detectors, strict=True):
            verdict = detector.verdict()
            said[item.name] = {
                "level": float(verdict.level),
                "statistic": _finite(verdict.statistic),
                "threshold": _finite(verdict.threshold),
                "sample_count": float(verdict.sample_count),
            }
        return said

    def snapshot(self) -> BankState:
        """Give everything as plain data."""
        chosen = [(item.name, item.params) for item in self.chosen]
        return BankState(chosen, [detector.snapshot() for detector in self.detectors], list(self.bases))

    def restore(self, state: BankState, reference: LossReference | None, number: int) -> None:
        """Take over a snapshot. Detectors whose settings are no longer the same begin as new, behind `number`."""
        self.hold_against(reference, number)
        for place, item in enumerate(self.chosen):
            for chosen, snapshot, base in zip(state.chosen, state.detectors, state.bases, strict=True):
                if tuple(chosen) == (item.name, item.params):
                    self.detectors[place], self.bases[place] = registry.restore(snapshot), base


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


def stored_reference_of(state: State) -> LossReference:
    """Read a reference window as a stored profile holds it."""
    mean, variance = state["scaled"]
    return LossReference(
        count=state["count"],
        mean=state["mean"],
        std=state["std"],
        cap=state["cap"],
        scaled=(mean, variance),
        dependence=state.get("dependence", 1.0),
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
