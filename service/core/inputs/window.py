"""Counts of the last blocks, and whether they say that a drift is over."""

from collections import deque
from typing import TypedDict

import numpy as np

from detectors.histogram import Counts
from service.core.columns import Bool


class RingState(TypedDict):
    """The snapshot of a ring of blocks' counts: uint32, little-endian."""

    blocks: list[bytes]


class BlockWindow:
    """The counts of the last `blocks` blocks, shape (F, width) each, and their sum: the current window."""

    def __init__(self, blocks: int, shape: tuple[int, int]) -> None:
        self._blocks = blocks
        self._ring: deque[Counts] = deque()
        self.counts: Counts = np.zeros(shape, np.int64)

    def add(self, counts: Counts) -> None:
        """Take up the counts of the next block, and let go of the oldest when there are too many."""
        self._ring.append(counts)
        self.counts = self.counts + counts
        while len(self._ring) > self._blocks:
            self.counts -= self._ring.popleft()

    def latest(self, blocks: int) -> Counts:
        """Give the sum of the counts of the last `blocks` blocks, at least one; of all where there are fewer."""
        newest = list(self._ring)[-max(blocks, 1) :]
        return np.asarray(np.sum(newest, axis=0), dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ring)

    @property
    def is_full(self) -> bool:
        """Whether as many blocks are in it as it may hold."""
        return len(self._ring) == self._blocks

    def snapshot(self) -> RingState:
        """Give the blocks' counts as bytes (uint32, little-endian: a block has at most 100,000 events)."""
        return {"blocks": [counts.astype("<u4").tobytes() for counts in self._ring]}

    def restore(self, state: RingState) -> None:
        """Take over a snapshot; of a window that was longer, the newest blocks."""
        shape = self.counts.shape
        self._ring.clear()
        self.counts = np.zeros(shape, np.int64)
        for data in state["blocks"]:
            self.add(np.frombuffer(data, "<u4").astype(np.int64).reshape(shape))


class RecoveryState(TypedDict):
    """The snapshot of what is collected since the last alarm: `counts` are int64, little-endian."""

    needed: int
    collected: int
    counts: bytes


class Recovery:
    """Collects blocks after a drift until they outweigh what found it.

    The current window alone cannot say that a drift is over: a small one takes more blocks to be seen than the window
    has, and would be called over and found again for ever. So as many blocks as it took to find the drift, and at least
    one window of them, must agree with the reference together. A block whose window disagrees begins the count anew.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._needed = 0
        self._collected = 0
        self.counts: Counts = np.zeros(shape, np.int64)

    def begin(self, needed: int) -> None:
        """Begin anew, to ask for `needed` blocks."""
        self._needed = needed
        self.restart()

    def restart(self) -> None:
        """Forget the blocks collected."""
        self._collected = 0
        self.counts = np.zeros_like(self.counts)

    def add(self, counts: Counts) -> bool:
        """Collect a block; say whether there are enough."""
        self._collected += 1
        self.counts = self.counts + counts
        return self._collected >= self._needed

    def snapshot(self) -> RecoveryState:
        """Give the counts as bytes; nothing while no block is collected."""
        collected = self.counts.astype("<i8").tobytes() if self._collected else b""
        return {"needed": self._needed, "collected": self._collected, "counts": collected}

    def restore(self, state: RecoveryState) -> None:
        """Take over a snapshot."""
        self.begin(state["needed"])
        self._collected = state["collected"]
        if self._collected:
            self.counts = np.frombuffer(state["counts"], "<i8").astype(np.int64).reshape(self.counts.shape)


def mask_to_list(mask: Bool) -> list[int]:
    """Give the indices that a mask marks."""
    indices: list[int] = np.flatnonzero(mask).tolist()
    return indices
