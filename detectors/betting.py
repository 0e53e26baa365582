"""A bettor against "the risk is at most eps": alarm when the wealth shows that it is more.

Waudby-Smith and Ramdas, arXiv 2010.09686; as a monitor of harmful shifts Podkopaev and Ramdas, arXiv 2110.06177. The
wealth is multiplied by 1 + lam_t (x_t - eps), where the stake only looks back:

    lam_t = clip((mu - eps) / (s2 + (mu - eps)^2), 0, 1 / (2 eps)).

With E x <= eps the wealth is a supermartingale, so the probability that it *ever* reaches 1 / `false_alarm_probability`
is at most `false_alarm_probability` (Ville). eps is the upper bound of the reference's mean loss plus the tolerance;
the bound may fail with the same probability.

Losses that depend on those before them break the condition. Where the reference shows dependence V
(`detectors.dependence`), stakes are divided by V and increments multiplied by exp(-(V - 1) lam^2 eps (1 - eps) / 2), as
those of `e_sr`. That is at most 1, so that nothing of the guarantee is lost; for dependent losses it approximates one.

mu and s2 are those of the last one to two `memory` losses: any stake that looks back keeps the guarantee, and one that
forgets notices a late change. While mu is below eps nothing is staked and nothing is lost.
"""

from math import log
from typing import Annotated, Any, ClassVar, Final

import msgspec
import numpy as np

from detectors.columns import accumulated, column
from detectors.e_detector import ReferenceSize, Tolerance
from detectors.excursion import Excursion
from detectors.loss_reference import LossReference, ReferenceSums
from detectors.parameters import Probability, checked
from detectors.protocol import Domain, Level, Progress, State, Values, Verdict
from detectors.sealing import opened_body, opened_parameters, sealed
from detectors.special import Floats

_SMALLEST_LIMIT: Final = 1e-3  # eps = 0 would allow infinite stakes
_WARNING_SHARE: Final = 0.5  # a warning at half the logarithm: wealth 10 of 100


class _Moments(msgspec.Struct, forbid_unknown_fields=True):
    """Sums over the current stretch of `memory` losses, and over the one before it."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    before_count: int = 0
    before_total: float = 0.0
    before_squares: float = 0.0


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    reference: ReferenceSums
    moments: _Moments
    excursion: Excursion
    log_wealth: float = 0.0
    limit: float | None = None


class Betting:
    """The betting test of the risk. The statistic is the logarithm of the wealth."""

    name: ClassVar[str] = "betting"
    domain: ClassVar[Domain] = "unit"

    def __init__(
        self,
        *,
        false_alarm_probability: Probability = 0.01,
        tolerance: Tolerance = 0.0,
        reference_size: ReferenceSize = 500,
        memory: Annotated[int, msgspec.Meta(ge=10, le=100_000)] = 200,
    ) -> None:
        """Set up. The first `reference_size` losses are the reference."""
        parameters = {
            "false_alarm_probability": false_alarm_probability,
            "tolerance": tolerance,
            "reference_size": reference_size,
            "memory": memory,
        }
        self._configure(checked(Betting, parameters))
        self.reset()

    def _configure(self, parameters: dict[str, Any]) -> None:
        self._parameters = parameters
        self._doubt: float = parameters["false_alarm_probability"]
        self._log_threshold = log(1.0 / self._doubt)
        self._memory: int = parameters["memory"]

    def reset(self) -> None:
        """Become as new."""
        self._reference = LossReference(self._parameters["reference_size"], self._doubt)
        self._moments = _Moments()
        self._excursion = Excursion()
        self._log_wealth = 0.0
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
                upper = self._reference.bounds().upper + self._parameters["tolerance"]
                self._limit = min(max(upper, _SMALLEST_LIMIT), 1.0)
        inflation = self._reference.inflation if self._limit is not None else 1.0
        while self._limit is not None and taken < len(values):
            taken += self._bet(values[taken : taken + self._memory - self._moments.count], self._limit, inflation)
            if self._level() is Level.DRIFT:
                break
        return Progress(taken, self._level())

    def verdict(self) -> Verdict:
        """Say level, statistic and threshold: logarithms of the wealth and of 1 / `false_alarm_probability`."""
        level = self._level()
        moved = level is not Level.STABLE
        return Verdict(
            level=level,
            statistic=self._log_wealth,
            threshold=self._log_threshold,
            sample_count=self._reference.count + self._excursion.count,
            change_point=self._reference.count + self._excursion.begin if moved else None,
            p_value=min(1.0, float(np.exp(-self._log_wealth))),
            mean=self._excursion.mean_since if moved else None,
        )

    def snapshot(self) -> State:
        """Give parameters and state."""
        body = _Body(self._reference.state, self._moments, self._excursion, self._log_wealth, self._limit)
        return sealed(self.name, self._parameters, body)

    def restore(self, state: State) -> None:
        """Take over a snapshot. Raises StateError when it is another detector's, a newer version's, or damaged."""
        parameters = opened_parameters(state, Betting, self.name)
        body = opened_body(state, self.name, _Body)
        self._configure(parameters)
        self._reference = LossReference(parameters["reference_size"], self._doubt, body.reference)
        self._moments, self._excursion = body.moments, body.excursion
        self._log_wealth, self._limit = body.log_wealth, body.limit

    def _level(self) -> Level:
        if self._log_wealth >= self._log_threshold:
            return Level.DRIFT
        return Level.WARNING if self._log_wealth >= _WARNING_SHARE * self._log_threshold else Level.STABLE

    def _bet(self, x: Floats, limit: float, inflation: float) -> int:
        """Bet on values of one stretch; give how many were taken."""
        moments = self._moments
        totals, squares = accumulated(moments.total, x), accumulated(moments.squares, x * x)
        stakes = self._stakes(totals[:-1], squares[:-1], limit) / inflation
        careful = 0.5 * (inflation - 1.0) * limit * (1.0 - limit)
        wealth = accumulated(self._log_wealth, np.log1p(stakes * (x - limit)) - careful * stakes * stakes)
        reached = np.flatnonzero(wealth[1:] >= self._log_threshold)
        taken = int(reached[0]) + 1 if reached.size else len(x)
        self._excursion.advance(x[:taken], limit)
        self._log_wealth = float(wealth[taken])
        moments.count += taken
        moments.total, moments.squares = float(totals[taken]), float(squares[taken])
        if moments.count == self._memory:
            self._moments = _Moments(
                before_count=moments.count, before_total=moments.total, before_squares=moments.squares
            )
        return taken

    def _stakes(self, totals: Floats, squares: Floats, limit: float) -> Floats:
        """Give the stake on each value from the sums before it. One value of mean eps is added as a prior."""
        moments = self._moments
        counts = moments.before_count + moments.count + np.arange(len(totals), dtype=np.float64)
        mean = (limit + moments.before_total + totals) / (counts + 1.0)
        mean_square = (limit + moments.before_squares + squares) / (counts + 1.0)
        lead = mean - limit
        variance = np.maximum(mean_square - mean * mean, 1e-6)
        return np.clip(lead / (variance + lead * lead), 0.0, 1.0 / (2.0 * limit))
