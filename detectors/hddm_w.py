"""HDDM with the W-test: two exponentially weighted means of a bounded stream compared by McDiarmid's inequality.

Frias-Blanco, del Campo-Avila, Ramos-Jimenez, Morales-Bueno, Ortiz-Diaz and Caballero-Mota, "Online and non-parametric
drift detection methods based on Hoeffding's bounds", IEEE TKDE 27(3), 2015.
"""

import math
from functools import lru_cache
from typing import Annotated, Any, ClassVar, NamedTuple

import msgspec
import numpy as np

from detectors.columns import Indices, first_marked, last_marked
from detectors.decay import Decay, decayed, decayed_column, decayed_many
from detectors.incremental import Incremental, Rule
from detectors.parameters import Probability, checked
from detectors.protocol import Domain, Level, Progress, Values, Verdict


class Side(msgspec.Struct, forbid_unknown_fields=True):
    """The first sample, up to where its mean was surely lowest (or highest), and the first value of the second."""

    count: int = 0
    mean: float = 0.0
    edge: float = 0.0
    """The mean plus (or minus) its bound at that place."""
    first: float = 0.0
    statistic: float = 0.0


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """The weighted mean of the whole stream since the reset, and its first sample for each direction."""

    count: int = 0
    calm: int = 0
    """The count at which the level last was stable."""
    decay: Decay = msgspec.field(default_factory=Decay)
    rise: Side = msgspec.field(default_factory=Side)
    fall: Side = msgspec.field(default_factory=Side)


class _Tables(NamedTuple):
    """What depends on the number n of values alone, from n = 0 on; the last entry stands for all larger n."""

    powers: Values
    """(1 - w)^n: what is left of the weight of what came before n values."""
    squares: Values
    """The sum of the squared weights of n values: 1, then w^2 + (1 - w)^2 of the one before."""
    bounds: Values
    """sqrt(squares ln(1/a) / 2), McDiarmid's bound of a mean of n values."""
    power_list: list[float]
    square_list: list[float]
    bound_list: list[float]


@lru_cache(maxsize=64)
def _tables(weight: float, confidence: float) -> _Tables:
    """Count until the weights no longer change a double: at 10^-20, after 46 / w values."""
    keep = 1.0 - weight
    size = math.ceil(46.0 / weight) + 2
    powers = np.multiply.accumulate(np.concatenate(([1.0], np.full(size - 1, keep))))
    powers[-1] = 0.0
    squares = [1.0, 1.0]
    while len(squares) < size:
        squares.append(weight * weight + keep * keep * squares[-1])
    bounds = np.sqrt(np.array(squares) * math.log(1.0 / confidence) / 2.0)
    return _Tables(powers, np.array(squares), bounds, powers.tolist(), squares, bounds.tolist())


class WeightedRule:
    """The rule of `HDDMW`. The second sample's mean needs no recursion of its own.

    It starts with its first value x, the whole stream's mean there being y0: k values later both have taken the same
    values with the same weights, so that they differ by (1 - w)^k (x - y0).
    """

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.body = Body()
        self._weight: float = parameters["weight"]
        self._two_sided: bool = parameters["two_sided"]
        self._tables = _tables(self._weight, parameters["drift_confidence"])
        self._last = len(self._tables.power_list) - 1
        self._factor = math.log(1.0 / parameters["drift_confidence"]) / 2.0
        # A warning is the same statistic against a lower threshold: both bounds share all but this factor.
        self._warning = math.sqrt(math.log(1.0 / parameters["warning_confidence"]) / 2.0 / self._factor)

    def scan(self, values: list[float]) -> Progress:
        """Take values one after the other, up to the first that drifts."""
        body = self.body
        for index, value in enumerate(values):
            self._start(value)
            mean = decayed(body.decay, value, self._weight)
            body.count += 1
            self._judge(body.rise, 1.0, value, mean)
            if self._two_sided:
                self._judge(body.fall, -1.0, value, mean)
            statistic = self._statistic()
            if statistic >= 1.0:
                return Progress(index + 1, Level.DRIFT)
            if statistic < self._warning:
                body.calm = body.count
        return Progress(len(values), self._level())

    def block(self, values: Values) -> Progress:
        """Do the same with columns."""
        body = self.body
        self._start(float(values[0]))
        means = decayed_column(body.decay, values, self._weight)
        rise = self._judge_column(body.rise, 1.0, values, means)
        fall = self._judge_column(body.fall, -1.0, values, means) if self._two_sided else None
        statistic = rise.statistic if fall is None else np.maximum(rise.statistic, fall.statistic)
        first = first_marked(statistic >= 1.0)
        last = first if first >= 0 else len(values) - 1
        calm = int(last_marked(statistic[: last + 1] < min(self._warning, 1.0))[-1])
        if calm >= 0:
            body.calm = body.count + calm + 1
        body.rise = rise.side(last)
        if fall is not None:
            body.fall = fall.side(last)
        decayed_many(body.decay, values[: last + 1], self._weight)
        body.count += last + 1
        return Progress(last + 1, self._level())

    def verdict(self) -> Verdict:
        """Say the level. The change is put where the warning began; `mean` is the weighted mean."""
        body, level = self.body, self._level()
        return Verdict(
            level=level,
            statistic=self._statistic(),
            threshold=1.0,
            sample_count=body.count,
            change_point=body.calm if level is not Level.STABLE else None,
            mean=body.decay.mean if body.count else None,
        )

    def _statistic(self) -> float:
        return max(self.body.rise.statistic, self.body.fall.statistic)

    def _level(self) -> Level:
        statistic = self._statistic()
        return Level.DRIFT if statistic >= 1.0 else Level.WARNING if statistic >= self._warning else Level.STABLE

    def _start(self, value: float) -> None:
        """Let the mean begin at the first value."""
        if not self.body.count:
            self.body.decay.anchor = value

    def _judge(self, side: Side, sign: float, value: float, mean: float) -> None:
        tables, count = self._tables, self.body.count
        edge = sign * mean + tables.bound_list[min(count, self._last)]
        if not side.count or edge < side.edge:
            side.count, side.mean, side.edge, side.first, side.statistic = count, mean, edge, 0.0, 0.0
            return
        later = count - side.count
        if later == 1:
            side.first = value
        second = mean + tables.power_list[min(later, self._last)] * (side.first - side.mean)
        squares = tables.square_list[min(side.count, self._last)] + tables.square_list[min(later, self._last)]
        side.statistic = sign * (second - side.mean) / math.sqrt(squares * self._factor)

    def _judge_column(self, side: Side, sign: float, values: Values, means: Values) -> "_Column":
        """Give the side at every value: `_judge` bit for bit."""
        tables, body = self._tables, self.body
        counts = body.count + np.arange(1, len(values) + 1)
        edges = sign * means + tables.bounds[np.minimum(counts, self._last)]
        known = side.edge if side.count else math.inf
        new = edges < np.minimum.accumulate(np.concatenate(([known], edges)))[:-1]
        at = last_marked(new)
        within = at >= 0
        cuts = np.where(within, counts[at], side.count)
        cut_means = np.where(within, means[at], side.mean)
        begun = side.first if side.count < body.count else float(values[0])
        firsts = np.where(within, values[np.minimum(at + 1, len(values) - 1)], begun)
        later = np.minimum(counts - cuts, self._last)
        second = means + tables.powers[later] * (firsts - cut_means)
        squares = tables.squares[np.minimum(cuts, self._last)] + tables.squares[later]
        statistic = np.where(new, 0.0, sign * (second - cut_means) / np.sqrt(squares * self._factor))
        return _Column(cuts, cut_means, np.where(within, edges[at], side.edge), firsts, statistic, counts)


class _Column(NamedTuple):
    """One side at every value of a column."""

    cuts: Indices
    means: Values
    edges: Values
    firsts: Values
    statistic: Values
    counts: Indices

    def side(self, index: int) -> Side:
        """Give the side as it is behind one value. Right at a cut there is no first value of what follows yet."""
        cut = int(self.cuts[index])
        first = float(self.firsts[index]) if cut < int(self.counts[index]) else 0.0
        return Side(cut, float(self.means[index]), float(self.edges[index]), first, float(self.statistic[index]))


class HDDMW(Incremental):
    """Compares weighted means of a stream in [0, 1]: of its first part, and of what came since.

    Values are weighted by `weight` (1 - `weight`)^age. The first part ends where mean + bound was smallest, the bound
    being sqrt(ln(1/a) sum v^2 / 2) for weights v, a = `drift_confidence`. A rise is a drift when the mean since
    exceeds the first mean by sqrt((sum v1^2 + sum v2^2) ln(1/a) / 2); the statistic is the ratio of the two sides, the
    threshold 1. `two_sided` watches for a fall as well. a holds per step, not per run.

    MOA, river and frouros count the weights one step ahead (a first value's squared weight is 1, they say 1 - 2w +
    2w^2), so that their bound is up to 5 % too tight; here it is the paper's.

    State: a dozen numbers.
    """

    name: ClassVar[str] = "hddm_w"
    domain: ClassVar[Domain] = "unit"

    def __init__(
        self,
        *,
        drift_confidence: Probability = 0.0001,
        warning_confidence: Probability = 0.005,
        weight: Annotated[float, msgspec.Meta(ge=0.001, le=0.9)] = 0.01,
        two_sided: bool = False,
    ) -> None:
        given = {
            "drift_confidence": drift_confidence,
            "warning_confidence": warning_confidence,
            "weight": weight,
            "two_sided": two_sided,
        }
        self._begin(checked(HDDMW, given))

    def _rule_for(self, parameters: dict[str, Any]) -> Rule:
        return WeightedRule(parameters)
