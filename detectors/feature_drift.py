"""Which features drifted, at one budget of false incidents for all features of a model together.

Every feature f has a bank of e-detectors (Shin, Ramdas and Rinaldo, arXiv 2203.03532), one for each way j in which
its distribution can move: up or down in location, wider or narrower, more or less mass in one bin, more missing, more
unseen. Way j is a score g_j in [0, 1] of the bin, its null is E g_j <= m_j, and its increment over a block is

    L_j = prod over the block's events of (1 + lam_j (g_j(x) / m_j - 1)),

which has expectation at most 1 without any assumption on the distribution and is computed from the block's counts
alone. Shiryaev-Roberts: M_j = (1 + M_j) L_j; M_f = sum_j w_j M_j with sum_j w_j = 1. Then E M_f after t blocks is at
most t, and so is the average over features, whatever their dependence.

The reference window is finite. So m_j is not its mean score but an upper confidence bound of it; the bounds of all
scores of all features hold together with probability `reference_confidence` (Bonferroni).

e-BH rejects the k features with M_(k) >= A F / k. Any rejection implies that the average of M over the features is at
least A, so the mean number of blocks to a false incident is at least A, for 5 features and for 500.

Measured (normal features, blocks of 200 events, a budget of one false incident in 100,000 events, references of 500,
1,000 and 5,000 events): no false incident in 12 million events with 5 features, none in 3 million with 50, for each of
the references. The bounds are that careful because they hold for all features together. The price: one of 20 features
shifted by .2 deviations takes 3,800 events (median) with 1,000 in the reference and 1,800 with 5,000; by .5, 400 and
200; by 1, one block.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Final, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from detectors.e_bh import e_bh_logarithms
from detectors.feature_bets import RANK_WAYS, Bank, bank_of, count_ways
from detectors.histogram import Counts, ReferenceHistogram
from detectors.protocol import StateError
from detectors.special import Floats

VERSION: Final = 1
NAME: Final = "feature_drift"

_LOG_INCREMENT_LIMIT: Final = 400.0
_CAP: Final = 1e100
# (1 + 1e100) * e^400 = 5e273 is still a double. A process at the cap is 1e80 times above any threshold: an upper cap
# keeps the guarantee, and it bounds the number of quiet blocks until the process is small again.


class FeatureTestState(TypedDict):
    """The snapshot of a FeatureDriftTest, without its reference; bytes: float64 and int64, little-endian."""

    version: int
    name: str
    expected_events_between_false_incidents: float
    block_events: int
    tolerance: float
    reference_confidence: float
    shape: tuple[int, int]
    evidence: bytes
    excursion: bytes
    change_block: bytes
    block_count: int


class FeatureDrift(NamedTuple):
    """What the test says after a block."""

    log_e: Floats
    """ln M_f, shape (F,): the evidence against feature f; larger means further from the reference."""
    log_threshold: float
    """What ln M_f of one feature alone has to reach: ln(A F). The k-th of several needs ln(A F / k)."""
    drifted: NDArray[np.bool_]
    """Features that e-BH rejects now, shape (F,)."""
    ranking: NDArray[np.int64]
    """Features by falling evidence."""
    change_block: NDArray[np.int64]
    """For each feature, how many blocks came before its estimated change. Means something where it drifted."""
    block_count: int


MakeBank = Callable[[ReferenceHistogram, float, float], Bank]


class FeatureDriftTest:
    """The e-detectors of all features of one model against one reference histogram.

    `expected_events_between_false_incidents` and `block_events` give A = their ratio, in blocks. A block with another
    number of events is valid too; then the budget counts blocks. `tolerance` widens each null: a share or mean
    rank that moved by less is not drift. `make_bank`: `bank_of`, or what remembers what it gave.
    """

    def __init__(
        self,
        reference: ReferenceHistogram,
        *,
        expected_events_between_false_incidents: float = 1_000_000.0,
        block_events: int = 200,
        tolerance: float = 0.0,
        reference_confidence: float = 0.95,
        make_bank: MakeBank = bank_of,
    ) -> None:
        """Raise ValueError for a parameter out of range or an empty reference."""
        _check(expected_events_between_false_incidents, block_events, tolerance, reference_confidence)
        if reference.sample_count == 0:
            raise ValueError("$.reference: expected at least one event")
        self.expected_events_between_false_incidents = expected_events_between_false_incidents
        self.block_events = block_events
        self.tolerance = tolerance
        self.reference_confidence = reference_confidence
        self._reference = reference
        self._make_bank = make_bank
        self._blocks_between = max(expected_events_between_false_incidents / block_events, 1.0)
        self.reset()

    @cached_property
    def _bank(self) -> Bank:
        """The bets, made when the first block asks for them.

        That takes a millisecond, and a service that recovers a thousand models would wait for all of theirs before it
        reads its first record.
        """
        return self._make_bank(self._reference, self.tolerance, 1.0 - self.reference_confidence)

    def reset(self) -> None:
        """Forget all blocks, keep the reference."""
        features = len(self._reference.counts)
        self._evidence = np.zeros((features, count_ways(self._reference)), dtype=np.float64)
        self._mixed: Floats | None = np.zeros(features, dtype=np.float64)
        """Evidence over all ways; None: as the evidence says."""
        self._excursion = np.zeros(features, dtype=np.float64)
        self._change_block = np.zeros(features, dtype=np.int64)
        self._block_count = 0

    def restart(self, features: NDArray[np.bool_]) -> None:
        """Forget the evidence against the features that `features`, shape (F,), marks: their incident is over."""
        self._evidence[features] = 0.0
        self._mixed = None
        self._excursion[features] = 0.0
        self._change_block[features] = self._block_count

    def update(self, counts: Counts) -> FeatureDrift:
        """Take the counts of the next block, shape (F, width), and say which features have drifted.

        Raises ValueError on another shape; then nothing changed.
        """
        if counts.shape != self._bank.shape:
            raise ValueError(f"$: expected shape {self._bank.shape}, got {counts.shape}")
        before = 1.0 + self._mix()
        increments = np.exp(np.minimum(self._bank.log_increments(counts), _LOG_INCREMENT_LIMIT))
        self._evidence = np.minimum((1.0 + self._evidence) * increments, _CAP)
        self._mixed = None
        self._follow_changes(self._mix() / before)
        self._block_count += 1
        return self.verdict()

    def verdict(self) -> FeatureDrift:
        """Say the same again without a new block."""
        log_e = np.log(np.maximum(self._mix(), 1e-300))
        log_budget = float(np.log(self._blocks_between))
        return FeatureDrift(
            log_e=log_e,
            log_threshold=log_budget + float(np.log(max(len(log_e), 1))),
            drifted=e_bh_logarithms(log_e, log_budget),
            ranking=np.argsort(-log_e, kind="stable"),
            change_block=self._change_block.copy(),
            block_count=self._block_count,
        )

    @property
    def size_bytes(self) -> int:
        """Bytes of the evidence and of the bets, which are made at the first block."""
        features, ways = self._evidence.shape
        width = self._reference.width
        shares = ways - RANK_WAYS
        return 8 * features * (width * RANK_WAYS + 2 * shares + 2 * ways + 4)

    def snapshot(self) -> FeatureTestState:
        """Give plain data: the evidence, without the reference, which is the owner's to keep."""
        return {
            "version": VERSION,
            "name": NAME,
            "expected_events_between_false_incidents": self.expected_events_between_false_incidents,
            "block_events": self.block_events,
            "tolerance": self.tolerance,
            "reference_confidence": self.reference_confidence,
            "shape": (self._evidence.shape[0], self._evidence.shape[1]),
            "evidence": self._evidence.astype("<f8").tobytes(),
            "excursion": self._excursion.astype("<f8").tobytes(),
            "change_block": self._change_block.astype("<i8").tobytes(),
            "block_count": self._block_count,
        }

    @classmethod
    def restore(cls, state: FeatureTestState, reference: ReferenceHistogram) -> "FeatureDriftTest":
        """Go on from a snapshot with its reference. Raises StateError where they do not belong together."""
        if state.get("name") != NAME:
            raise StateError(f"$.name: expected {NAME}, got {state.get('name')!r}")
        if state["version"] > VERSION:
            raise StateError(f"$.version: {state['version']} is newer than {VERSION}, which this program reads")
        parameters: dict[str, Any] = {key: state[key] for key in _PARAMETERS}
        test = cls(reference, **parameters)
        if tuple(state["shape"]) != test._evidence.shape:
            raise StateError(
                f"$.shape: expected {test._evidence.shape}, got {tuple(state['shape'])}: another reference"
            )
        test._evidence = np.frombuffer(state["evidence"], "<f8").astype(np.float64).reshape(test._evidence.shape)
        test._excursion = np.frombuffer(state["excursion"], "<f8").astype(np.float64)
        test._change_block = np.frombuffer(state["change_block"], "<i8").astype(np.int64)
        test._block_count = state["block_count"]
        test._mixed = None
        return test

    def _mix(self) -> Floats:
        if self._mixed is None:
            self._mixed = (self._bank.weights * self._evidence).sum(axis=1)
        return self._mixed

    def _follow_changes(self, growth: Floats) -> None:
        """Estimate the change as the start of the last run of blocks whose evidence, multiplied up, is above 1.

        `growth` is the block's increment averaged over the ways by the evidence they had before, a predictable
        mixture; this is its CUSUM.
        """
        begins = self._excursion <= 1.0
        self._change_block[begins] = self._block_count
        self._excursion = np.minimum(np.where(begins, 1.0, self._excursion) * growth, _CAP)


_PARAMETERS: Final = (
    "expected_events_between_false_incidents",
    "block_events",
    "tolerance",
    "reference_confidence",
)


def _check(events: float, block_events: int, tolerance: float, confidence: float) -> None:
    if not events >= 1.0:
        raise ValueError(f"$.expected_events_between_false_incidents: expected at least 1, got {events}")
    if block_events < 1:
        raise ValueError(f"$.block_events: expected at least 1, got {block_events}")
    if not 0.0 <= tolerance < 1.0:
        raise ValueError(f"$.tolerance: expected a number in [0, 1), got {tolerance}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"$.reference_confidence: expected a number in (0, 1), got {confidence}")
