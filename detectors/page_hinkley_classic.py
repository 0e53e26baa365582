"""Page-Hinkley as river 0.26 computes it, defects included: `PageHinkley(compat="river")`."""

import math
from typing import Any

import msgspec

from detectors.protocol import Level, Progress, Values, Verdict


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """The running mean, and both faded sums with their extremes."""

    count: int = 0
    mean: float = 0.0
    rise: float = 0.0
    rise_least: float | None = None
    rise_count: int = 0
    fall: float = 0.0
    fall_most: float = -1.0
    """river starts this at -1 and not at minus infinity: a sum that never exceeds -1 is measured from there."""
    fall_count: int = 0
    statistic: float = 0.0
    change_point: int = 0


class ClassicRule:
    """A drift when a faded sum of deviations is further than `threshold` from its extreme, in river's order.

    A loop and no columns: it is there to compare with river, whose running mean rounds at every value.
    """

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.body = Body()
        self._min_instances: int = parameters["min_instances"]
        self._delta: float = parameters["delta"]
        self._limit: float = parameters["threshold"]
        self._alpha: float = parameters["alpha"]
        self._direction: str = parameters["direction"]

    def scan(self, values: list[float]) -> Progress:
        """Take values one after the other, up to the first that drifts."""
        body = self.body
        for index, value in enumerate(values):
            self._take(value)
            if body.statistic > self._limit:
                return Progress(index + 1, Level.DRIFT)
        return Progress(len(values), self._level())

    def block(self, values: Values) -> Progress:
        """Do the same."""
        return self.scan(values.tolist())

    def verdict(self) -> Verdict:
        """Say the level; a sum drifts when it exceeds its limit, so the threshold is the next number above that."""
        body, level = self.body, self._level()
        return Verdict(
            level=level,
            statistic=body.statistic,
            threshold=math.nextafter(self._limit, math.inf),
            sample_count=body.count,
            change_point=body.change_point if level is Level.DRIFT else None,
            mean=body.mean if body.count else None,
        )

    def _level(self) -> Level:
        return Level.DRIFT if self.body.statistic > self._limit else Level.STABLE

    def _take(self, value: float) -> None:
        body = self.body
        body.count += 1
        body.mean += (1.0 / body.count) * (value - body.mean)
        away = value - body.mean
        body.rise = self._alpha * body.rise + away - self._delta
        body.fall = self._alpha * body.fall + away + self._delta
        if body.rise_least is None or body.rise < body.rise_least:
            body.rise_least, body.rise_count = body.rise, body.count
        if body.fall > body.fall_most:
            body.fall_most, body.fall_count = body.fall, body.count
        if body.count < self._min_instances:
            return
        rise = body.rise - body.rise_least if self._direction != "down" else -math.inf
        fall = body.fall_most - body.fall if self._direction != "up" else -math.inf
        body.statistic = max(rise, fall)
        body.change_point = body.rise_count if rise >= fall else body.fall_count
