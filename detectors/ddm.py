"""DDM, the drift detection method: an error rate that rises above the lowest it has been.

Gama, Medas, Castillo and Rodrigues, "Learning with drift detection", SBIA 2004.
"""

import math
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import numpy as np

from detectors.columns import accumulated, first_marked, last_marked
from detectors.ddm_classic import ClassicRule
from detectors.incremental import Incremental, Rule
from detectors.parameters import Positive, checked
from detectors.protocol import Domain, Level, Progress, Values, Verdict


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """Exact counts: of values and errors since the reset, and of errors at the instants that matter."""

    count: int = 0
    errors: int = 0
    errors_before: int = 0
    """Errors before the recent rate's first value."""
    errors_between: int = 0
    """Errors before the first value of the present block of `memory` values."""
    lowest_count: int = 0
    lowest_errors: int = 0
    calm: int = 0
    """The count at which the level last was stable."""
    statistic: float = 0.0
    level: Level = Level.STABLE


class ForgettingRule:
    """The rule of `DDM`. All state is whole numbers, so that columns and loops agree exactly."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.body = Body()
        self._warm_start: int = parameters["warm_start"]
        self._warning: float = parameters["warning_level"]
        self._drift: float = parameters["drift_level"]
        self._calm_below = min(self._warning, self._drift)
        self._memory: int = parameters["memory"]
        self._floor: float = parameters["floor"]

    def scan(self, values: list[float]) -> Progress:
        """Take values one after the other, up to the first that drifts."""
        body, consumed = self.body, 0
        while consumed < len(values):
            self._turn_block()
            room = self._memory - body.count % self._memory
            consumed += self._judge_few(values[consumed : consumed + room])
            if body.level is Level.DRIFT:
                break
        return Progress(consumed, body.level)

    def block(self, values: Values) -> Progress:
        """Do the same with columns, cut where a block of `memory` values ends."""
        consumed = 0
        while consumed < len(values):
            self._turn_block()
            room = self._memory - self.body.count % self._memory
            taken = self._judge_column(values[consumed : consumed + room])
            consumed += taken
            if self.body.level is Level.DRIFT:
                break
        return Progress(consumed, self.body.level)

    def verdict(self) -> Verdict:
        """Say the level. As in the paper the change is put where the warning began; `mean` is the recent error rate."""
        body = self.body
        recent = body.count - self._start(body.count)
        return Verdict(
            level=body.level,
            statistic=body.statistic,
            threshold=self._drift,
            sample_count=body.count,
            change_point=body.calm if body.level is not Level.STABLE else None,
            mean=(body.errors - body.errors_before) / recent if recent else None,
        )

    def _start(self, count: int) -> int:
        """Give how many values come before those of the recent rate: it spans the block of `count` and one more."""
        return max(0, (count - 1) // self._memory - 1) * self._memory

    def _turn_block(self) -> None:
        """Where a block of `memory` values is full, let the recent rate forget the block before it."""
        body = self.body
        if body.count and body.count % self._memory == 0:
            body.errors_before, body.errors_between = body.errors_between, body.errors

    def _judge_few(self, values: list[float]) -> int:
        """Judge values of one block in plain floats: `_judge_column` bit for bit; give how many were taken."""
        body = self.body
        count, errors = body.count, body.errors
        lowest_count, lowest_errors = body.lowest_count, body.lowest_errors
        height = _height(lowest_count, lowest_errors) if lowest_count else math.inf
        level, calm = body.level, body.calm
        begin = count - self._start(count + 1)
        for taken, value in enumerate(values, start=1):
            count += 1
            errors += int(value)
            if count >= self._warm_start:
                rate = errors / count
                if (now := rate + math.sqrt(rate * (1.0 - rate) / count)) <= height:
                    lowest_count, lowest_errors, height = count, errors, now
                level = self._compare(lowest_count, lowest_errors, begin + taken, errors - body.errors_before)
            if level is Level.STABLE:
                calm = count
            elif level is Level.DRIFT:
                break
        body.level, body.calm = level, calm
        body.lowest_count, body.lowest_errors = lowest_count, lowest_errors
        body.count, body.errors = count, errors
        return taken

    def _compare(self, lowest_count: int, lowest_errors: int, recent: int, errors: int) -> Level:
        """Hold the recent error rate against the lowest."""
        lowest = min(max(lowest_errors / lowest_count, self._floor), 1.0 - self._floor)
        chance = math.sqrt(lowest * (1.0 - lowest) * (1.0 / lowest_count + 1.0 / recent))
        self.body.statistic = statistic = (errors / recent - lowest) / chance
        if statistic >= self._drift:
            return Level.DRIFT
        return Level.WARNING if statistic >= self._warning else Level.STABLE

    def _judge_column(self, values: Values) -> int:
        """Judge values of one block; give how many were taken."""
        body = self.body
        errors = accumulated(float(body.errors), values)[1:]
        counts = body.count + np.arange(1.0, len(values) + 1.0)
        begin = min(max(0, self._warm_start - body.count - 1), len(values))
        taken = len(values)
        if begin:
            body.calm = body.count + begin
        if begin < taken:
            taken = begin + self._judge_warm(counts[begin:], errors[begin:], self._start(body.count + 1))
        body.count += taken
        body.errors = int(errors[taken - 1])
        return taken

    def _judge_warm(self, counts: Values, errors: Values, start: int) -> int:
        """Judge values behind the warm-up; give how many up to and including the first that drifts."""
        body = self.body
        height = _heights(counts, errors)
        so_far = np.minimum.accumulate(height)
        # The latest of equal minima, as `<=` keeps it.
        new = height <= so_far
        if body.lowest_count:
            new &= height <= _height(body.lowest_count, body.lowest_errors)
        at = last_marked(new)
        lowest_counts = np.where(at >= 0, counts[at], float(body.lowest_count))
        lowest_errors = np.where(at >= 0, errors[at], float(body.lowest_errors))
        recent = counts - start
        lowest = np.minimum(np.maximum(lowest_errors / lowest_counts, self._floor), 1.0 - self._floor)
        chance = np.sqrt(lowest * (1.0 - lowest) * (1.0 / lowest_counts + 1.0 / recent))
        statistic = ((errors - body.errors_before) / recent - lowest) / chance
        first = first_marked(statistic >= self._drift)
        last = first if first >= 0 else len(counts) - 1
        body.lowest_count, body.lowest_errors = int(lowest_counts[last]), int(lowest_errors[last])
        body.statistic = float(statistic[last])
        calm = int(last_marked(statistic[: last + 1] < self._calm_below)[-1])
        if calm >= 0:
            body.calm = int(counts[calm])
        warns = body.statistic >= self._warning
        body.level = Level.DRIFT if first >= 0 else Level.WARNING if warns else Level.STABLE
        return last + 1


class DDM(Incremental):
    """Compares the recent error rate with the lowest that the whole stream's error rate has been.

    The lowest rate p0, over n0 values, is where p + s of all values since the reset was smallest, s = sqrt(p (1 - p) /
    n). The recent rate p1 is that of the last n1 values, `memory` < n1 <= 2 `memory` (all of them, before). The
    statistic is (p1 - p0) / sqrt(p0 (1 - p0) (1/n0 + 1/n1)), and `drift_level` the threshold, in standard deviations.

    Two departures from the paper, each for a defect that users meet. (1) p0 is at least `floor`: after 4,000 correct
    predictions the paper's p0 and s0 are zero, and one single error is a drift. (2) p1 forgets: the paper's running
    mean over everything moves ever more slowly, and one in five rises from .1 to .15 is never seen.

    With `compat="river"` the rule is the paper's as river 0.26 computes it, index for index, and the levels are in
    units of s0. Defaults of `warm_start`, `warning_level`, `drift_level`: 200, 3, 4; with `compat="river"` river's 30,
    2, 3.

    State: nine numbers.
    """

    name: ClassVar[str] = "ddm"
    domain: ClassVar[Domain] = "bernoulli"

    def __init__(
        self,
        *,
        warm_start: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None,
        warning_level: Positive | None = None,
        drift_level: Positive | None = None,
        memory: Annotated[int, msgspec.Meta(ge=50, le=1_000_000)] = 500,
        floor: Annotated[float, msgspec.Meta(gt=0.0, lt=0.5)] = 0.01,
        compat: Literal["river"] | None = None,
    ) -> None:
        usual = (30, 2.0, 3.0) if compat == "river" else (200, 3.0, 4.0)
        given = {
            "warm_start": usual[0] if warm_start is None else warm_start,
            "warning_level": usual[1] if warning_level is None else warning_level,
            "drift_level": usual[2] if drift_level is None else drift_level,
            "memory": memory,
            "floor": floor,
            "compat": compat,
        }
        self._begin(checked(DDM, given))

    def _rule_for(self, parameters: dict[str, Any]) -> Rule:
        return ClassicRule(parameters) if parameters["compat"] == "river" else ForgettingRule(parameters)


def _height(count: float, errors: float) -> float:
    """Give p + s, the upper edge of what an error rate may be."""
    rate = errors / count
    return rate + math.sqrt(rate * (1.0 - rate) / count)


def _heights(counts: Values, errors: Values) -> Values:
    """Give `_height` of columns, bit for bit."""
    rates = errors / counts
    return np.asarray(rates + np.sqrt(rates * (1.0 - rates) / counts))
