"""How the loss goes with each feature: which share of a change in loss the move of one feature would explain.

Of a sample of predictions the bins of all features are kept until the label comes; then the loss is added to the sums
of those bins. From these sums, with p the share of a feature's bin b and l_b the mean loss of outcomes in it,

    association of a feature = sum_b (p_now,b - p_reference,b) (l_b - l)

is by how much the mean loss l would change, in units of the loss, if the feature's distribution moved as it did and
the loss within each bin stayed what it was (direct standardisation; Kitagawa, JASA 50, 1955, calls it the component
of composition). It is an association: a feature that moves together with the true cause gets its share as well.

The join keeps no features, for ten million waiting predictions must fit in memory. So one prediction in 8 is sampled by
a hash of its offset, at most `CELLS` bins of them wait at a time, and when more would, half of the sample goes (again
by the hash) and from then on half as many are taken. What is left is a uniform sample of all that wait, however late
labels come. Predictions whose labels are overdue are the first to go.
"""

from typing import Final, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from detectors.histogram import Counts
from detectors.protocol import StateError
from service.core.columns import Bool, Float, Int, Outcomes
from service.core.inputs.versions import require_version
from service.core.metrics.catalogue import ResolvedProblem
from service.core.metrics.losses import loss

_VERSION = 1

CELLS: Final = 16_384
"""Bytes of bins that wait for a label: 512 predictions of 32 features, 64 (the least) of 256 and more."""
MIN_ROWS, MAX_ROWS = 64, 512
"""Predictions that may wait, whatever the number of features: below 64 a sample says nothing."""
MIN_EXPONENT: Final = 3
"""One prediction in 2^3 is sampled at most. All of this then costs .35 us a prediction of 20 features."""
_MAX_EXPONENT: Final = 60
MIN_OUTCOMES: Final = 100
"""Sampled outcomes before anything is said."""
_PRIOR: Final = 5.0
"""Outcomes of average loss that each bin is credited with, so that a bin of two does not speak for itself."""
_INTERVAL: Final = 1.96
"""Standard errors on either side: 95 %."""
GROUP: Final = 4
"""Blocks that are taken up together: a quarter of the cost, and sums that are three blocks behind at most."""
_MAX_QUEUE: Final = 512
"""Outcomes that are put by before they are looked at together: 16 kB."""
_OVERDUE: Final = 4
"""A label is overdue when it has waited so many times as long as any that came."""
_ENOUGH_LABELS: Final = 32


class _Waiting(NamedTuple):
    """Outcomes that wait to be looked at, in order."""

    sequence: Int
    offset: Int
    predicted: Float
    actual: Float

    def at(self, rows: Bool | slice) -> "_Waiting":
        """Give some of the rows."""
        return _Waiting._make(column[rows] for column in self)


class BlockSample(NamedTuple):
    """What is known of a block beside its rows."""

    offsets: Int
    """Of all its predictions."""
    sequence: int
    """Number of the record that made it whole."""


class Association(NamedTuple):
    """By how much the mean loss would change if a feature alone had moved as it did; shape (F,) each."""

    change: Float
    low: Float
    """Lower bound of a 95 % interval."""
    high: Float


class LossByBinState(TypedDict):
    """The snapshot of a LossByBin. Bytes are little-endian int64, float64, and codes as narrow as they fit."""

    version: int
    shape: tuple[int, int]
    count: bytes
    sum: bytes
    offsets: bytes
    codes: bytes
    held_offsets: bytes
    held_codes: bytes
    held_blocks: int
    squares: float
    """The sum of the squared losses of the sampled outcomes."""
    exponent: int
    last: int
    longest: int
    early_offsets: bytes
    early_losses: bytes
    dropped: int


class LossByBin:
    """Sums of the loss by feature and bin, over sampled outcomes of one model version.

    No result depends on when outcomes are looked at, as long as those up to the end of a group of blocks come before
    the group. Memory: 8 bytes twice per feature and bin, `CELLS` cells (MIN_ROWS rows at least), and an eighth of the
    rows of three blocks.
    """

    def __init__(self) -> None:
        self._queue: list[_Waiting] = []
        self._queued = 0
        self._is_thinned = False
        """The queue is one piece, of outcomes that may be in the sample."""
        self._noted = -1
        self._early_offsets: Int = np.empty(0, np.int64)
        self._early_losses: Float = np.empty(0)
        self._problem: ResolvedProblem = "multiclass"
        self.begin((0, 0))

    def begin(self, shape: tuple[int, int]) -> None:
        """Count from now on in bins of this shape, (F, width). Outcomes that wait for their features are kept."""
        self._count: Counts = np.zeros(shape, np.int64)
        self._sum: Float = np.zeros(shape)
        self._squares = 0.0
        self._codes: NDArray[np.unsignedinteger] = np.empty((0, shape[0]), _dtype_of(shape[1]))
        self._offsets: Int = np.empty(0, np.int64)
        self._held_codes = self._codes
        self._held_offsets = self._offsets
        self._held_blocks = 0
        self._exponent = MIN_EXPONENT
        self._last = -1
        """Offset of the newest prediction whose features are known."""
        self._longest = 0
        """The most offsets that a label came behind its prediction."""
        self.dropped = 0
        """Sampled predictions and outcomes that there was no room for, or whose label was overdue."""

    # -- outcomes

    def note(self, outcomes: Outcomes, problem: ResolvedProblem) -> None:
        """Put outcomes by, in order. Those that were noted before (several configurations share this) are not again."""
        last = int(outcomes.sequence[-1])
        if last <= self._noted:
            return
        if self._queued > _MAX_QUEUE:
            self.settle()  # of batches before this one, so every block up to them has come
        self._noted, self._problem = last, problem
        # Copies: a view would hold the columns of all versions of the step.
        waiting = _Waiting(
            outcomes.sequence.copy(),
            outcomes.prediction_offset.copy(),
            outcomes.predicted.copy(),
            outcomes.actual.copy(),
        )
        self._queue.append(waiting)
        self._is_thinned = False
        self._queued += len(outcomes.sequence)

    def settle(self, sequence: int | None = None) -> None:
        """Look at the outcomes up to the record with this number; None: at all."""
        if not self._queue:
            return
        if not self._is_thinned:
            whole = _Waiting._make(np.concatenate(columns) for columns in zip(*self._queue, strict=True))
            self._queue = [whole.at(_is_sampled(whole.offset, MIN_EXPONENT))]
            self._is_thinned = True
        (waiting,) = self._queue
        count = len(waiting.sequence)
        end = count if sequence is None else int(waiting.sequence.searchsorted(sequence, side="right"))
        if end:
            self._take(waiting.at(slice(end)))
        self._queued = count - end
        self._queue = [waiting.at(slice(end, None))] if end < count else []

    def _take(self, outcomes: _Waiting) -> None:
        losses = loss(self._problem, outcomes.predicted, outcomes.actual)
        good = np.isfinite(losses)
        offsets, losses = outcomes.offset[good], losses[good]
        known = offsets <= self._last
        found = self._matched(offsets[known], losses[known], self._offsets, self._codes)
        if len(found):
            self._longest = max(self._longest, self._last - int(self._offsets[found].min()))
            left = np.ones(len(self._offsets), np.bool_)
            left[found] = False
            self._keep(left)
        if not known.all():
            self._keep_early(offsets[~known], losses[~known])

    def _keep_early(self, offsets: Int, losses: Float) -> None:
        """Let outcomes wait for the features of their predictions, whose block is not whole."""
        room = MAX_ROWS - len(self._early_offsets)
        early = np.flatnonzero(_is_sampled(offsets, self._exponent))
        self.dropped += max(len(early) - room, 0)
        self._early_offsets = np.concatenate((self._early_offsets, offsets[early[:room]]))
        self._early_losses = np.concatenate((self._early_losses, losses[early[:room]]))

    def _matched(self, offsets: Int, losses: Float, among: Int, codes: NDArray[np.unsignedinteger]) -> Int:
        """Add the losses of outcomes whose offset is among those of rows; give the places of these rows."""
        if not len(among) or not len(offsets):
            return np.empty(0, np.int64)
        place: Int = np.minimum(among.searchsorted(offsets), len(among) - 1)
        hit = among[place] == offsets
        place = place[hit]
        columns, width = self._sum.shape
        cells = (codes[place] + np.arange(columns) * width).ravel()
        # One by one in the order of outcomes, so the sums do not depend on how many come together.
        np.add.at(self._sum.reshape(-1), cells, np.repeat(losses[hit], columns))
        np.add.at(self._count.reshape(-1), cells, 1)
        for value in losses[hit].tolist():
            self._squares += value * value
        return place

    # -- predictions

    def insert(self, sample: BlockSample, bins: Counts) -> None:
        """Let the sampled of a block's predictions, and their bins of all rows, shape (n, F), wait for the label."""
        sampled = np.flatnonzero(_is_sampled(sample.offsets, MIN_EXPONENT))
        self._held_offsets = np.concatenate((self._held_offsets, sample.offsets[sampled]))
        self._held_codes = np.concatenate((self._held_codes, bins[sampled].astype(self._codes.dtype)))
        self._held_blocks += 1
        if self._held_blocks == GROUP:
            self.settle(sample.sequence)
            self._release(int(sample.offsets[-1]))

    def _release(self, last: int) -> None:
        """Take up the group that is whole with the prediction at this offset."""
        offsets, rows = self._held_offsets, self._held_codes
        self._held_offsets, self._held_codes, self._held_blocks = offsets[:0], rows[:0], 0
        self._last = last
        new = _is_sampled(offsets, self._exponent)
        if len(self._early_offsets):
            due = self._early_offsets <= last
            new[self._matched(self._early_offsets[due], self._early_losses[due], offsets, rows)] = False
            self._early_offsets, self._early_losses = self._early_offsets[~due], self._early_losses[~due]
        self._offsets = np.concatenate((self._offsets, offsets[new]))
        self._codes = np.concatenate((self._codes, rows[new]))
        self._make_room()

    def _make_room(self) -> None:
        capacity = min(max(CELLS // max(self._codes.shape[1] * self._codes.itemsize, 1), MIN_ROWS), MAX_ROWS)
        if len(self._offsets) < capacity // 4:
            self._exponent = max(self._exponent - 1, MIN_EXPONENT)
        if len(self._offsets) > capacity and self._longest and self._count[:1].sum() >= _ENOUGH_LABELS:
            self._drop(self._offsets < self._last - _OVERDUE * self._longest)
        while len(self._offsets) > capacity and self._exponent < _MAX_EXPONENT:
            self._exponent += 1
            self._drop(~_is_sampled(self._offsets, self._exponent))

    def _drop(self, lost: Bool) -> None:
        self.dropped += int(np.count_nonzero(lost))
        self._keep(~lost)

    def _keep(self, kept: Bool) -> None:
        self._offsets, self._codes = self._offsets[kept], self._codes[kept]

    # -- what is told

    def association(self, reference: Counts, now: Counts, sequence: int | None = None) -> Association | None:
        """Give the association of each feature with the change in loss; None while too little is known.

        `reference` and `now` are counts of the windows, shape (F, width). It counts what is known of the outcomes up to
        the record with the number `sequence`, whether they have been looked at or not.
        """
        self.settle(sequence)
        if not self._count.size or self._count[0].sum() < MIN_OUTCOMES:
            return None
        mean = float(self._sum[0].sum() / self._count[0].sum())
        level = (self._sum + _PRIOR * mean) / (self._count + _PRIOR)
        by_bin = level - mean
        sizes, before = now.sum(axis=1, keepdims=True), reference.sum(axis=1, keepdims=True)
        moved = now / sizes - reference / before
        change = (moved * by_bin).sum(axis=1)
        # Two samples are to blame: the outcomes in each bin, of which the loss's mean is known but so well (the bins'
        # means are drawn to the overall one, so they vary like means of n + prior outcomes), and the windows' shares.
        spread = level * (1.0 - level) if self._problem != "regression" else self._variance(mean)
        error = (moved * moved * spread / (self._count + _PRIOR)).sum(axis=1)
        error += (
            _share_variance(now / sizes, by_bin) / sizes[:, 0]
            + _share_variance(reference / before, by_bin) / before[:, 0]
        )
        half = _INTERVAL * np.sqrt(error)
        return Association(change, change - half, change + half)

    def _variance(self, mean: float) -> float:
        """Give the variance of the sampled losses."""
        return max(self._squares / max(int(self._count[0].sum()), 1) - mean * mean, 0.0)

    # -- state

    @property
    def size_bytes(self) -> int:
        """Bytes of the two tables. What waits for its outcome is bounded, and little beside them."""
        return self._count.nbytes + self._sum.nbytes

    def snapshot(self) -> LossByBinState:
        """Give everything that is needed to go on elsewhere."""
        self.settle()
        return {
            "version": _VERSION,
            "shape": (self._count.shape[0], self._count.shape[1]),
            "count": self._count.astype("<i8").tobytes(),
            "sum": self._sum.astype("<f8").tobytes(),
            "offsets": self._offsets.astype("<i8").tobytes(),
            "codes": self._codes.astype(self._codes.dtype.newbyteorder("<")).tobytes(),
            "held_offsets": self._held_offsets.astype("<i8").tobytes(),
            "held_codes": self._held_codes.astype(self._codes.dtype.newbyteorder("<")).tobytes(),
            "held_blocks": self._held_blocks,
            "squares": self._squares,
            "exponent": self._exponent,
            "last": self._last,
            "longest": self._longest,
            "early_offsets": self._early_offsets.astype("<i8").tobytes(),
            "early_losses": self._early_losses.astype("<f8").tobytes(),
            "dropped": self.dropped,
        }

    def restore(self, state: LossByBinState) -> None:
        """Take over a snapshot. Raises StateError when it is newer than this code or its parts do not fit."""
        require_version(state, _VERSION, "loss by bin")
        columns, width = state["shape"]
        self.begin((columns, width))
        try:
            self._count = np.frombuffer(state["count"], "<i8").astype(np.int64).reshape(columns, width)
            self._sum = np.frombuffer(state["sum"], "<f8").astype(np.float64).reshape(columns, width)
            self._offsets, self._codes = self._rows(state["offsets"], state["codes"])
            self._held_offsets, self._held_codes = self._rows(state["held_offsets"], state["held_codes"])
        except ValueError as error:
            raise StateError(f"$.loss_by_bin: {error}") from error
        self._held_blocks, self._squares = state["held_blocks"], state["squares"]
        self._exponent, self._last, self._longest = state["exponent"], state["last"], state["longest"]
        self._early_offsets = np.frombuffer(state["early_offsets"], "<i8").astype(np.int64)
        self._early_losses = np.frombuffer(state["early_losses"], "<f8").astype(np.float64)
        self.dropped = state["dropped"]

    def _rows(self, offsets: bytes, codes: bytes) -> tuple[Int, NDArray[np.unsignedinteger]]:
        places = np.frombuffer(offsets, "<i8").astype(np.int64)
        rows = np.frombuffer(codes, self._codes.dtype.newbyteorder("<")).astype(self._codes.dtype)
        return places, rows.reshape(len(places), self._codes.shape[1])


def _dtype_of(width: int) -> type[np.unsignedinteger]:
    return np.uint8 if width <= 256 else np.uint16


def _is_sampled(offsets: Int, exponent: int) -> Bool:
    """Say for which offsets the first `exponent` bits of their hash are 0 (Fibonacci hashing; Knuth 6.4)."""
    hashed = offsets.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return np.asarray(hashed >> np.uint64(64 - exponent) == 0)


def _share_variance(shares: Float, by_bin: Float) -> Float:
    """Give n times the variance, over samples of n, of sum_b p_b l_b with multinomial shares p; shapes (F, B), (F,)."""
    mean = (shares * by_bin).sum(axis=1)
    return np.asarray((shares * by_bin * by_bin).sum(axis=1) - mean * mean, dtype=np.float64)
