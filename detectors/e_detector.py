"""e-SR and e-CUSUM: change detectors of a loss in [0, 1] with a guaranteed run length.

Shin, Ramdas and Rinaldo, "E-detectors" (arXiv 2203.03532). The null is "the mean loss is at most p0", where p0 is an
upper confidence bound of the reference window's mean plus a tolerance: harmful changes only. A bet on the alternative
p1 multiplies its evidence by 1 + lam (x / p0 - 1), expectation at most 1 under the null for any values in [0, 1],
independent or not; with lam = (p1 - p0) / (1 - p0) that is the likelihood ratio of Bernoulli losses. The bets are
averaged, and the alarm is at `expected_events_between_false_alarms`. Where the reference's bound holds (with
probability `reference_confidence`), the mean number of values to a false alarm is at least that.

Stakes may be chosen freely, so losses other than 0 and 1 take theirs from the reference's variance: a loss that wanders
little shows a small change sooner.

>>> detector = ESR(reference_count=10_000, reference_mean=0.1)
>>> stream = np.array([0.0] * 900 + [1.0] * 100)
>>> detector.update_many(stream)
Progress(consumed=908, level=<Level.DRIFT: 2>)
>>> detector.verdict().change_point
900
"""

from math import log
from typing import Annotated, Any, ClassVar, Final

import msgspec
import numpy as np

from detectors.columns import column
from detectors.e_mixture import Bets, EMixture, MixtureState
from detectors.loss_reference import LossBounds, LossReference, ReferenceSums, given_bounds
from detectors.parameters import Probability, checked
from detectors.protocol import Domain, Level, Progress, State, Values, Verdict
from detectors.sealing import opened_body, opened_parameters, sealed

ExpectedEvents = Annotated[float, msgspec.Meta(ge=2.0, le=1e12)]
Tolerance = Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)]
ReferenceSize = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
ReferenceCount = Annotated[int, msgspec.Meta(ge=1, le=10**15)]
Mean = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Variance = Annotated[float, msgspec.Meta(ge=0.0, le=0.25)]

SHIFTS: Final = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Alternatives p0 + shift for 0/1 losses: from a change that takes thousands of values to one that takes ten."""
DEVIATIONS: Final = (0.07, 0.17, 0.33, 0.67, 1.33)
"""The same in standard deviations, for other losses: SHIFTS over the .3 of a Bernoulli(.1) loss."""
WARNING_FACTOR: Final = 10.0
"""A warning is an alarm at a tenth of the expected events between false ones."""
_SMALLEST_NULL: Final = 1e-3  # below it one value's increment is above 400, and blocks become short
_LARGEST_STAKE: Final = 0.9  # below 1, so that no single value destroys the evidence


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    """`null` and `mixture` are there once the reference is whole."""

    reference: ReferenceSums
    null: float | None = None
    mixture: MixtureState | None = None


class _EDetector:
    """What both have in common; they differ in the process that is averaged."""

    name: ClassVar[str]
    domain: ClassVar[Domain] = "unit"
    _shiryaev: ClassVar[bool]

    def __init__(
        self,
        *,
        expected_events_between_false_alarms: ExpectedEvents = 50_000.0,
        tolerance: Tolerance = 0.0,
        reference_size: ReferenceSize = 500,
        reference_confidence: Probability = 0.95,
        reference_count: ReferenceCount | None = None,
        reference_mean: Mean | None = None,
        reference_variance: Variance | None = None,
        two_sided: bool = False,
    ) -> None:
        """Set up. The first `reference_size` values are the reference unless one is given as count and mean.

        A given reference is of 0/1 losses unless `reference_variance` is given too. `tolerance` is a rise of the mean
        loss that is not drift. `two_sided` watches falls too, at the same budget. Raises ValueError for a parameter
        out of range.
        """
        parameters = {
            "expected_events_between_false_alarms": expected_events_between_false_alarms,
            "tolerance": tolerance,
            "reference_size": reference_size,
            "reference_confidence": reference_confidence,
            "reference_count": reference_count,
            "reference_mean": reference_mean,
            "reference_variance": reference_variance,
            "two_sided": two_sided,
        }
        self._configure(checked(_EDetector, parameters))
        self.reset()

    def _configure(self, parameters: dict[str, Any]) -> None:
        self._parameters = parameters
        self._log_threshold = log(parameters["expected_events_between_false_alarms"])
        self._tolerance: float = parameters["tolerance"]
        self._two_sided: bool = parameters["two_sided"]
        if (parameters["reference_count"] is None) != (parameters["reference_mean"] is None):
            raise ValueError("$.reference_mean: expected both of reference_count and reference_mean or neither")

    def reset(self) -> None:
        """Become as new."""
        self.rebase()
        count, mean = self._parameters["reference_count"], self._parameters["reference_mean"]
        if count is not None:
            self._open(given_bounds(count, mean, self._parameters["reference_variance"], self._doubt))

    def rebase(self) -> None:
        """Learn the reference anew from what follows, also where one was given: the level has changed."""
        self._reference = LossReference(self._parameters["reference_size"], self._doubt)
        self._null: float | None = None
        self._mixture: EMixture | None = None

    def update(self, value: float) -> Level:
        """Take one loss in [0, 1] and say the level after it."""
        return self.update_many(np.array([value], dtype=np.float64)).level

    def update_many(self, values: Values) -> Progress:
        """Take losses in [0, 1], shape (n,), stopping behind the first that drifts."""
        values = column(values, self.domain)
        taken = 0
        if self._mixture is None:
            taken = self._reference.learn(values)
            if self._reference.whole:
                self._open(self._reference.bounds())
        if self._mixture is not None:
            taken += self._mixture.advance(values[taken:])[0]
        return Progress(taken, self._level(self._statistic))

    def verdict(self) -> Verdict:
        """Say level, statistic and threshold: logarithms of the averaged evidence and the expected events."""
        statistic = self._statistic
        level = self._level(statistic)
        change_point, mean, judged = None, None, 0
        if self._mixture is not None:
            judged = self._mixture.state.count
            if level is not Level.STABLE:
                before, mean = self._mixture.change()
                change_point = self._reference.count + before
        count = self._reference.count + judged
        return Verdict(level, statistic, self._log_threshold, count, change_point, mean=mean)

    @property
    def null_mean(self) -> float | None:
        """The largest mean loss that is not drift, tolerance included; None while the reference is learnt."""
        return self._null

    def snapshot(self) -> State:
        """Give parameters and state."""
        mixture = self._mixture.state if self._mixture is not None else None
        return sealed(self.name, self._parameters, _Body(self._reference.state, self._null, mixture))

    def restore(self, state: State) -> None:
        """Take over a snapshot. Raises StateError when it is another detector's, a newer version's, or damaged."""
        parameters = opened_parameters(state, _EDetector, self.name)
        body = opened_body(state, self.name, _Body)
        mixture = None
        if body.mixture is not None:
            log_threshold = log(parameters["expected_events_between_false_alarms"])
            mixture = EMixture(body.mixture, log_threshold, shiryaev=self._shiryaev)
        self._configure(parameters)
        self._reference = LossReference(parameters["reference_size"], self._doubt, body.reference)
        self._null, self._mixture = body.null, mixture

    @property
    def _statistic(self) -> float:
        """The logarithm of the averaged evidence; 0 before the first value that is judged."""
        return self._mixture.statistic if self._mixture is not None and self._mixture.state.count else 0.0

    @property
    def _doubt(self) -> float:
        """How often a bound of the reference may fail on one side."""
        doubt: float = 1.0 - self._parameters["reference_confidence"]
        return doubt / 2.0 if self._two_sided else doubt

    def _level(self, statistic: float) -> Level:
        if self._mixture is None or not self._mixture.state.count:
            return Level.STABLE
        if statistic >= self._log_threshold:
            return Level.DRIFT
        return Level.WARNING if statistic >= self._log_threshold - log(WARNING_FACTOR) else Level.STABLE

    def _open(self, bounds: LossBounds) -> None:
        """Begin to bet against the mean being at most the upper bound (and at least the lower, if two-sided)."""
        self._null = _null(bounds.upper + self._tolerance)
        lines = _rises(self._null, bounds)
        if self._two_sided:
            # A fall of x is a rise of 1 - x, whose increment a + b (1 - x) is a + b - b x.
            falls = _rises(_null(1.0 - bounds.lower + self._tolerance), bounds)
            lines += [(offset + slope, -slope) for offset, slope in falls]
        bets = Bets(tuple(offset for offset, _ in lines), tuple(slope for _, slope in lines))
        self._mixture = EMixture(MixtureState.new(bets), self._log_threshold, shiryaev=self._shiryaev)


class ESR(_EDetector):
    """The mixture of Shiryaev-Roberts e-processes, M = (1 + M) L: the default for concept drift.

    Quicker on small changes than `ECusum` at the same threshold; its run length is nearer to the nominal.
    """

    name: ClassVar[str] = "e_sr"
    _shiryaev: ClassVar[bool] = True


class ECusum(_EDetector):
    """The mixture of CUSUM e-processes, M = max(1, M) L: the same guarantee, more conservative."""

    name: ClassVar[str] = "e_cusum"
    _shiryaev: ClassVar[bool] = False


def _null(bound: float) -> float:
    """Give the null for a bound: a greater one is as valid. At 1 no value can be worse."""
    return min(max(bound, _SMALLEST_NULL), 1.0)


def _rises(null: float, bounds: LossBounds) -> list[tuple[float, float]]:
    """Give offset and slope of each bet's increment 1 + lam (x / null - 1)."""
    if null >= 1.0:
        # Nothing can be won. An increment of 1 would let M grow by one a value and reach any threshold in time.
        return [(0.5, 0.0)] * len(SHIFTS)
    return [(1.0 - stake, stake / null) for stake in _stakes(null, bounds)]


def _stakes(null: float, bounds: LossBounds) -> list[float]:
    """Give the stakes that grow fastest under each alternative."""
    if bounds.binary:
        # Likelihood ratio of Bernoulli(null + shift): lam = (p1 - p0) / (1 - p0).
        return [min(shift / (1.0 - null), _LARGEST_STAKE) for shift in SHIFTS]
    deviation = max(bounds.variance, 1e-6) ** 0.5
    shifts = [share * deviation for share in DEVIATIONS]
    # E ln(1 + lam (x / m - 1)) with mean m + shift and variance s^2 is greatest near lam = m shift / (s^2 + shift^2).
    return [min(null * shift / (deviation**2 + shift**2), _LARGEST_STAKE) for shift in shifts]
