"""HDDM with the A-test: two means of a bounded stream compared by Hoeffding's inequality.

Frias-Blanco, del Campo-Avila, Ramos-Jimenez, Morales-Bueno, Ortiz-Diaz and Caballero-Mota, "Online and non-parametric
drift detection methods based on Hoeffding's bounds", IEEE TKDE 27(3), 2015.
"""

import math
from typing import Any, ClassVar

import msgspec
import numpy as np

from detectors.columns import accumulated, first_marked, last_marked
from detectors.incremental import Incremental, Rule
from detectors.parameters import Probability, checked
from detectors.protocol import Domain, Level, Progress, Values, Verdict


class Side(msgspec.Struct, forbid_unknown_fields=True):
    """The first part of the stream, up to where its mean was surely lowest (or, negated, surely highest)."""

    count: int = 0
    total: float = 0.0
    edge: float = 0.0
    """The mean plus (or minus) its bound at that place."""
    statistic: float = 0.0
    """The difference of the means, divided by what Hoeffding's inequality allows at the drift confidence."""


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """Count and sum of the whole stream since the reset, and its first part for each direction."""

    count: int = 0
    total: float = 0.0
    rise: Side = msgspec.field(default_factory=Side)
    fall: Side = msgspec.field(default_factory=Side)


class HoeffdingRule:
    """The rule of `HDDMA`. One side is the other of the negated stream."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.body = Body()
        self._edge_factor = math.log(1.0 / parameters["drift_confidence"])
        self._drift_factor = math.log(2.0 / parameters["drift_confidence"])
        # A warning is the same statistic against a lower threshold: both bounds share all but this factor.
        self._warning = math.sqrt(math.log(2.0 / parameters["warning_confidence"]) / self._drift_factor)
        self._two_sided: bool = parameters["two_sided"]

    def scan(self, values: list[float]) -> Progress:
        """Take values one after the other, up to the first that drifts."""
        body = self.body
        for index, value in enumerate(values):
            body.count += 1
            body.total += value
            self._judge(body.rise, 1.0)
            if self._two_sided:
                self._judge(body.fall, -1.0)
            if max(body.rise.statistic, body.fall.statistic) >= 1.0:
                return Progress(index + 1, Level.DRIFT)
        return Progress(len(values), self._level())

    def block(self, values: Values) -> Progress:
        """Do the same with columns."""
        body = self.body
        counts = body.count + np.arange(1.0, len(values) + 1.0)
        totals = accumulated(body.total, values)[1:]
        bounds = np.sqrt(1.0 / (2.0 * counts) * self._edge_factor)
        rise = _Column(body.rise, counts, totals, 1.0, bounds, self._drift_factor)
        fall = _Column(body.fall, counts, totals, -1.0, bounds, self._drift_factor) if self._two_sided else None
        drifts = rise.statistic >= 1.0
        if fall is not None:
            drifts |= fall.statistic >= 1.0
        first = first_marked(drifts)
        last = first if first >= 0 else len(values) - 1
        body.count, body.total = int(counts[last]), float(totals[last])
        body.rise = rise.side(last)
        if fall is not None:
            body.fall = fall.side(last)
        return Progress(last + 1, self._level())

    def verdict(self) -> Verdict:
        """Say the level. The change is put where the first part ends; `mean` is that of what came after it."""
        body = self.body
        side = max(body.rise, body.fall, key=lambda side: side.statistic)
        level = self._level()
        later = body.count - side.count
        return Verdict(
            level=level,
            statistic=side.statistic,
            threshold=1.0,
            sample_count=body.count,
            change_point=side.count if level is not Level.STABLE else None,
            mean=(body.total - side.total) / later if later else None,
        )

    def _level(self) -> Level:
        statistic = max(self.body.rise.statistic, self.body.fall.statistic)
        return Level.DRIFT if statistic >= 1.0 else Level.WARNING if statistic >= self._warning else Level.STABLE

    def _judge(self, side: Side, sign: float) -> None:
        count = float(self.body.count)
        mean = self.body.total / count
        edge = sign * mean + math.sqrt(1.0 / (2.0 * count) * self._edge_factor)
        if not side.count or edge <= side.edge:
            side.count, side.total, side.edge, side.statistic = self.body.count, self.body.total, edge, 0.0
            return
        share = (count - side.count) / side.count * (1.0 / count)
        side.statistic = sign * (mean - side.total / side.count) / math.sqrt(share / 2.0 * self._drift_factor)


class _Column:
    """One side at every value of a column: `HoeffdingRule._judge`, bit for bit."""

    def __init__(self, side: Side, counts: Values, totals: Values, sign: float, bounds: Values, factor: float) -> None:
        means = totals / counts
        self.edges = sign * means + bounds
        new = self.edges <= np.minimum.accumulate(self.edges)
        if side.count:
            new &= self.edges <= side.edge
        at = last_marked(new)
        known = at >= 0
        self.counts = np.where(known, counts[at], float(side.count))
        self.totals = np.where(known, totals[at], side.total)
        self.edge_at = np.where(known, self.edges[at], side.edge)
        share = (counts - self.counts) / self.counts * (1.0 / counts)
        allowed = np.where(new, 1.0, np.sqrt(share / 2.0 * factor))
        self.statistic = np.where(new, 0.0, sign * (means - self.totals / self.counts) / allowed)

    def side(self, index: int) -> Side:
        """Give the side as it is behind one value."""
        return Side(
            int(self.counts[index]), float(self.totals[index]), float(self.edge_at[index]), float(self.statistic[index])
        )


class HDDMA(Incremental):
    """Compares the mean of the first part of a stream in [0, 1] with that of the whole.

    The first part ends where mean + sqrt(ln(1/a) / 2n) was smallest, a = `drift_confidence`. With x values of mean X in
    it and z of mean Z in all, a rise is a drift when Z - X >= sqrt((z - x) / (x z) / 2 ln(2/a)); the statistic is the
    ratio of the two sides, the threshold 1. `two_sided` watches for a fall as well. The rule is river's `HDDMA`, which
    computes it with a running mean: the same indices but for ties within rounding. a holds per step, not per run.

    State: a dozen numbers.
    """

    name: ClassVar[str] = "hddm_a"
    domain: ClassVar[Domain] = "unit"

    def __init__(
        self,
        *,
        drift_confidence: Probability = 0.0001,
        warning_confidence: Probability = 0.005,
        two_sided: bool = False,
    ) -> None:
        given = {
            "drift_confidence": drift_confidence,
            "warning_confidence": warning_confidence,
            "two_sided": two_sided,
        }
        self._begin(checked(HDDMA, given))

    def _rule_for(self, parameters: dict[str, Any]) -> Rule:
        return HoeffdingRule(parameters)
