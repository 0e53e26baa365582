"""The EWMA control chart: an exponentially weighted mean that leaves its limits.

Roberts, "Control chart tests based on geometric moving averages", Technometrics 1, 1959; for error streams Ross, Adams,
Tasoulis and Hand, "Exponentially weighted moving average charts for detecting concept drift", 2012.
"""

import math
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import numpy as np

from detectors.columns import first_marked
from detectors.decay import Decay, decayed, decayed_column, decayed_many
from detectors.incremental import Incremental, Rule
from detectors.parameters import Positive, checked
from detectors.protocol import Domain, Level, Progress, Values, Verdict
from detectors.reference import Reference

ERROR_WEIGHT = 1.645
"""Standard errors of the reference's mean that are allowed for: a one-sided bound at 95 %, not the plug-in estimate."""

WARNING = 0.75
"""The share of the limit at which the chart warns."""


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """The reference with its frozen scale, the weighted mean of standardised values, and what remains of its start."""

    count: int = 0
    reference: Reference = msgspec.field(default_factory=Reference)
    center: float = 0.0
    deviation: float = 1.0
    decay: Decay = msgspec.field(default_factory=Decay)
    faded: float = 1.0
    """(1 - weight)^(2t): the share of the final variance that the mean of t values still lacks."""
    crossing: int = 0
    """The count at which the mean last was on the harmless side of 0."""
    statistic: float = 0.0


class ChartRule:
    """The rule of `EWMA`."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.body = Body()
        self._size: int = parameters["reference_size"]
        self._weight: float = parameters["weight"]
        self._limit: float = parameters["limit"]
        self._direction: str = parameters["direction"]
        self._error = ERROR_WEIGHT / math.sqrt(float(self._size))
        self._variance = self._weight / (2.0 - self._weight)
        self._fade = (1.0 - self._weight) * (1.0 - self._weight)

    def scan(self, values: list[float]) -> Progress:
        """Take values one after the other, up to the first that drifts."""
        body = self.body
        for index, value in enumerate(values):
            body.count += 1
            if body.count <= self._size:
                self._learn(value)
                continue
            self._judge((value - body.center) / body.deviation)
            if body.statistic >= self._limit:
                return Progress(index + 1, Level.DRIFT)
        return Progress(len(values), self._level())

    def block(self, values: Values) -> Progress:
        """Do the same with columns, cut at the end of the reference."""
        learnt = min(max(self._size - self.body.count, 0), len(values))
        taken, level = self.scan(values[:learnt].tolist()) if learnt else Progress(0, self._level())
        if taken < len(values):
            more, level = self._judge_column(values[taken:])
            taken += more
        return Progress(taken, level)

    def verdict(self) -> Verdict:
        """Say the level. The change is put where the mean last was at its center; `mean` is in the stream's units."""
        body, level = self.body, self._level()
        known = body.count > self._size
        return Verdict(
            level=level,
            statistic=body.statistic,
            threshold=self._limit,
            sample_count=body.count,
            change_point=body.crossing if level is not Level.STABLE else None,
            mean=body.center + body.decay.mean * body.deviation if known else None,
        )

    def _level(self) -> Level:
        statistic = self.body.statistic
        return Level.DRIFT if statistic >= self._limit else self._mild(statistic)

    def _mild(self, statistic: float) -> Level:
        return Level.WARNING if statistic >= WARNING * self._limit else Level.STABLE

    def _learn(self, value: float) -> None:
        body = self.body
        body.reference.take(value)
        if body.count == self._size:
            body.center, body.deviation, _ = body.reference.standard()
            body.crossing = body.count

    def _judge(self, away: float) -> None:
        """Take one standardised value."""
        body = self.body
        mean = decayed(body.decay, away, self._weight)
        body.faded *= self._fade
        outside = self._outside(mean)
        if outside <= 0.0:
            body.crossing = body.count
        body.statistic = (outside - self._error) / math.sqrt(self._variance * (1.0 - body.faded))

    def _outside(self, mean: float) -> float:
        """Turn the harmful direction upwards."""
        return mean if self._direction == "up" else -mean if self._direction == "down" else abs(mean)

    def _judge_column(self, values: Values) -> Progress:
        """Take values behind the reference: `_judge` bit for bit."""
        body = self.body
        away = (values - body.center) / body.deviation
        means = decayed_column(body.decay, away, self._weight)
        faded = np.multiply.accumulate(np.concatenate(([body.faded], np.full(len(values), self._fade))))[1:]
        outside = means if self._direction == "up" else -means if self._direction == "down" else np.abs(means)
        statistic = (outside - self._error) / np.sqrt(self._variance * (1.0 - faded))
        first = first_marked(statistic >= self._limit)
        taken = first + 1 if first >= 0 else len(values)
        harmless = np.flatnonzero(outside[:taken] <= 0.0)
        if len(harmless):
            body.crossing = body.count + int(harmless[-1]) + 1
        decayed_many(body.decay, away[:taken], self._weight)
        body.count += taken
        body.faded, body.statistic = float(faded[taken - 1]), float(statistic[taken - 1])
        return Progress(taken, self._level())


class EWMA(Incremental):
    """Watches the exponentially weighted mean of standardised values, each new one with `weight`.

    Values are standardised by the first `reference_size` of them. The statistic is the weighted mean, less 1.645
    standard errors of the reference's mean, in its own standard deviations sqrt(w / (2 - w) (1 - (1 - w)^2t)) after t
    values (so that the first ones have their narrower limits); the threshold is `limit`. In direction "both" the sides
    share it.

    State: two dozen numbers.
    """

    name: ClassVar[str] = "ewma"
    domain: ClassVar[Domain] = "real"

    def __init__(
        self,
        *,
        reference_size: Annotated[int, msgspec.Meta(ge=30, le=1_000_000)] = 1000,
        weight: Annotated[float, msgspec.Meta(ge=0.0005, le=0.9)] = 0.01,
        limit: Positive = 4.0,
        direction: Literal["up", "down", "both"] = "up",
    ) -> None:
        given = {"reference_size": reference_size, "weight": weight, "limit": limit, "direction": direction}
        self._begin(checked(EWMA, given))

    def _rule_for(self, parameters: dict[str, Any]) -> Rule:
        return ChartRule(parameters)
