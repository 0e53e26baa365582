"""The latest predictions of one model version, as far as their accuracy can be estimated, in bounded memory."""

from collections.abc import Mapping
from typing import Final, NamedTuple, TypedDict

import msgspec
import numpy as np

from detectors.protocol import StateError
from service.core.columns import Cells, Float, Int
from service.core.metrics.confidence import NO_CELL
from service.core.settings import WindowSettings

BLOCK_ROWS: Final = 512
"""Rows of a block, 6,656 bytes: what is written anew when a prediction comes."""

_MOST_WAITING: Final = 64
"""Batches, or rows, that wait to be put in their places: a thousand rows cost as much as one. 80 kB at most."""

_VERSION: Final = 1
_TYPES: Final = ("<i8", "<f4", "u1")


class _PackedBlock(msgspec.Struct, array_like=True, frozen=True):
    """A block in the changelog: columns as bytes, 13 a row."""

    version: int
    block: int
    watermark_ms: bytes
    weight: bytes
    cell: bytes


class Rows(NamedTuple):
    """Predictions in order. Shape (n,) each."""

    watermark_ms: Int
    weight: Float
    cell: Cells

    def part(self, start: int, stop: int) -> "Rows":
        """Give the rows from start to before stop."""
        return Rows(self.watermark_ms[start:stop], self.weight[start:stop], self.cell[start:stop])


def _empty(count: int) -> Rows:
    return Rows(*(np.zeros(count, kind) for kind in _TYPES))


class RecentState(TypedDict):
    """The snapshot of RecentPredictions, without the rows."""

    version: int
    first: int
    total: int


class RecentPredictions:
    """The latest `capacity` predictions that came with a confidence. Those pushed out are forgotten.

    Rows lie in blocks by the running number of the prediction, so that a full block never changes again.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._blocks: dict[int, Rows] = {}
        self._first = self._total = 0
        """Number of the oldest prediction that is kept, and of the next one that comes."""
        self._changed: set[int] = set()
        self._written: set[int] = set()
        self._waiting: list[Rows] = []

    def extend(self, watermark_ms: Int, weight: Float, cells: Cells) -> None:
        """Take predictions in order, shape (n,) each; those in NO_CELL are left out."""
        self._waiting.append(Rows(watermark_ms.copy(), weight.copy(), cells.copy()))
        if len(self._waiting) >= _MOST_WAITING or len(cells) >= _MOST_WAITING:
            self._settle()

    def select(self, settings: WindowSettings, now_ms: int) -> Rows:
        """Give the predictions of a window at a moment of event time: the latest, or those of the time before it.

        Time is the watermark at the prediction, as for outcomes it is that at the outcome.
        """
        self._settle()
        if settings.last is not None:
            return self._gather(max(self._first, self._total - settings.last), self._total)
        since_ms = now_ms - (settings.duration_ms or 0)
        rows = self._gather(self._first, self._total)
        start, stop = np.searchsorted(rows.watermark_ms, [since_ms, now_ms], side="left").tolist()
        return rows.part(start, stop)

    def all(self) -> Rows:
        """Give all predictions that are kept."""
        self._settle()
        return self._gather(self._first, self._total)

    def _gather(self, start: int, stop: int) -> Rows:
        if start == stop:
            return _empty(0)
        numbers = range(start // BLOCK_ROWS, -(-stop // BLOCK_ROWS))
        columns = zip(*(self._blocks[number] for number in numbers), strict=True)
        before = numbers.start * BLOCK_ROWS
        return Rows(*(np.concatenate(parts) for parts in columns)).part(start - before, stop - before)

    def _settle(self) -> None:
        if not self._waiting:
            return
        rows = Rows(*(np.concatenate(parts) for parts in zip(*self._waiting, strict=True)))
        self._waiting.clear()
        known = rows.cell != NO_CELL
        if not known.all():
            rows = Rows(*(column[known] for column in rows))
        end = self._total + len(rows.cell)
        self._first = max(self._first, end - self.capacity)
        # What lies before would vanish at once.
        start, base = max(self._total, self._first // BLOCK_ROWS * BLOCK_ROWS), self._total
        self._total = end
        while start < end:
            number, low = divmod(start, BLOCK_ROWS)
            stop = min(end, (number + 1) * BLOCK_ROWS)
            block = self._blocks.setdefault(number, _empty(BLOCK_ROWS))
            new, place = rows.part(start - base, stop - base), slice(low, low + stop - start)
            block.watermark_ms[place], block.weight[place], block.cell[place] = new
            self._changed.add(number)
            start = stop
        self._forget()

    def _forget(self) -> None:
        for number in [number for number in self._blocks if number < self._first // BLOCK_ROWS]:
            del self._blocks[number]
        self._changed &= self._blocks.keys()

    def snapshot_blocks(self) -> list[tuple[str, bytes]]:
        """Give every block as (key, bytes)."""
        self._settle()
        return [(_key(number), self._pack(number)) for number in self._blocks]

    def snapshot(self) -> RecentState:
        """Give everything but the rows, which `changed_blocks` gives."""
        self._settle()
        return {"version": _VERSION, "first": self._first, "total": self._total}

    def changed_blocks(self) -> tuple[list[tuple[str, bytes]], list[str]]:
        """Give the blocks that changed since the last call, by key, and the keys of those that vanished."""
        self._settle()
        changed = [(_key(number), self._pack(number)) for number in self._changed]
        vanished = sorted(map(_key, self._written - self._blocks.keys()))
        self._changed.clear()
        self._written = set(self._blocks)
        return sorted(changed), vanished

    def _pack(self, number: int) -> bytes:
        columns = [column.tobytes() for column in self._blocks[number].part(0, self._length(number))]
        return msgspec.msgpack.encode(_PackedBlock(_VERSION, number, *columns))

    def _length(self, number: int) -> int:
        return min(BLOCK_ROWS, self._total - number * BLOCK_ROWS)

    def restore(self, state: RecentState, blocks: Mapping[str, bytes]) -> None:
        """Take over a snapshot; other keys in `blocks` are let be. The capacity may differ from the snapshot's.

        Raises StateError where the snapshot is from a newer version or incomplete.
        """
        if state.get("version") != _VERSION:
            raise StateError(f"expected recent predictions of version {_VERSION}, got {state.get('version')}")
        self._first, self._total = state["first"], state["total"]
        self._waiting.clear()
        self._blocks = {}
        if self._total > self._first:
            for number in range(self._first // BLOCK_ROWS, -(-self._total // BLOCK_ROWS)):
                rows = read_block(blocks.get(_key(number), b""), number)
                if len(rows.cell) != self._length(number):
                    raise StateError(f"block {number} of recent predictions has {len(rows.cell)} rows, which is wrong")
                block = self._blocks[number] = _empty(BLOCK_ROWS)
                place = slice(0, len(rows.cell))
                block.watermark_ms[place], block.weight[place], block.cell[place] = rows
        self._written = set(self._blocks)
        self._changed = set()
        self._first = max(self._first, self._total - self.capacity)
        self._forget()


def read_block(packed: bytes, number: int) -> Rows:
    """Read the block of that number as `changed_blocks` gave it. Raises StateError for any other bytes."""
    try:
        content = msgspec.msgpack.decode(packed, type=_PackedBlock)
        parts = (content.watermark_ms, content.weight, content.cell)
        rows = Rows(*(np.frombuffer(data, kind) for data, kind in zip(parts, _TYPES, strict=True)))
    except (msgspec.DecodeError, ValueError) as error:
        raise StateError(f"missing or damaged block {number} of recent predictions: {error}") from error
    if content.version != _VERSION:
        raise StateError(f"expected a block of recent predictions of version {_VERSION}, got {content.version}")
    if content.block != number or len({len(column) for column in rows}) > 1:
        raise StateError(f"damaged block {number} of recent predictions: its parts do not fit together")
    return rows


def _key(number: int) -> str:
    return f"predictions-{number:010d}"
