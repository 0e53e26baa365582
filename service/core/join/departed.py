"""Keys that have left the join, for a while: to tell whose label came too late, and whose came once more.

A key is remembered by its first 64 bits, so that of `limit` keys one is taken for a stranger's with a probability of
limit / 2^64 (500,000: 3e-14). Rows lie in blocks in the order in which they came; whole blocks go when there are
`limit` newer rows. Rows that come between two calls of `settle` are put in the order of their keys by it, so that
neither order nor bounds depend on where batches were cut. The index over them is made anew from the rows at a restore.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.core.columns import Bool, Int
from service.core.join.index import U64

DEPARTED_ROW: Final = np.dtype([("hi", "<u8"), ("made_ms", "<i8"), ("answered", "u1")])
"""Key, event time of the prediction, and whether it had a label. 17 bytes, and 16 in the index."""
BLOCK_ROWS: Final = 8192

Rows = NDArray[np.void]


class Known(NamedTuple):
    """What is remembered of keys. Shape (n,) each."""

    found: Bool
    made_ms: Int
    answered: Bool


class Departed:
    """The newest keys that left, at least `limit` of them; 0: none."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self.blocks: dict[int, Rows] = {}
        """Number to rows, oldest first; all but the newest are full."""
        self.changed: set[int] = set()
        self.pending: list[Rows] = []
        """Come since the last `settle`."""
        self.pending_written = 0
        """How many of them a snapshot already holds."""
        self._runs: list[tuple[U64, Int]] = []
        """Sorted keys with the numbers of their rows, longer ones first."""

    def add(self, hi: U64, made_ms: Int, answered: Bool | bool) -> None:
        """Take keys, shape (n,), that have left, in the order in which they did."""
        if self.limit and len(hi):
            rows = np.empty(len(hi), DEPARTED_ROW)
            rows["hi"], rows["made_ms"], rows["answered"] = hi, made_ms, answered
            self.pending.append(rows)

    def settle(self) -> None:
        """Let what came be found from now on, and forget what is beyond the limit."""
        if not self.pending:
            return
        rows = np.concatenate(self.pending)
        self.pending.clear()
        self.pending_written = 0
        rows = rows[rows["hi"].argsort(kind="stable")]
        self._index(rows, self.total)
        while len(rows):
            number, used = divmod(self.total, BLOCK_ROWS)
            part, rows = rows[: BLOCK_ROWS - used], rows[BLOCK_ROWS - used :]
            held = self.blocks.get(number)
            self.blocks[number] = part if held is None else np.concatenate([held, part])
            self.changed.add(number)
            self.total += len(part)
        for number in [number for number in self.blocks if (number + 1) * BLOCK_ROWS <= self.total - self.limit]:
            del self.blocks[number]
            self.changed.discard(number)
        if sum(len(keys) for keys, _ in self._runs) > 2 * self.limit + 2 * BLOCK_ROWS:
            self._runs.clear()
            for number, held in self.blocks.items():
                self._index(held, number * BLOCK_ROWS)

    def _index(self, rows: Rows, first: int) -> None:
        order = rows["hi"].argsort(kind="stable")
        run = (rows["hi"][order], order.astype(np.int64) + first)
        while self._runs and len(self._runs[-1][0]) < 2 * len(run[0]):
            keys, numbers = (np.concatenate(parts) for parts in zip(self._runs.pop(), run, strict=True))
            order = keys.argsort(kind="stable")
            run = (keys[order], numbers[order])
        self._runs.append(run)

    def find(self, hi: U64) -> Known:
        """Look keys up, shape (n,). Of a key that left several times the last time counts."""
        numbers = np.full(len(hi), -1, np.int64)
        for keys, held in self._runs:
            # Equal keys stand in the order in which they came: the last is the newest.
            at = keys.searchsorted(hi, side="right") - 1
            same = (at >= 0) & (keys[at] == hi)
            numbers[same] = np.maximum(numbers[same], held[at[same]])
        rows = np.zeros(len(hi), DEPARTED_ROW)
        found = np.zeros(len(hi), np.bool_)
        for place, number in enumerate(numbers.tolist()):
            block = self.blocks.get(number // BLOCK_ROWS)
            if number >= 0 and block is not None:
                rows[place], found[place] = block[number % BLOCK_ROWS], True
        return Known(found, rows["made_ms"].astype(np.int64), rows["answered"].astype(np.bool_))

    def restore(self, total: int, blocks: Iterable[tuple[int, Rows]], pending: Rows) -> None:
        """Take over the rows of a snapshot."""
        self.total = total
        for number, held in blocks:
            self.blocks[number] = held
            self._index(held, number * BLOCK_ROWS)
        self.pending = [pending] if len(pending) else []
        self.pending_written = len(pending)
