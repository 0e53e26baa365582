"""What becomes of a loss after its alarm: back at the reference, worse still, or better but not well.

After an alarm two hypotheses stand against each other: the loss is *back at the reference*, or it is *still damaged, at
a level that is now known*. Only evidence ends the damage. Three tests run side by side over the outcomes that follow:

* **back**: a Shiryaev-Roberts e-process (`detectors.e_mixture`) against "the mean loss is at least L", which bets on
  the reference's mean. L is a lower bound of the damaged level (`_CAUTION` standard errors below its estimate), and
  never below the smallest harm worth telling. While the mean is at least L the expected number of outcomes to a false
  all-clear is at least `Limits.between_false_resolutions`. A fall to a level in between would pass this test too, for
  it is nearer to the reference than to L; so the outcomes since the estimated return must also be more likely, by a
  factor e^`_PREFERENCE`, under the reference's mean than under any mean with a harm worth telling.
* **worse** and **better**: mixtures of e-processes against "the mean is at most (least) the present level", whose
  expected number of outcomes between false reports, both together, is at least `Limits.between_false_updates`. What
  follows a change is the present level from then on, so that each further change is told once. A level that has become
  better is told only when it is certainly a harm still: else it may be the way back.

The estimate of the damaged level leaves out what any of the tests holds for the beginning of something new, from where
its CUSUM last began. Bounds from estimates are approximate (the tests themselves are not); table G of
`benchmarks.detection_quality` measures error rates and times.

Losses that depend on each other, and losses other than 0 and 1, are treated as `detectors.e_detector` does.
"""

from math import exp, log
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from detectors.e_mixture import Bets, EMixture, MixtureState
from detectors.level import LevelSums
from detectors.protocol import StateError
from detectors.special import Floats

BLOCK: Final = 50
"""Outcomes between two looks: decisions fall at its multiples alone, wherever batches are cut."""
_CAUTION: Final = 3.2
"""Standard errors between the estimate of the damaged level and L. Among 300 simulated damages of 20,000 outcomes each
1.3 gave two false all-clears, 2.5 one, 3.2 none; the median all-clear came 5 to 20 % later."""
_MARGIN: Final = 2.5
"""Standard errors between the estimate of the present level and what counts as no change of it. In 120 simulated
damages of 5,000 outcomes 1.645 gave six false reports, 2 four, 2.5 one; of ten changes 9.8, 9.7 and 9.6 were told."""
_PREFERENCE: Final = 1.0
_MOVES: Final = (0.04, 0.08, 0.16, 0.32)
"""Alternatives of worse and better, from the present level."""
_LEAST_LEVEL: Final = 200
"""Outcomes that a level is estimated from before worse and better are judged against it."""
_REBET: Final = 1.3
"""Worse and better are bet on anew whenever the present level is known from so many times as many outcomes."""
_LEAST_RETURN: Final = 200
"""Outcomes of an improved level before it may be told, or be found to have been chance."""
_MOST_PENDING: Final = 400
"""Blocks that wait to be counted to the present level or to a change: 20,000 outcomes. Beyond it the oldest is counted
to the level, for a change that shows no more in so many is none."""
_SMALLEST_MEAN: Final = 1e-4  # a reference without any loss: bets on a mean of 0 could be lost by a single one
_LARGEST_STAKE: Final = 0.9  # below 1, so that no single value destroys the evidence

Kind = Literal["back", "worse", "better"]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is worth telling, and how rarely it may be wrong. Numbers of outcomes are expected ones."""

    smallest_harm: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)] = 0.02
    """A rise of the mean loss that is worth telling; half of the reference's mean where that is less."""
    between_false_resolutions: Annotated[float, msgspec.Meta(ge=100.0, le=1e12)] = 2_000_000.0
    between_false_updates: Annotated[float, msgspec.Meta(ge=100.0, le=1e12)] = 200_000.0
    least_outcomes: Annotated[int, msgspec.Meta(ge=1)] = 200
    """Outcomes since the estimated return before it can be believed."""


class Turn(NamedTuple):
    """What was found at the end of a block."""

    kind: Kind
    before: LevelSums
    """The level that was present until then."""
    level: LevelSums
    """The outcomes since the estimated change: its `count` says how long ago that was."""
    reference: LevelSums
    statistic: float
    """Logarithm of the test's evidence when it reached its threshold."""
    threshold: float


class _Test(msgspec.Struct, forbid_unknown_fields=True):
    """One e-process, where it began, and, once it has reached its threshold, what has followed its change."""

    mixture: MixtureState
    began: int
    """Outcomes since the alarm that came before it."""
    since: LevelSums | None = None
    statistic: float = 0.0
    threshold: float = 0.0


class AftermathState(msgspec.Struct, forbid_unknown_fields=True):
    """Everything that changes."""

    reference: LevelSums
    inflation: float
    level: LevelSums
    """Outcomes that are counted to the present level."""
    pending: list[LevelSums] = []
    """Blocks behind them, oldest first."""
    pending_from: int = 0
    """Outcomes since the alarm that came before the first of them."""
    taken: int = 0
    """Outcomes since the alarm."""
    back: _Test | None = None
    worse: _Test | None = None
    better: _Test | None = None
    rebet_at: int = _LEAST_LEVEL


class Aftermath:
    """Follows the loss from an alarm until it is back at the reference. Feed it `BLOCK` outcomes at a time."""

    def __init__(self, state: AftermathState, limits: Limits) -> None:
        """Go on from a state. Raises StateError where it cannot have come about."""
        if not 0 <= state.pending_from <= state.taken or len(state.pending) > _MOST_PENDING:
            raise StateError("$.pending: expected blocks that end where the outcomes do")
        self.state = state
        self._limits = limits

    @classmethod
    def begin(cls, reference: LevelSums, inflation: float, limits: Limits) -> "Aftermath":
        """Begin right behind an alarm, with nothing known of the damaged level: what alarmed was chosen for being bad.

        `reference`: sums over the stable outcomes before the change. `inflation`: of the variance of a mean of theirs.
        """
        return cls(AftermathState(reference=reference, inflation=inflation, level=LevelSums()), limits)

    @property
    def least_damaged(self) -> float:
        """The smallest mean loss that is still a harm worth telling."""
        mean = self.state.reference.mean
        return min(mean + min(self._limits.smallest_harm, max(mean / 2.0, 0.002)), 0.999)

    @property
    def level(self) -> LevelSums:
        """The outcomes counted to the present level."""
        return self.state.level

    def take(self, block: Floats) -> Turn | None:
        """Take the next `BLOCK` losses, shape (BLOCK,); say whether the loss is back, or has changed otherwise.

        Behind `back` there is nothing more to follow.
        """
        if len(block) != BLOCK:
            raise ValueError(f"expected {BLOCK} losses, got {len(block)}")
        state = self.state
        if state.back is None:
            state.back = self._new_test(self._back_bets())
        self._advance(state.back, block, self._limits.between_false_resolutions)
        for test in (state.worse, state.better):
            if test is not None:
                self._advance(test, block, 2.0 * self._limits.between_false_updates)
        state.taken += BLOCK
        sums = LevelSums()
        sums.take(block)
        state.pending.append(sums)
        turn = self._turn()
        if turn is None:
            self._settle()
        elif turn.kind != "back":
            self._restart(turn.level)
        return turn

    def _advance(self, test: _Test, block: Floats, expected: float) -> None:
        """Let a test see a block; once it has reached its threshold only what follows its change is summed up."""
        if test.since is not None:
            test.since.take(block)
            return
        mixture = EMixture(test.mixture, log(expected), shiryaev=True)
        _, reached = mixture.advance(block)
        test.mixture = mixture.state
        if reached:
            test.since = self._since(test.began + mixture.change()[0], block)
            test.statistic, test.threshold = mixture.statistic, log(expected)

    def _since(self, change: int, block: Floats) -> LevelSums:
        """Sum up what followed a change, from the first whole block behind it."""
        state, sums = self.state, LevelSums()
        skipped = -(-(change - state.pending_from) // BLOCK)
        for waiting in state.pending[max(skipped, 0) :]:
            sums.add(waiting)
        sums.take(block)
        return sums

    def _turn(self) -> Turn | None:
        state = self.state
        if state.back is not None and state.back.since is not None:
            if self._is_back(state.back.since):
                return self._told("back", state.back, state.back.since)
            if state.back.since.count > _LEAST_RETURN and state.back.since.mean > self._damaged_bound():
                state.back = self._new_test(self._back_bets())
        if state.worse is not None and state.worse.since is not None:
            if state.worse.since.mean - state.level.mean >= self._harm:
                return self._told("worse", state.worse, state.worse.since)
            state.worse = self._new_test(self._move_bets(up=True))
        if state.better is not None and state.better.since is not None:
            return self._judge_better(state.better, state.better.since)
        return None

    def _told(self, kind: Kind, test: _Test, since: LevelSums) -> Turn:
        return Turn(kind, self.state.level, since, self.state.reference, test.statistic, test.threshold)

    def _judge_better(self, test: _Test, since: LevelSums) -> Turn | None:
        state, error = self.state, since.error(self.state.inflation)
        if since.count >= _LEAST_RETURN:
            fell = state.level.mean - since.mean >= self._harm
            if fell and since.mean - _MARGIN * error > self.least_damaged:
                return self._told("better", test, since)
        if since.mean > state.level.mean - state.level.error(state.inflation):
            state.better = self._new_test(self._move_bets(up=False))
        return None

    def _is_back(self, since: LevelSums) -> bool:
        """Whether what followed the return speaks for the reference against every level worth telling."""
        if since.count < self._limits.least_outcomes:
            return False
        reference = max(self.state.reference.mean, _SMALLEST_MEAN)
        harm = max(since.mean, self.least_damaged)
        weight = since.count / (since.spread * self.state.inflation)
        return weight * (_divergence(since.mean, harm) - _divergence(since.mean, reference)) >= _PREFERENCE

    @property
    def _harm(self) -> float:
        return self.least_damaged - self.state.reference.mean

    def _damaged_bound(self) -> float:
        """L: a mean that the damaged level is at least."""
        state, bound = self.state, self.least_damaged
        if state.level.count >= BLOCK:
            bound = max(bound, state.level.mean - _CAUTION * state.level.error(state.inflation))
        return bound

    def _back_bets(self) -> Bets:
        reference = max(self.state.reference.mean, _SMALLEST_MEAN)
        return _bets([(self._damaged_bound(), reference)], self.state.reference.spread, self.state.inflation)

    def _move_bets(self, *, up: bool) -> Bets:
        state = self.state
        margin = _MARGIN * state.level.error(state.inflation)
        if up:
            null = min(state.level.mean + margin, 0.99)
            pairs = [(null, min(null + move, (1.0 + null) / 2.0)) for move in _MOVES]
        else:
            null = max(state.level.mean - margin, 2.0 * _SMALLEST_MEAN)
            pairs = [(null, max(null - move, null / 5.0)) for move in _MOVES]
        return _bets(pairs, state.level.spread, state.inflation)

    def _new_test(self, bets: Bets) -> _Test:
        return _Test(MixtureState.new(bets), self.state.taken)

    def _settle(self) -> None:
        """Count what no test holds for the beginning of something new to the present level, and bet accordingly."""
        state = self.state
        running = [test for test in (state.back, state.worse, state.better) if test is not None]
        begin = min(test.began + _last_begin(test.mixture) for test in running)
        moved = False
        while state.pending and (state.pending_from + BLOCK <= begin or len(state.pending) >= _MOST_PENDING):
            state.level.add(state.pending.pop(0))
            state.pending_from += BLOCK
            moved = True
        if moved and state.back is not None and state.back.since is None:
            _rebet(state.back, self._back_bets())
        if moved and state.level.count >= state.rebet_at:
            self._bet_on_moves()

    def _bet_on_moves(self) -> None:
        state = self.state
        state.rebet_at = int(state.level.count * _REBET)
        up, down = self._move_bets(up=True), self._move_bets(up=False)
        state.worse = self._new_test(up) if state.worse is None else _rebet(state.worse, up)
        state.better = self._new_test(down) if state.better is None else _rebet(state.better, down)

    def _restart(self, level: LevelSums) -> None:
        """Hold every further outcome against a level that has just been told."""
        state = self.state
        state.level = msgspec.structs.replace(level)
        state.pending, state.pending_from = [], state.taken
        state.back = state.worse = state.better = None
        state.rebet_at = _LEAST_LEVEL
        if level.count >= _LEAST_LEVEL:
            self._bet_on_moves()


def _last_begin(state: MixtureState) -> int:
    """Give how many values came before the CUSUM of the bet with most evidence last began."""
    return EMixture(state, 1.0, shiryaev=True).change()[0]


def _rebet(test: _Test, bets: Bets) -> _Test:
    mixture = EMixture(test.mixture, 1.0, shiryaev=True)
    mixture.rebet(bets)
    test.mixture = mixture.state
    return test


def _bets(pairs: list[tuple[float, float]], spread: float, inflation: float) -> Bets:
    """Give increments 1 + s (x - null) of expectation 1 at the null's mean, for each (null, alternative).

    s = (alternative - null) / variance makes that the likelihood ratio of 0/1 losses (there the variance is m (1 - m));
    it is divided by the dependence V and damped by exp(-(V - 1) s^2 variance / 2), as in `detectors.e_detector`.
    """
    offsets, slopes = [], []
    for null, alternative in pairs:
        variance = spread * null * (1.0 - null)
        most = _LARGEST_STAKE / null if alternative > null else _LARGEST_STAKE / (1.0 - null)
        stake = max(-most, min((alternative - null) / variance, most)) / inflation
        damped = exp(-(inflation - 1.0) * stake * stake * variance / 2.0)
        offsets.append(damped * (1.0 - stake * null))
        slopes.append(damped * stake)
    return Bets(tuple(offsets), tuple(slopes))


def _divergence(p: float, q: float) -> float:
    """Kullback-Leibler divergence of Bernoulli(q) from Bernoulli(p), 0 < p, q < 1."""
    return p * log(p / q) + (1.0 - p) * log((1.0 - p) / (1.0 - q))
