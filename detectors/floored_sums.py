"""Floored sums of standardised values, in both directions: what CUSUM and Page-Hinkley have in common.

Page, "Continuous inspection schemes", Biometrika 41, 1954. S <- max(0, S + z - k) is written as C - min C, with C the
plain running sum: both are accumulated in order, so that columns and loops agree bit for bit.
"""

import math
from typing import Any, NamedTuple

import msgspec
import numpy as np

from detectors.columns import accumulated, first_marked, last_marked
from detectors.protocol import Level, Progress, Values, Verdict
from detectors.reference import Reference, sum_threshold

RENEWAL = 4096
"""After this many values the running sum starts from its distance to the minimum: it never grows out of its digits."""

ERROR_WEIGHT = 1.645
"""Standard errors of the reference's mean that are allowed for: a one-sided bound at 95 %, not the plug-in estimate."""


WARNING = 0.75
"""The share of the threshold at which a sum warns."""


class Side(msgspec.Struct, forbid_unknown_fields=True):
    """The sum in one direction, its minimum, and how many values, of which sum, came before that minimum."""

    running: float = 0.0
    least: float = 0.0
    count: int = 0
    total: float = 0.0


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """Count and sum since the reset, the reference with its frozen scale, and both directions."""

    count: int = 0
    total: float = 0.0
    reference: Reference = msgspec.field(default_factory=Reference)
    center: float = 0.0
    deviation: float = 0.0
    skewness: float = 0.0
    since: int = 0
    """Values judged since the last renewal of the sums."""
    rise: Side = msgspec.field(default_factory=Side)
    fall: Side = msgspec.field(default_factory=Side)


class _Watch(NamedTuple):
    """One direction: its sum, the sign that turns it upwards, and its threshold."""

    side: Side
    sign: float
    limit: float

    def ratio(self) -> float:
        """Give the floored sum over its threshold."""
        return (self.side.running - self.side.least) / self.limit


class SumRule:
    """The rule of `CUSUM` (a fixed center) and `PageHinkley` (a center that goes on learning: `is_running`)."""

    def __init__(self, parameters: dict[str, Any], *, is_running: bool) -> None:
        self.body = Body()
        self._size: int = parameters["reference_size"]
        self._allowance: float = parameters["allowance"]
        self._direction: str = parameters["direction"]
        self._is_running = is_running
        self._watched: tuple[Body, float, list[_Watch]] | None = None
        """What `_watches` said last, of which body and which skewness."""
        # Two directions share one budget of false alarms.
        self._run_length: float = parameters["run_length"] * (2.0 if self._direction == "both" else 1.0)

    def scan(self, values: list[float]) -> Progress:
        """Take values one after the other, up to the first that drifts."""
        learnt = min(max(self._size - self.body.count, 0), len(values))
        for value in values[:learnt]:
            self._learn(value)
        watches = self._watches()
        for index in range(learnt, len(values)):
            if self._judge(values[index], watches):
                return Progress(index + 1, Level.DRIFT)
        return Progress(len(values), _level(watches))

    def block(self, values: Values) -> Progress:
        """Do the same with columns, cut at the end of the reference and where the sums are renewed."""
        learnt = min(max(self._size - self.body.count, 0), len(values))
        consumed, level = self.scan(values[:learnt].tolist()) if learnt else Progress(0, _level(self._watches()))
        while consumed < len(values):
            room = RENEWAL - self.body.since
            taken, level = self._judge_column(values[consumed : consumed + room])
            consumed += taken
            if level is Level.DRIFT:
                break
        return Progress(consumed, level)

    def verdict(self) -> Verdict:
        """Say the level. The change is put where the sum last was at its floor; `mean` is that of what came after."""
        body, watches = self.body, self._watches()
        level, watch = _level(watches), max(watches, key=_Watch.ratio)
        start, total = (0, 0.0) if level is Level.STABLE else (watch.side.count, watch.side.total)
        return Verdict(
            level=level,
            statistic=watch.ratio(),
            threshold=1.0,
            sample_count=body.count,
            change_point=None if level is Level.STABLE else start,
            mean=(body.total - total) / (body.count - start) if body.count > start else None,
        )

    def _watches(self) -> list[_Watch]:
        """Give the directions that are watched, each with its threshold: a skewed stream has two."""
        body, skewness = self.body, self.body.skewness
        if self._watched is not None and self._watched[0] is body and self._watched[1] == skewness:
            return self._watched[2]
        both = (("up", body.rise, 1.0), ("down", body.fall, -1.0))
        watches = [
            _Watch(side, sign, sum_threshold(self._run_length, self._allowance, sign * skewness))
            for direction, side, sign in both
            if self._direction in (direction, "both")
        ]
        self._watched = body, skewness, watches
        return watches

    def _learn(self, value: float) -> None:
        """Take one value of the reference; behind the last its scale is frozen."""
        body = self.body
        body.reference.take(value)
        body.count += 1
        body.total += value
        if body.count == self._size:
            body.center, body.deviation, body.skewness = body.reference.standard()
            for side in (body.rise, body.fall):
                side.count, side.total = body.count, body.total

    def _judge(self, value: float, watches: list[_Watch]) -> bool:
        """Take one value behind the reference; say whether it drifts."""
        body = self.body
        count = body.count
        center = body.total / count if self._is_running else body.center
        allowed = self._allowance + ERROR_WEIGHT / math.sqrt(float(count if self._is_running else self._size))
        away = (value - center) / body.deviation
        body.count = count + 1
        body.total += value
        drifts = False
        for side, sign, limit in watches:
            side.running = running = side.running + (sign * away - allowed)
            if running <= side.least:
                side.least, side.count, side.total = running, body.count, body.total
            elif (running - side.least) / limit >= 1.0:
                drifts = True
        body.since += 1
        if body.since == RENEWAL:
            self._renew()
        return drifts

    def _judge_column(self, values: Values) -> Progress:
        """Take values behind the reference, none beyond a renewal: `_judge` bit for bit."""
        body = self.body
        counts = body.count + np.arange(len(values) + 1.0)
        totals = accumulated(body.total, values)
        known = counts[:-1] if self._is_running else np.full(len(values), float(self._size))
        centers = totals[:-1] / counts[:-1] if self._is_running else body.center
        away = (values - centers) / body.deviation
        allowed = self._allowance + ERROR_WEIGHT / np.sqrt(known)
        watches = self._watches()
        sums = [_Sums(watch, watch.sign * away - allowed) for watch in watches]
        drifts = np.logical_or.reduce([part.ratios >= 1.0 for part in sums])
        first = first_marked(drifts)
        last = first if first >= 0 else len(values) - 1
        for part in sums:
            part.settle(last, counts, totals)
        body.count, body.total = int(counts[last + 1]), float(totals[last + 1])
        self._age(last + 1)
        return Progress(last + 1, _level(watches))

    def _age(self, count: int) -> None:
        """Count values since the last renewal, and renew the sums when it is time."""
        self.body.since += count
        if self.body.since == RENEWAL:
            self._renew()

    def _renew(self) -> None:
        self.body.since = 0
        for side in (self.body.rise, self.body.fall):
            side.running, side.least = side.running - side.least, 0.0


def _level(watches: list[_Watch]) -> Level:
    ratio = max([watch.ratio() for watch in watches])
    return Level.DRIFT if ratio >= 1.0 else Level.WARNING if ratio >= WARNING else Level.STABLE


class _Sums:
    """One direction at every value of a column."""

    def __init__(self, watch: _Watch, steps: Values) -> None:
        self.watch = watch
        self.running = accumulated(watch.side.running, steps)[1:]
        self.least = np.minimum.accumulate(np.concatenate(([watch.side.least], self.running)))
        self.ratios = (self.running - self.least[1:]) / watch.limit

    def settle(self, last: int, counts: Values, totals: Values) -> None:
        """Leave the direction as it is behind one value. `counts` and `totals` start before the column."""
        side = self.watch.side
        at = int(last_marked(self.running[: last + 1] <= self.least[: last + 1])[-1])
        if at >= 0:
            side.count, side.total = int(counts[at + 1]), float(totals[at + 1])
        side.running, side.least = float(self.running[last]), float(self.least[last + 1])
