"""DDM as published and as river 0.26 computes it, defects included: `DDM(compat="river")`."""

import math
from typing import Any

import msgspec

from detectors.protocol import Level, Progress, Values, Verdict


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """The running error rate, and rate and deviation where their sum was smallest."""

    count: int = 0
    rate: float = 0.0
    lowest: float | None = None
    lowest_rate: float = 0.0
    lowest_deviation: float = 0.0
    calm: int = 0
    """The count at which the level last was stable."""
    statistic: float = 0.0
    threshold: float = 0.0
    level: Level = Level.STABLE


class ClassicRule:
    """A drift when p + s exceeds p_min + `drift_level` s_min, in river's order of operations.

    A loop and no columns: it is there to compare with river, whose running mean rounds at every value.
    """

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.body = Body()
        self._warm_start: int = parameters["warm_start"]
        self._warning: float = parameters["warning_level"]
        self._drift: float = parameters["drift_level"]

    def scan(self, values: list[float]) -> Progress:
        """Take values one after the other, up to the first that drifts."""
        body = self.body
        for index, value in enumerate(values):
            body.count += 1
            body.rate += (1.0 / body.count) * (value - body.rate)
            if body.count > self._warm_start:
                self._judge(body)
            if body.level is Level.STABLE:
                body.calm = body.count
            elif body.level is Level.DRIFT:
                return Progress(index + 1, Level.DRIFT)
        return Progress(len(values), body.level)

    def block(self, values: Values) -> Progress:
        """Do the same."""
        return self.scan(values.tolist())

    def verdict(self) -> Verdict:
        """Say the level; p + s drifts when it exceeds its limit, so the threshold is the next number above that."""
        body = self.body
        return Verdict(
            level=body.level,
            statistic=body.statistic,
            threshold=math.nextafter(body.threshold, math.inf),
            sample_count=body.count,
            change_point=body.calm if body.level is not Level.STABLE else None,
            mean=body.rate,
        )

    def _judge(self, body: Body) -> None:
        deviation = math.sqrt(body.rate * (1.0 - body.rate) / body.count)
        body.statistic = body.rate + deviation
        if body.lowest is None or body.statistic <= body.lowest:
            body.lowest_rate, body.lowest_deviation = body.rate, deviation
            body.lowest = body.lowest_rate + body.lowest_deviation
        body.threshold = body.lowest_rate + self._drift * body.lowest_deviation
        if body.statistic > body.threshold:
            body.level = Level.DRIFT
        elif body.statistic > body.lowest_rate + self._warning * body.lowest_deviation:
            body.level = Level.WARNING
        else:
            body.level = Level.STABLE
