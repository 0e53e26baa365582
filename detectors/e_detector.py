"""e-SR and e-CUSUM: change detectors of a loss in [0, 1] with a guaranteed run length.

Shin, Ramdas and Rinaldo, "E-detectors" (arXiv 2203.03532). The null is "the mean loss is at most p0", where p0 is an
upper confidence bound of the reference window's mean plus a tolerance: harmful changes only. A bet on the alternative
p1 multiplies its evidence by 1 + lam (x / p0 - 1), expectation at most 1 under the null for any values in [0, 1],
independent or not; with lam = (p1 - p0) / (1 - p0) that is the likelihood ratio of Bernoulli losses. The bets are
averaged, and the alarm is at `expected_events_between_false_alarms`. Where the reference's bound holds (with
probability `reference_confidence`), the mean number of values to a false alarm is at least that.

A reference that is learnt from 0/1 losses goes on learning while the stream is stable or becomes better
(`detectors.better_level`): harm is measured against the best that the model has been. Dependent losses, whose mean
given the past wanders about p0, break the condition of the theorem; where the reference shows dependence V
(`detectors.dependence`), its bound counts n / V values, stakes are divided by V and increments multiplied by exp(-(V -
1) lam^2 s^2 / (2 p0^2)), s^2 the variance: with that the evidence of a process whose long-run variance is V s^2 falls
as fast as it must (still of expectation at most 1 for independent losses). That is an approximation; `docs/detection-
quality.md` has measured run lengths.

Stakes may be chosen freely, so losses other than 0 and 1 take theirs from the reference's variance: a loss that wanders
little shows a small change sooner.

>>> detector = ESR(reference_count=10_000, reference_mean=0.1)
>>> stream = np.array([0.0] * 900 + [1.0] * 100)
>>> detector.update_many(stream)
Progress(consumed=908, level=<Level.DRIFT: 2>)
>>> detector.verdict().change_point
900
"""

from math import exp, log
from typing import Annotated, Any, ClassVar, Final

import msgspec
import numpy as np

from detectors.better_level import REFERENCE_SHARE, Following
from detectors.columns import SHORT, column, few, is_binary
from detectors.dependence import LARGEST
from detectors.e_mixture import Bets, EMixture, MixtureState
from detectors.loss_reference import LossBounds, LossReference, ReferenceSums, given_bounds
from detectors.parameters import Probability, checked
from detectors.protocol import Domain, Level, Progress, State, StateError, Values, Verdict
from detectors.sealing import opened_body, opened_parameters, sealed

ExpectedEvents = Annotated[float, msgspec.Meta(ge=2.0, le=1e12)]
Tolerance = Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)]
ReferenceSize = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
ReferenceCount = Annotated[int, msgspec.Meta(ge=1, le=10**15)]
Mean = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Variance = Annotated[float, msgspec.Meta(ge=0.0, le=0.25)]
Inflation = Annotated[float, msgspec.Meta(ge=1.0, le=LARGEST)]

SHIFTS: Final = (0.015, 0.03, 0.06, 0.12, 0.3)
"""Alternatives p0 + shift for 0/1 losses: from a change that takes a thousand values to one that takes ten.

p0 is a bound: of a rise from .1 to .15 it leaves .03 or less. At a matched run length of 10,000 that rise took 408
values with .02, .04, .08, .16, .32, 430 with a sixth bet at .48, and 381 with these; a jump to .5 took 30 with all.
"""
DEVIATIONS: Final = (0.05, 0.1, 0.2, 0.4, 1.0)
"""The same in standard deviations, for other losses: SHIFTS over the .3 of a Bernoulli(.1) loss."""
WARNING_FACTOR: Final = 10.0
"""A warning is an alarm at a tenth of the expected events between false ones."""
_SMALLEST_NULL: Final = 1e-3  # below it one value's increment is above 400, and blocks become short
_LARGEST_STAKE: Final = 0.9  # below 1, so that no single value destroys the evidence


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    """`null` and `mixture` are there once the reference is whole, `following` while better levels are followed."""

    reference: ReferenceSums
    null: float | None = None
    inflation: float = 1.0
    following: Following | None = None
    mixture: MixtureState | None = None
    rearmed: bool = False
    """The evidence was forgotten since the reference: samples are counted from there."""


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
        reference_size: ReferenceSize = 1_000,
        reference_confidence: Probability = 0.95,
        reference_count: ReferenceCount | None = None,
        reference_mean: Mean | None = None,
        reference_variance: Variance | None = None,
        reference_inflation: Inflation = 1.0,
        two_sided: bool = False,
    ) -> None:
        """Set up. The first `reference_size` values are the reference unless one is given as count and mean.

        A given reference is of 0/1 losses unless `reference_variance` is given too, and of independent ones unless
        `reference_inflation` says by how much dependence raises the variance of their mean. `tolerance` is a rise of
        the mean loss that is not drift. `two_sided` watches falls too, at the same budget. Raises ValueError for a
        parameter out of range.
        """
        parameters = {
            "expected_events_between_false_alarms": expected_events_between_false_alarms,
            "tolerance": tolerance,
            "reference_size": reference_size,
            "reference_confidence": reference_confidence,
            "reference_count": reference_count,
            "reference_mean": reference_mean,
            "reference_variance": reference_variance,
            "reference_inflation": reference_inflation,
            "two_sided": two_sided,
        }
        self._configure(checked(_EDetector, parameters))
        self.reset()

    def _configure(self, parameters: dict[str, Any]) -> None:
        self._parameters = parameters
        self._log_threshold = log(parameters["expected_events_between_false_alarms"])
        self._log_warning = self._log_threshold - log(WARNING_FACTOR)
        self._tolerance: float = parameters["tolerance"]
        self._two_sided: bool = parameters["two_sided"]
        if (parameters["reference_count"] is None) != (parameters["reference_mean"] is None):
            raise ValueError("$.reference_mean: expected both of reference_count and reference_mean or neither")

    def reset(self) -> None:
        """Become as new."""
        self.rebase()
        count, mean = self._parameters["reference_count"], self._parameters["reference_mean"]
        if count is not None:
            variance, inflation = self._parameters["reference_variance"], self._parameters["reference_inflation"]
            self._open(given_bounds(count, mean, variance, self._doubt, inflation))

    def rebase(self) -> None:
        """Learn the reference anew from what follows, also where one was given: the level has changed."""
        self._reference = LossReference(self._parameters["reference_size"], self._reference_doubt)
        self._null: float | None = None
        self._inflation = 1.0
        self._following: Following | None = None
        self._mixture: EMixture | None = None
        self._rearmed = False

    def rearm(self) -> None:
        """Forget the evidence of a change, and keep all that was learnt as normal: the owner has told the change.

        Samples are counted from here. Nothing happens while the reference is being learnt.
        """
        if self._mixture is not None:
            held = self._mixture.state
            bets = Bets(tuple(held.offsets), tuple(held.slopes))
            self._mixture = EMixture(MixtureState.new(bets), self._log_threshold, shiryaev=self._shiryaev)
            self._rearmed = True

    def update(self, value: float) -> Level:
        """Take one loss in [0, 1] and say the level after it."""
        return self.update_many(np.array([value], dtype=np.float64)).level

    def update_many(self, values: Values | list[float]) -> Progress:
        """Take losses in [0, 1], shape (n,), stopping behind the first that drifts."""
        if isinstance(values, list) and len(values) < SHORT and self._mixture is not None:
            values = few(values, self.domain)
        else:
            values = column(values, self.domain)
        taken = 0
        if self._mixture is None and not isinstance(values, list):
            taken = self._reference.learn(values)
            if self._reference.whole:
                self._open(self._reference.bounds())
                if self._reference.state.binary and not self._two_sided:
                    self._following = Following(self._reference.count, self._reference.dependence())
        while self._mixture is not None and taken < len(values):
            room = len(values) if self._following is None else self._following.room
            part = values[taken : taken + room] if taken or room < len(values) else values
            more, reached = self._mixture.advance(part)
            taken += more
            if self._following is not None:
                self._follow(self._following, part[:more])
            if reached:
                break
        return Progress(taken, self._level(self._statistic))

    def _follow(self, following: Following, values: Values | list[float]) -> None:
        """Look for a better level in the values behind the reference."""
        if not is_binary(values):
            self._following = None
            return
        bounds = following.take(values, self._doubt)
        if bounds is None or self._mixture is None or self._null is None:
            return
        better = min(_null(bounds.upper + self._tolerance), self._null)
        if better < self._null or bounds.inflation > self._inflation:
            self._null, self._inflation = better, max(bounds.inflation, self._inflation)
            bounds = bounds._replace(variance=better * (1.0 - better), inflation=self._inflation)
            self._mixture.rebet(_bets(_rises(better, bounds)))

    def verdict(self) -> Verdict:
        """Say level, statistic and threshold: logarithms of the averaged evidence and the expected events."""
        statistic = self._statistic
        level = self._level(statistic)
        change_point, mean, judged = None, None, 0
        learnt = 0 if self._rearmed else self._reference.count
        if self._mixture is not None:
            judged = self._mixture.state.count
            if level is not Level.STABLE:
                before, mean = self._mixture.change()
                change_point = learnt + before
        count = learnt + judged
        return Verdict(level, statistic, self._log_threshold, count, change_point, mean=mean)

    @property
    def null_mean(self) -> float | None:
        """The largest mean loss that is not drift, tolerance included; None while the reference is learnt."""
        return self._null

    def snapshot(self) -> State:
        """Give parameters and state."""
        mixture = self._mixture.state if self._mixture is not None else None
        body = _Body(self._reference.state, self._null, self._inflation, self._following, mixture, self._rearmed)
        return sealed(self.name, self._parameters, body)

    def restore(self, state: State) -> None:
        """Take over a snapshot. Raises StateError when it is another detector's, a newer version's, or damaged."""
        parameters = opened_parameters(state, _EDetector, self.name)
        body = opened_body(state, self.name, _Body)
        if body.following is not None and not 0 < body.following.room <= body.following.size:
            raise StateError(f"the snapshot of {self.name} is damaged: $.following is over full")
        mixture = None
        if body.mixture is not None:
            log_threshold = log(parameters["expected_events_between_false_alarms"])
            mixture = EMixture(body.mixture, log_threshold, shiryaev=self._shiryaev)
        self._configure(parameters)
        self._reference = LossReference(parameters["reference_size"], self._reference_doubt, body.reference)
        self._null, self._inflation = body.null, body.inflation
        self._following, self._mixture, self._rearmed = body.following, mixture, body.rearmed

    @property
    def _statistic(self) -> float:
        """The logarithm of the averaged evidence; 0 before the first value that is judged."""
        return self._mixture.statistic if self._mixture is not None and self._mixture.state.count else 0.0

    @property
    def _doubt(self) -> float:
        """How often a bound of the reference may fail on one side."""
        doubt: float = 1.0 - self._parameters["reference_confidence"]
        return doubt / 2.0 if self._two_sided else doubt

    @property
    def _reference_doubt(self) -> float:
        """The share of that for a learnt reference: the rest is for the windows that follow it, if they do."""
        return self._doubt if self._two_sided else REFERENCE_SHARE * self._doubt

    def _level(self, statistic: float) -> Level:
        if self._mixture is None or not self._mixture.state.count:
            return Level.STABLE
        if statistic >= self._log_threshold:
            return Level.DRIFT
        return Level.WARNING if statistic >= self._log_warning else Level.STABLE

    def _open(self, bounds: LossBounds) -> None:
        """Begin to bet against the mean being at most the upper bound (and at least the lower, if two-sided)."""
        self._null, self._inflation = _null(bounds.upper + self._tolerance), bounds.inflation
        lines = _rises(self._null, bounds)
        if self._two_sided:
            # A fall of x is a rise of 1 - x, whose increment a + b (1 - x) is a + b - b x.
            falls = _rises(_null(1.0 - bounds.lower + self._tolerance), bounds)
            lines += [(offset + slope, -slope) for offset, slope in falls]
        self._mixture = EMixture(MixtureState.new(_bets(lines)), self._log_threshold, shiryaev=self._shiryaev)


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


def _bets(lines: list[tuple[float, float]]) -> Bets:
    """Give the increments' offsets and slopes as the mixture wants them."""
    return Bets(tuple(offset for offset, _ in lines), tuple(slope for _, slope in lines))


def _rises(null: float, bounds: LossBounds) -> list[tuple[float, float]]:
    """Give offset and slope of each bet's increment 1 + lam (x / null - 1), for dependent losses c times that."""
    if null >= 1.0:
        # Nothing can be won. An increment of 1 would let M grow by one a value and reach any threshold in time.
        return [(0.5, 0.0)] * len(SHIFTS)
    lines = []
    for stake in _stakes(null, bounds):
        careful = stake / bounds.inflation
        c = exp(-(bounds.inflation - 1.0) * careful * careful * bounds.variance / (2.0 * null * null))
        lines.append((c * (1.0 - careful), c * careful / null))
    return lines


def _stakes(null: float, bounds: LossBounds) -> list[float]:
    """Give the stakes that grow fastest under each alternative."""
    if bounds.binary:
        # Likelihood ratio of Bernoulli(null + shift): lam = (p1 - p0) / (1 - p0).
        return [min(shift / (1.0 - null), _LARGEST_STAKE) for shift in SHIFTS]
    deviation = max(bounds.variance, 1e-6) ** 0.5
    shifts = [share * deviation for share in DEVIATIONS]
    # E ln(1 + lam (x / m - 1)) with mean m + shift and variance s^2 is greatest near lam = m shift / (s^2 + shift^2).
    return [min(null * shift / (deviation**2 + shift**2), _LARGEST_STAKE) for shift in shifts]
