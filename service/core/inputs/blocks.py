"""Rows put by until a block of them is whole.

Monitors of inputs judge whole blocks only: a block ends at a row number and not where a batch happens to end, so no
output can depend on how batches were cut.
"""

from typing import NamedTuple, TypedDict

import numpy as np

from detectors.protocol import StateError
from service.core.columns import Float, Int


class Moment(NamedTuple):
    """The record at which something became known."""

    sequence: int
    watermark_ms: int


class BlockStart(NamedTuple):
    """The first row of a block: how many rows came before it, its event time, and its offset."""

    row: int
    time_ms: int
    offset: int


class Block(NamedTuple):
    """Rows (shape (n, width)) in order, valid until the next append."""

    number: int
    """0 for the first block, which is the reference window where there is one."""
    rows: Float
    start: BlockStart
    end: Moment


class RowTimes(NamedTuple):
    """When and where rows came from; shape (n,) each."""

    sequence: Int
    watermark_ms: Int
    time_ms: Int
    offset: Int

    def part(self, start: int, end: int) -> "RowTimes":
        """Give the rows from start to before end."""
        if start == 0 and end >= len(self.sequence):
            return self
        rows = slice(start, end)
        return RowTimes._make([column[rows] for column in self])

    def last(self) -> Moment:
        """Give the moment of the last row."""
        return Moment(int(self.sequence[-1]), int(self.watermark_ms[-1]))


class PendingState(TypedDict):
    """The snapshot of PendingRows: `rows` are count x width doubles, little-endian."""

    first_events: int
    block_events: int
    number: int
    count: int
    taken: int
    first: BlockStart
    width: int
    rows: bytes


class PendingRows:
    """A growing block of float64 rows. Memory: 8 x width bytes a row, doubled at most, up to the block's size.

    The first block may have a size of its own (the reference window).
    """

    def __init__(self, first_events: int, block_events: int) -> None:
        self.first_events = first_events
        self.block_events = block_events
        self.number = 0
        """Blocks that went out."""
        self.count = 0
        """Rows that are put by."""
        self._taken = 0
        """Rows that went out."""
        self._first = BlockStart(0, 0, 0)
        self._rows: Float = np.empty((0, 0))

    @property
    def room(self) -> int:
        """How many rows the block still needs: at least 1."""
        return (self.block_events if self.number else self.first_events) - self.count

    @property
    def rows(self) -> Float:
        """What is put by, shape (count, width); valid until the next append."""
        return self._rows[: self.count]

    def skip_first(self) -> None:
        """Count the first block as gone: the reference window came from elsewhere."""
        self.number = 1

    def close_first(self) -> Float:
        """End the first block with the rows that are put by, and give them: shape (count, width), count > 0."""
        rows = self.rows
        self._rows = np.empty((0, 0))
        self.number = 1
        self._taken += self.count
        self.count = 0
        return rows

    def append(self, rows: Float, times: RowTimes) -> Block | None:
        """Put rows by, shape (n, width) with 0 < n <= room, and give the block once it is whole.

        A width greater than before pads the block's earlier rows with NaN.
        """
        if self.count == 0:
            self._first = BlockStart(self._taken, int(times.time_ms[0]), int(times.offset[0]))
        end = self.count + len(rows)
        if end > len(self._rows) or rows.shape[1] != self._rows.shape[1]:
            self._reserve(end, rows.shape[1])
        self._rows[self.count : end] = rows
        self.count = end
        return None if self.room else self._take(times.last())

    def _reserve(self, count: int, width: int) -> None:
        capacity = len(self._rows)
        while capacity < count:
            capacity = max(16, 2 * capacity)
        old = self._rows[: self.count]
        self._rows = np.full((capacity, width), np.nan)
        self._rows[: self.count, : old.shape[1]] = old

    def _take(self, end: Moment) -> Block:
        block = Block(self.number, self.rows, self._first, end)
        if self.number == 0 and self.first_events > self.block_events:
            self._rows = np.empty((0, 0))  # the block keeps it; the next ones need less
        self.number += 1
        self._taken += self.count
        self.count = 0
        return block

    def size_bytes(self, width: int) -> int:
        """Say what rows of so many columns take here: a power of two of them, as many as a block once needed."""
        rows = max(self.count, self.block_events if self.number > 1 else 0)
        return 8 * width * max(16, 1 << (rows - 1).bit_length()) if rows else 0

    def snapshot(self) -> PendingState:
        """Give the rows as bytes (float64, little-endian, row by row)."""
        rows = self.rows
        return {
            "first_events": self.first_events,
            "block_events": self.block_events,
            "number": self.number,
            "count": self.count,
            "taken": self._taken,
            "first": self._first if self.count else BlockStart(0, 0, 0),
            "width": rows.shape[1] if self.count else 0,
            "rows": rows.astype("<f8").tobytes(),
        }

    def restore(self, state: PendingState) -> None:
        """Take over a snapshot, its sizes included. Raises StateError when its bytes do not fit its shape."""
        count, width = state["count"], state["width"]
        if len(state["rows"]) != 8 * count * width:
            raise StateError(f"$.rows: expected {8 * count * width} bytes, got {len(state['rows'])}")
        self.first_events, self.block_events = state["first_events"], state["block_events"]
        self.number, self.count, self._taken = state["number"], count, state["taken"]
        self._first = BlockStart(*state["first"])
        self._rows = np.frombuffer(state["rows"], "<f8").reshape(count, width).astype(np.float64)
