"""Tracking the risk: alarm when the running mean loss is certainly worse than the reference by more than a tolerance.

Podkopaev and Ramdas, "Tracking the risk of a deployed model and detecting harmful distribution shifts" (arXiv
2110.06177): the alarm is at the first time at which the lower bound of the running risk, an empirical-Bernstein
confidence sequence (`detectors.running_mean`), reaches the upper bound of the reference's risk plus the tolerance. Each
bound gets half of `false_alarm_probability`: the probability that it *ever* alarms while the mean loss is within the
tolerance is at most that, over a stream of any length.

Where the reference shows that losses depend on those before them (`detectors.dependence`), the margins are widened by
the root of that: an approximation, as in all tests here.

The price: the running mean never forgets, so after a long stable stretch a change takes long to move it. It answers
"has the model done harm so far", and `e_sr` answers "has it changed".
"""

from typing import Any, ClassVar

import msgspec
import numpy as np

from detectors.columns import column
from detectors.e_detector import ReferenceSize, Tolerance
from detectors.excursion import Excursion
from detectors.loss_reference import LossReference, ReferenceSums
from detectors.parameters import Probability, checked
from detectors.protocol import Domain, Level, Progress, State, Values, Verdict
from detectors.running_mean import RunningMean, RunningSums
from detectors.sealing import opened_body, opened_parameters, sealed


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    reference: ReferenceSums
    sums: RunningSums
    excursion: Excursion
    limit: float | None = None


class EmpiricalBernstein:
    """Compares bounds of the risk; statistic and threshold are mean losses. There is no warning level."""

    name: ClassVar[str] = "empirical_bernstein"
    domain: ClassVar[Domain] = "unit"

    def __init__(
        self,
        *,
        false_alarm_probability: Probability = 0.01,
        tolerance: Tolerance = 0.0,
        reference_size: ReferenceSize = 500,
    ) -> None:
        """Set up. The first `reference_size` losses are the reference."""
        parameters = {
            "false_alarm_probability": false_alarm_probability,
            "tolerance": tolerance,
            "reference_size": reference_size,
        }
        self._configure(checked(EmpiricalBernstein, parameters))
        self.reset()

    def _configure(self, parameters: dict[str, Any]) -> None:
        self._parameters = parameters
        self._doubt: float = parameters["false_alarm_probability"] / 2.0

    def reset(self) -> None:
        """Become as new."""
        self._reference = LossReference(self._parameters["reference_size"], self._doubt)
        self._running = RunningMean(self._doubt)
        self._excursion = Excursion()
        self._limit: float | None = None

    def rebase(self) -> None:
        """Learn the reference anew from what follows."""
        self.reset()

    def update(self, value: float) -> Level:
        """Take one loss in [0, 1] and say the level after it."""
        return self.update_many(np.array([value], dtype=np.float64)).level

    def update_many(self, values: Values | list[float]) -> Progress:
        """Take losses in [0, 1], shape (n,), stopping behind the first that drifts."""
        values = column(values, self.domain)
        taken = 0
        if self._limit is None:
            taken = self._reference.learn(values)
            if self._reference.whole:
                self._limit = min(self._reference.bounds().upper + self._parameters["tolerance"], 1.0)
                self._running = RunningMean(self._doubt, widening=self._reference.inflation**0.5)
        rest = values[taken:]
        if self._limit is not None and len(rest):
            more, _ = self._running.advance_until(rest, self._limit)
            self._excursion.advance(rest[:more], self._limit)
            taken += more
        return Progress(taken, self._level())

    def verdict(self) -> Verdict:
        """Say level, statistic (lower bound of the running risk) and threshold (what the reference allows)."""
        level = self._level()
        drifted = level is Level.DRIFT
        return Verdict(
            level=level,
            statistic=self._running.bounds()[0],
            threshold=self._limit if self._limit is not None else 1.0,
            sample_count=self._reference.count + self._excursion.count,
            change_point=self._reference.count + self._excursion.begin if drifted else None,
            mean=self._excursion.mean_since if drifted else None,
        )

    def snapshot(self) -> State:
        """Give parameters and state."""
        body = _Body(self._reference.state, self._running.sums, self._excursion, self._limit)
        return sealed(self.name, self._parameters, body)

    def restore(self, state: State) -> None:
        """Take over a snapshot. Raises StateError when it is another detector's, a newer version's, or damaged."""
        parameters = opened_parameters(state, EmpiricalBernstein, self.name)
        body = opened_body(state, self.name, _Body)
        self._configure(parameters)
        self._reference = LossReference(parameters["reference_size"], self._doubt, body.reference)
        widening = self._reference.inflation**0.5 if self._reference.whole else 1.0
        self._running = RunningMean(self._doubt, widening=widening, sums=body.sums)
        self._excursion, self._limit = body.excursion, body.limit

    def _level(self) -> Level:
        if self._limit is None or not self._excursion.count:
            return Level.STABLE
        return Level.DRIFT if self._running.bounds()[0] >= self._limit else Level.STABLE
