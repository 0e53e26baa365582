"""EDDM, the early drift detection method: errors that come closer together than they ever did.

Baena-Garcia, del Campo-Avila, Fidalgo, Bifet, Gavalda and Morales-Bueno, "Early drift detection method", 2006.
"""

import math
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import numpy as np

from detectors.columns import accumulated, first_marked, last_marked
from detectors.incremental import Incremental, Rule
from detectors.parameters import Positive, Probability, checked
from detectors.protocol import Domain, Level, Progress, Values, Verdict

WARNING = 0.75
"""The share of a drift by chance alone at which EDDM warns."""


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """Exact counts: the distances between errors sum up to the place of the last one."""

    count: int = 0
    errors: int = 0
    last_error: int = 0
    squares: float = 0.0
    """The sum of the squared distances."""
    widest: float = 0.0
    """The largest mean + 2 deviations of the distances."""
    widest_errors: int = 0
    calm: int = 0
    """The count at which an error last left the level stable."""
    statistic: float = 0.0
    threshold: float = 1.0
    level: Level = Level.STABLE


class DistanceRule:
    """The rule of `EDDM`. Only errors change anything but the count, so a column is judged at its errors."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.body = Body()
        self._warm_start: int = parameters["warm_start"]
        self._warning = 1.0 - parameters["alpha"]
        self._drift = 1.0 - parameters["beta"]
        self._noise: float = 0.0 if parameters["compat"] == "river" else parameters["noise_level"]
        self._is_river: bool = parameters["compat"] == "river"
        self.body.threshold = self._drift

    def scan(self, values: list[float]) -> Progress:
        """Take values one after the other, up to the first that drifts."""
        body = self.body
        for index, value in enumerate(values):
            body.count += 1
            if value == 1.0:
                self._judge()
            if body.level is Level.DRIFT:
                return Progress(index + 1, Level.DRIFT)
        return Progress(len(values), body.level)

    def block(self, values: Values) -> Progress:
        """Do the same with columns."""
        body = self.body
        if body.level is Level.DRIFT:
            return self.scan(values.tolist())
        places = np.flatnonzero(values) + 1
        if len(places):
            drift = self._judge_column((body.count + places).astype(np.float64))
            if drift >= 0:
                taken = int(places[drift])
                body.count += taken
                return Progress(taken, Level.DRIFT)
        body.count += len(values)
        return Progress(len(values), body.level)

    def verdict(self) -> Verdict:
        """Say the level. The change is put where the warning began; `mean` is the error rate so far."""
        body = self.body
        return Verdict(
            level=body.level,
            statistic=body.statistic,
            threshold=body.threshold,
            sample_count=body.count,
            change_point=body.calm if body.level is not Level.STABLE else None,
            mean=body.errors / body.count if body.count else None,
        )

    def _judge(self) -> None:
        """Take the error at the present count."""
        body = self.body
        distance = float(body.count - body.last_error)
        body.errors += 1
        body.squares += distance * distance
        body.last_error = body.count
        if not self._is_counted(body.count, body.errors):
            return
        width = _width(float(body.errors), float(body.count), body.squares)
        if width > body.widest:
            body.widest, body.widest_errors = width, body.errors
            if not self._is_river:
                self._set(0.0, self._drift, self._warning)
        elif body.errors > self._warm_start:
            chance = self._noise * math.sqrt(1.0 / body.widest_errors - 1.0 / body.errors)
            self._set(1.0 - width / body.widest, max(self._drift, chance), max(self._warning, WARNING * chance))

    def _is_counted(self, count: int, errors: int) -> bool:
        """Say whether distances are many enough to be the widest: river asks for values, we ask for errors."""
        return (count if self._is_river else errors) > self._warm_start

    def _set(self, statistic: float, threshold: float, warning: float) -> None:
        body = self.body
        body.statistic, body.threshold = statistic, threshold
        body.level = Level.DRIFT if statistic >= threshold else Level.WARNING if statistic >= warning else Level.STABLE
        if body.level is Level.STABLE:
            body.calm = body.last_error

    def _judge_column(self, places: Values) -> int:
        """Take errors at these counts up to the first that drifts; give its index, or -1."""
        body = self.body
        errors = body.errors + np.arange(1.0, len(places) + 1.0)
        distances = np.diff(places, prepend=float(body.last_error))
        squares = accumulated(body.squares, distances * distances)[1:]
        counted = (places if self._is_river else errors) > self._warm_start
        widths = np.where(counted, _widths(errors, places, squares), 0.0)
        new = widths > np.maximum.accumulate(np.concatenate(([body.widest], widths)))[:-1]
        at = last_marked(new)
        widest = np.where(at >= 0, widths[at], body.widest)
        widest_errors = np.where(at >= 0, errors[at], float(body.widest_errors))
        compared = counted & ~new & (errors > self._warm_start)
        statistic = np.where(compared, 1.0 - widths / np.where(compared, widest, 1.0), 0.0)
        inverse = 1.0 / np.where(compared, widest_errors, 1.0) - 1.0 / np.where(compared, errors, 1.0)
        chance = np.where(compared, self._noise * np.sqrt(inverse), 0.0)
        limits = np.maximum(self._drift, chance)
        warnings = np.minimum(np.maximum(self._warning, WARNING * chance), limits)
        drift = first_marked(compared & (statistic >= limits))
        last = drift if drift >= 0 else len(places) - 1
        body.errors, body.last_error, body.squares = int(errors[last]), int(places[last]), float(squares[last])
        if at[last] >= 0:
            body.widest, body.widest_errors = float(widest[last]), int(widest_errors[last])
        # A new widest distance says stable, but not to river, whose warning stands until the next comparison.
        says = (compared if self._is_river else compared | new)[: last + 1]
        said, calm = int(last_marked(says)[-1]), int(last_marked(says & (statistic < warnings)[: last + 1])[-1])
        if said >= 0:
            self._set(float(statistic[said]), float(limits[said]), float(warnings[said]))
        if calm >= 0:
            body.calm = int(places[calm])
        return drift


class EDDM(Incremental):
    """Compares the distances between errors with the widest they have been.

    With w = mean + 2 standard deviations of all distances since the reset, and w_max its largest value so far, the
    statistic is 1 - w / w_max. The paper calls a loss of 1 - `beta` a drift. But w itself is noisy: for errors at
    random its relative deviation after m errors is at most 1.2 / sqrt(m) (1/sqrt(m) from the mean, 2 sqrt(2) / sqrt(m)
    from twice the deviation, in thirds), so that a maximum at 30 errors stands 20 % too high, and the paper's rule
    alarms in 95 % of stable streams. Here the threshold is the larger of 1 - `beta` and `noise_level` sqrt(1/m_max -
    1/m), the chance difference of two nested estimates, and the maximum counts from `warm_start` errors on.

    With `compat="river"` the rule is the paper's as river 0.26 computes it (but for ties within rounding: distances are
    summed exactly here). `warm_start` is 60 errors unless given; with `compat="river"` it is river's 30 values.

    State: ten numbers.
    """

    name: ClassVar[str] = "eddm"
    domain: ClassVar[Domain] = "bernoulli"

    def __init__(
        self,
        *,
        warm_start: Annotated[int, msgspec.Meta(ge=2, le=1_000_000)] | None = None,
        alpha: Probability = 0.95,
        beta: Probability = 0.9,
        noise_level: Positive = 2.5,
        compat: Literal["river"] | None = None,
    ) -> None:
        given = {
            "warm_start": (30 if compat == "river" else 60) if warm_start is None else warm_start,
            "alpha": alpha,
            "beta": beta,
            "noise_level": noise_level,
            "compat": compat,
        }
        parameters = checked(EDDM, given)
        if parameters["alpha"] < parameters["beta"]:
            raise ValueError(f"$.alpha: expected a number of at least beta, {beta}, got {alpha}")
        self._begin(parameters)

    def _rule_for(self, parameters: dict[str, Any]) -> Rule:
        return DistanceRule(parameters)


def _width(errors: float, total: float, squares: float) -> float:
    """Give mean + 2 standard deviations of distances from their number, sum and sum of squares."""
    spread = max(errors * squares - total * total, 0.0) / (errors * max(errors - 1.0, 1.0))
    return total / errors + 2.0 * math.sqrt(spread)


def _widths(errors: Values, totals: Values, squares: Values) -> Values:
    """Give `_width` of columns, bit for bit."""
    spread = np.maximum(errors * squares - totals * totals, 0.0) / (errors * np.maximum(errors - 1.0, 1.0))
    return np.asarray(totals / errors + 2.0 * np.sqrt(spread))
