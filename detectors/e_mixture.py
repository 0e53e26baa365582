"""The arithmetic of a mixture of e-detectors: exact at every cut, and without a Python step per value.

For bets k = 1..K with increments L_t = offset_k + slope_k x_t, each with expectation at most 1 before the change, the
Shiryaev-Roberts process is M_t = (1 + M_{t-1}) L_t and the CUSUM process C_t = max(1, C_{t-1}) L_t (Shin, Ramdas and
Rinaldo, arXiv 2203.03532). With the running product P_t of the increments since the start of a block,

    M_t = P_t (M_start + sum_{j<=t} 1/P_{j-1}),      C_t = P_t max(C_start, max_{j<=t} 1/P_{j-1}),

which are cumulated products, sums and maxima: numpy runs them in order, so the bits are those of the recursion over
the same four numbers. A block is a fixed number of values, whatever the batches, short enough that no product leaves
the range of a double.
"""

from itertools import accumulate
from math import exp, log
from typing import Final, NamedTuple

import msgspec
import numpy as np

from detectors.protocol import StateError
from detectors.special import Floats

_LOG_RANGE: Final = 600.0  # e^600 = 4e260: a block's product and its inverse stay doubles (limit 1.8e308) ...
_CAP: Final = 1e30  # ... also times what a block may begin with. No threshold is near it.
_LONGEST_BLOCK: Final = 512
_SPAN: Final = 4096  # values worked on at once: 5 bets times 4,096 doubles stay in the cache
_FEW: Final = 24  # below this many values plain floats beat numpy's cost per call (measured: equal near 24)


class Bets(NamedTuple):
    """Increments linear in the value: L = offset + slope x. Equal lengths, one entry for each bet."""

    offsets: tuple[float, ...]
    slopes: tuple[float, ...]

    @property
    def block(self) -> int:
        """Values in a block."""
        ends = [end for a, b in zip(self.offsets, self.slopes, strict=True) for end in (a, a + b)]
        steepest = max(abs(log(end)) for end in ends)
        return max(1, min(_LONGEST_BLOCK, int(_LOG_RANGE / max(steepest, 1e-9))))


class _Chains(NamedTuple):
    """Where the bets stand behind a few values. One entry for each bet in the first three."""

    product: list[float]
    inverses: list[float]
    peak: list[float]
    begins: list[tuple[int, int]]
    """Bets whose CUSUM began anew, and with which value."""
    mixed: list[float]
    """The sum of the processes behind each value."""


class MixtureState(msgspec.Struct, forbid_unknown_fields=True):
    """Everything that changes. One entry for each bet in each list."""

    offsets: list[float]
    slopes: list[float]
    product: list[float]
    """P: the product of the increments since the block began."""
    carried: list[float]
    """M when the block began."""
    inverses: list[float]
    """The sum of 1/P over the values since the block began."""
    peak: list[float]
    """The greater of C when the block began and the greatest 1/P since."""
    begin: list[int]
    """How many values came before the CUSUM last began."""
    begin_total: list[float]
    """The sum of the values until then."""
    count: int = 0
    total: float = 0.0
    phase: int = 0
    """Values since the block began."""

    @classmethod
    def new(cls, bets: Bets) -> "MixtureState":
        """Begin: no value yet, no evidence."""
        size = len(bets.offsets)
        zeros = [0.0] * size
        return cls(
            offsets=list(bets.offsets),
            slopes=list(bets.slopes),
            product=[1.0] * size,
            carried=zeros.copy(),
            inverses=zeros.copy(),
            peak=zeros.copy(),
            begin=[0] * size,
            begin_total=zeros.copy(),
        )


class EMixture:
    """The processes of all bets, averaged. `shiryaev` chooses M, otherwise C is what is averaged."""

    def __init__(self, state: MixtureState, log_threshold: float, *, shiryaev: bool) -> None:
        """Go on from a state. Raises StateError where it cannot have come about."""
        self.state = state
        bets = Bets(tuple(state.offsets), tuple(state.slopes))
        _check(bets, state)
        self._bind(bets)
        self._shiryaev = shiryaev
        self._log_threshold = log_threshold
        self._weight = 1.0 / len(state.offsets)
        self._newest: float | None = None
        """The average process, where it is known from the last few values."""
        # What only rounding may tell from the threshold is let through; `_reaches` decides.
        self._near = exp(log_threshold) * (1.0 - 1e-9)

    def _bind(self, bets: Bets) -> None:
        """Keep the increments in the forms that the hot paths use."""
        self._block = bets.block
        self._offsets, self._slopes = np.array(bets.offsets)[:, None], np.array(bets.slopes)[:, None]
        self._lines = list(zip(bets.offsets, bets.slopes, strict=True))

    @property
    def statistic(self) -> float:
        """Logarithm of the average process; -inf before the first value."""
        mixed = self._mixed() if self._newest is None else self._newest
        return log(mixed) if mixed > 0.0 else float("-inf")

    def change(self) -> tuple[int, float]:
        """Estimate where the change was: how many values came before it, and the mean since.

        It is where the CUSUM of the bet with most evidence last began, the argmin of its cumulated log increments.
        """
        processes = self._processes()
        best = processes.index(max(processes))
        since = self.state.count - self.state.begin[best]
        return self.state.begin[best], (self.state.total - self.state.begin_total[best]) / max(since, 1)

    def rebet(self, bets: Bets) -> None:
        """Go on with other increments, as many as before, from the evidence that there is: they may look back."""
        self._close_block()
        self.state.offsets, self.state.slopes = list(bets.offsets), list(bets.slopes)
        self._bind(bets)

    def advance(self, values: Floats | list[float]) -> tuple[int, bool]:
        """Take values up to and with the first at which the statistic reaches the threshold.

        Gives how many were taken and whether the last of them reached it.
        """
        taken = 0
        while taken < len(values):
            rest = values[taken:] if taken else values
            if len(rest) < _FEW:
                room = self._block - self.state.phase
                part = rest if len(rest) <= room else rest[:room]
                more, reached = self._advance_few(part if isinstance(part, list) else part.tolist())
            elif isinstance(rest, list):
                more, reached = self.advance(np.array(rest))
            elif self.state.phase or len(rest) < self._block:
                more, reached = self._advance_span(rest[: self._block - self.state.phase], 1)
            else:
                blocks = max(1, min(len(rest), _SPAN) // self._block)
                more, reached = self._advance_span(rest[: blocks * self._block], blocks)
            taken += more
            if reached:
                return taken, True
        return taken, False

    def _processes(self) -> list[float]:
        if not self._shiryaev:
            return [p * peak for p, peak in zip(self.state.product, self.state.peak, strict=True)]
        parts = zip(self.state.product, self.state.carried, self.state.inverses, strict=True)
        return [p * (carried + inverses) for p, carried, inverses in parts]

    def _mixed(self) -> float:
        mixed = 0.0
        for process in self._processes():
            mixed += process
        return mixed * self._weight

    def _reaches(self, mixed: float) -> bool:
        """Decide by the logarithm, as the verdict does, so that both always say the same."""
        return mixed > 0.0 and log(mixed) >= self._log_threshold

    def _advance_few(self, values: list[float]) -> tuple[int, bool]:
        """Take values of one block in plain floats, bet by bet: `_advance_span` bit for bit."""
        chains = self._chains(values)
        # The bets are added up in their order and weighted then, as everywhere; and rounding keeps an order.
        reached = False
        if max(chains.mixed) * self._weight >= self._near:
            first = next((at for at, mixed in enumerate(chains.mixed) if self._reaches(mixed * self._weight)), None)
            if first is not None and first + 1 < len(values):
                return self._advance_few(values[: first + 1])
            reached = first is not None
        self._settle(values, chains)
        return len(values), reached

    def _chains(self, values: list[float]) -> _Chains:
        """Give what each bet comes to, and the sum of the processes behind each value. Changes nothing."""
        state, shiryaev = self.state, self._shiryaev
        chains = _Chains([], [], [], [], [0.0] * len(values))
        mixed = chains.mixed
        for k, (offset, slope) in enumerate(self._lines):
            product, inverses, peak, carried = state.product[k], state.inverses[k], state.peak[k], state.carried[k]
            for place, x in enumerate(values):
                inverse = 1.0 / product
                if inverse > peak:
                    peak = inverse
                    chains.begins.append((k, place))  # of several of one bet the last counts
                product *= offset + slope * x
                inverses += inverse
                mixed[place] += product * (carried + inverses if shiryaev else peak)
            chains.product.append(product)
            chains.inverses.append(inverses)
            chains.peak.append(peak)
        return chains

    def _settle(self, values: list[float], chains: _Chains) -> None:
        """Become what the chains came to."""
        state = self.state
        totals = list(accumulate(values, initial=state.total))
        state.product, state.inverses, state.peak = chains.product, chains.inverses, chains.peak
        for k, place in chains.begins:
            state.begin[k], state.begin_total[k] = state.count + place, totals[place]
        state.total = totals[-1]
        state.count += len(values)
        state.phase += len(values)
        self._newest = chains.mixed[-1] * self._weight
        if state.phase == self._block:
            self._close_block()

    def _close_block(self) -> None:
        parts = zip(self.state.product, self.state.carried, self.state.inverses, strict=True)
        self.state.carried = [min(p * (carried + inverses), _CAP) for p, carried, inverses in parts]
        self.state.peak = [min(p * peak, _CAP) for p, peak in zip(self.state.product, self.state.peak, strict=True)]
        self.state.product = [1.0] * len(self.state.product)
        self.state.inverses = [0.0] * len(self.state.inverses)
        self.state.phase = 0
        self._newest = None

    def _advance_span(self, values: Floats, blocks: int) -> tuple[int, bool]:
        """Take one piece of a block, or several whole blocks: arrays of shape (K, blocks, length)."""
        increments = (self._offsets + self._slopes * values).reshape(len(self.state.product), blocks, -1)
        products = _seeded(np.multiply, self.state.product, increments)
        inverse = 1.0 / products[:, :, :-1]
        sums = _seeded(np.add, self.state.inverses, inverse)
        totals = np.add.accumulate(np.concatenate(([self.state.total], values)))
        taken, reached = 0, False
        length = increments.shape[2]
        for j in range(blocks):
            stop, reached = self._first_reached(products[:, j, 1:], sums[:, j, 1:], inverse[:, j])
            self._take(products[:, j], sums[:, j], inverse[:, j], totals[j * length :], stop)
            taken += stop
            if reached:
                break
        return taken, reached

    def _first_reached(self, products: Floats, sums: Floats, inverse: Floats) -> tuple[int, bool]:
        """Give how many of a block's values to take: up to the first that reaches the threshold."""
        if self._shiryaev:
            processes = products * (np.array(self.state.carried)[:, None] + sums)
        else:
            peaks = np.maximum(np.maximum.accumulate(inverse, axis=1), np.array(self.state.peak)[:, None])
            processes = products * peaks
        mixed = processes[0].copy()
        for process in processes[1:]:
            mixed += process
        mixed *= self._weight
        for index in np.flatnonzero(mixed >= self._near).tolist():
            if self._reaches(float(mixed[index])):
                return index + 1, True
        return products.shape[1], False

    def _take(self, products: Floats, sums: Floats, inverse: Floats, totals: Floats, stop: int) -> None:
        """Become what `stop` steps would have made."""
        self._newest = None
        greatest = np.argmax(inverse[:, :stop], axis=1).tolist()
        for k, place in enumerate(greatest):
            if inverse[k, place] > self.state.peak[k]:
                self.state.peak[k] = float(inverse[k, place])
                self.state.begin[k], self.state.begin_total[k] = self.state.count + place, float(totals[place])
        self.state.product, self.state.inverses = products[:, stop].tolist(), sums[:, stop].tolist()
        self.state.count += stop
        self.state.total = float(totals[stop])
        self.state.phase += stop
        if self.state.phase == self._block:
            self._close_block()


def _seeded(ufunc: np.ufunc, seeds: list[float], steps: Floats) -> Floats:
    """Run a ufunc along the last axis from each bet's seed: shape (K, blocks, n) to (K, blocks, n + 1).

    Whole blocks begin with the neutral element, which is what the seeds are then.
    """
    size, blocks, length = steps.shape
    chain = np.empty((size, blocks, length + 1))
    chain[:, :, 0] = np.array(seeds)[:, None]
    chain[:, :, 1:] = steps
    return np.asarray(ufunc.accumulate(chain, axis=2), dtype=np.float64)


def _check(bets: Bets, state: MixtureState) -> None:
    """Refuse a state that cannot have come about."""
    lists = (state.slopes, state.product, state.carried, state.inverses, state.peak, state.begin, state.begin_total)
    ends = [end for a, b in zip(state.offsets, state.slopes, strict=False) for end in (a, a + b)]
    if not ends or {len(values) for values in lists} != {len(state.offsets)}:
        raise StateError("$.mixture: expected as many numbers in each list as there are bets")
    if min(ends) <= 0.0 or min(state.product) <= 0.0 or not 0 <= state.phase < bets.block:
        raise StateError("$.mixture: expected increments, products and a phase as a mixture can have")
