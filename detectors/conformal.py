"""A conformal test martingale with a guaranteed run length, for any numbers: scores, features, predictions.

Vovk, Petej, Nouretdinov, Ahlberg, Carlsson and Gammerman, "Retrain or not retrain: conformal test martingales for
change-point detection" (COPA 2021). While values are exchangeable, the smoothed rank of each among those so far,

    p_t = (number greater + U_t * number equal) / t   (itself included),

is uniform and independent of the ranks before it. The simple jumper bets on the p-values: three stakes for
e = -1, 0, 1 of which a share J is mixed at each value, each multiplied by 1 + e (p - 1/2). The increments L_t of its
capital have expectation 1, so M = (1 + M) L_t is an e-detector (arXiv 2203.03532): the mean number of values to a
false alarm is at least `expected_events_between_false_alarms`, with no assumption on the distribution and
none about a reference.

A stream whose values depend on those before them is not exchangeable: its ranks wander, and the jumper would follow
them. So where the reference shows dependence V (`detectors.dependence`, of the ranks that its values have in it),
the bets are e / V, each increment times exp(-(V - 1) (e / V)^2 / 24): the sum of V-fold dependent p - 1/2, of variance
V / 12 a value, then gains no more on average than independent ones do. For exchangeable values all increments keep an
expectation of at most 1 and the theorem holds; for dependent ones this is an approximation, whose run lengths
`docs/detection-quality.md` has.

In bounded memory: values are ranked by their bin between quantiles of the first `reference_size` values, which only
set the edges; a rank among bins with ties broken at random is as exactly uniform as one among values. The U_t are
hashes of seed and index, so that they do not depend on how the stream was cut.
"""

from math import exp, log
from typing import Annotated, Any, ClassVar, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.columns import column
from detectors.dependence import Dependence
from detectors.e_detector import WARNING_FACTOR, ExpectedEvents
from detectors.histogram import quantile_edges
from detectors.parameters import Probability, checked
from detectors.protocol import Domain, Level, Progress, State, StateError, Values, Verdict
from detectors.sealing import opened_body, opened_parameters, sealed
from detectors.special import Floats

_SPAN: Final = 256  # values ranked at once: 256 rows of at most 101 counts stay in the cache
_CAP: Final = 1e30  # of both processes, far above any threshold, so that they stay doubles


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    """`reference` holds the first values, then `edges` the quantiles and `counts` the values since in each bin."""

    reference: list[float] = []
    edges: list[float] = []
    counts: list[int] = []
    inflation: Annotated[float, msgspec.Meta(ge=1.0)] = 1.0
    stakes: tuple[float, float, float] = (1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0)
    evidence: float = 0.0
    excursion: float = 0.0
    begin: int = 0
    """How many values came before the CUSUM of the increments last began."""
    count: int = 0


class Conformal:
    """The simple jumper over ranks, as a Shiryaev-Roberts e-detector. The statistic is the logarithm of M.

    It sees values that become larger or smaller. A spread that grows around the same middle leaves the mean rank where
    it is and is not seen: `FeatureDriftTest` has ways for that.

    State: `reference_size` numbers while it learns, then at most 2 * `n_bins` numbers.
    """

    name: ClassVar[str] = "conformal"
    domain: ClassVar[Domain] = "real"

    def __init__(
        self,
        *,
        expected_events_between_false_alarms: ExpectedEvents = 50_000.0,
        reference_size: Annotated[int, msgspec.Meta(ge=10, le=10_000)] = 500,
        n_bins: Annotated[int, msgspec.Meta(ge=2, le=100)] = 50,
        jump: Probability = 0.01,
        seed: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0,
    ) -> None:
        """Set up. `jump` is the share of the capital that changes sides at each value."""
        parameters = {
            "expected_events_between_false_alarms": expected_events_between_false_alarms,
            "reference_size": reference_size,
            "n_bins": n_bins,
            "jump": jump,
            "seed": seed,
        }
        self._configure(checked(Conformal, parameters))
        self.reset()

    def _configure(self, parameters: dict[str, Any]) -> None:
        self._parameters = parameters
        self._log_threshold = log(parameters["expected_events_between_false_alarms"])
        self._size: int = parameters["reference_size"]

    def reset(self) -> None:
        """Become as new."""
        self._body = _Body()
        self._load()

    def rebase(self) -> None:
        """Rank what follows among itself alone."""
        self.reset()

    def update(self, value: float) -> Level:
        """Take one number and say the level after it."""
        return self.update_many(np.array([value], dtype=np.float64)).level

    def update_many(self, values: Values | list[float]) -> Progress:
        """Take numbers, shape (n,), stopping behind the first that drifts."""
        values = column(values, self.domain)
        taken = self._learn(values)
        while taken < len(values):
            taken += self._judge(values[taken : taken + _SPAN])
            if self._level() is Level.DRIFT:
                break
        return Progress(taken, self._level())

    def verdict(self) -> Verdict:
        """Say level, statistic and threshold: logarithms of the evidence and of the expected events."""
        level = self._level()
        learnt = min(self._body.count, self._size)
        return Verdict(
            level=level,
            statistic=self._statistic(),
            threshold=self._log_threshold,
            sample_count=self._body.count,
            change_point=learnt + self._body.begin if level is not Level.STABLE else None,
        )

    def snapshot(self) -> State:
        """Give parameters and state."""
        body = msgspec.structs.replace(self._body, counts=self._counts.tolist())
        return sealed(self.name, self._parameters, body)

    def restore(self, state: State) -> None:
        """Take over a snapshot. Raises StateError when it is another detector's, a newer version's, or damaged."""
        parameters = opened_parameters(state, Conformal, self.name)
        body = opened_body(state, self.name, _Body)
        whole = body.count >= parameters["reference_size"]
        if whole != bool(body.counts) or (whole and len(body.counts) != len(body.edges) + 1):
            raise StateError("the snapshot of conformal is damaged: its edges, counts and count do not fit")
        self._configure(parameters)
        self._body = body
        self._load()

    def _load(self) -> None:
        self._edges: Floats = np.array(self._body.edges, dtype=np.float64)
        self._counts: NDArray[np.int64] = np.array(self._body.counts, dtype=np.int64)

    def _statistic(self) -> float:
        return log(self._body.evidence) if self._body.evidence > 0.0 else 0.0

    def _level(self) -> Level:
        statistic = self._statistic()
        if statistic >= self._log_threshold:
            return Level.DRIFT
        return Level.WARNING if statistic >= max(self._log_threshold - log(WARNING_FACTOR), 1e-9) else Level.STABLE

    def _learn(self, values: Values) -> int:
        """Take values for the edges until there are enough; give how many."""
        body = self._body
        taken = values[: max(self._size - body.count, 0)]
        body.reference.extend(taken.tolist())
        body.count += len(taken)
        if body.count == self._size and not body.counts:
            reference = np.array(body.reference)
            edges = quantile_edges(np.sort(reference), self._parameters["n_bins"])
            body.inflation = _inflation(edges.searchsorted(reference))
            body.reference, body.edges = [], edges.tolist()
            body.counts = [0] * (len(edges) + 1)
            self._load()
        return len(taken)

    def _judge(self, values: Values) -> int:
        """Rank values and bet on the ranks; give how many were taken, the last of which may drift."""
        index = self._edges.searchsorted(values)
        taken = self._bet(self._p_values(index).tolist())
        self._counts += np.bincount(index[:taken], minlength=len(self._counts))
        return taken

    def _p_values(self, index: NDArray[np.int64]) -> Floats:
        rows = np.arange(len(index))
        own = np.zeros((len(index), len(self._counts)), dtype=np.int64)
        own[rows, index] = 1
        before = np.cumsum(own, axis=0) - own + self._counts
        at_least = np.cumsum(before[:, ::-1], axis=1)[:, ::-1][rows, index]
        equal = before[rows, index]
        judged = self._body.count - self._size
        ties = uniforms(self._parameters["seed"], judged, len(index))
        greater = at_least - equal
        return np.asarray((greater + ties * (equal + 1)) / (judged + rows + 1.0), dtype=np.float64)

    def _bet(self, p_values: list[float]) -> int:
        body, jump = self._body, self._parameters["jump"]
        size = 1.0 / body.inflation
        careful = exp(-(body.inflation - 1.0) * size * size / 24.0)
        down, flat, up = body.stakes
        evidence, excursion, begin = body.evidence, body.excursion, body.begin
        judged, taken = body.count - self._size, 0
        for taken, p in enumerate(p_values, start=1):
            lean = size * (p - 0.5)
            down = ((1.0 - jump) * down + jump / 3.0) * (1.0 - lean) * careful
            flat = (1.0 - jump) * flat + jump / 3.0
            up = ((1.0 - jump) * up + jump / 3.0) * (1.0 + lean) * careful
            growth = down + flat + up
            down, flat, up = down / growth, flat / growth, up / growth
            evidence = min((1.0 + evidence) * growth, _CAP)
            if excursion <= 1.0:
                excursion, begin = 1.0, judged + taken - 1
            excursion = min(excursion * growth, _CAP)
            if log(evidence) >= self._log_threshold:
                break
        body.stakes, body.evidence, body.excursion, body.begin = (down, flat, up), evidence, excursion, begin
        body.count += taken
        return taken


def _inflation(index: NDArray[np.int64]) -> float:
    """Give by how much dependence raises the variance of the mean rank, from the bins of the reference.

    Ties broken at random hide a part of it: of zeros and ones most. That part is not taken off, since clusters of rare
    values have longer tails than their variance says.
    """
    counts = np.bincount(index)
    middles = (np.cumsum(counts) - 0.5 * counts) / len(index)
    sums = Dependence()
    sums.take(middles[index])
    return sums.inflation


def uniforms(seed: int, start: int, count: int) -> Floats:
    """Give numbers in (0, 1) for the indices start .. start + count - 1: splitmix64 of seed and index (Steele 2014)."""
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is the point
        z = np.uint64(seed) + (np.arange(start + 1, start + count + 1, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    # 53 bits, and half a step from both ends.
    return ((z >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
