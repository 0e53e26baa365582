"""Rows of one kind in packed blocks, in the order in which they were added.

Rows never change, but for the times of an older program's (see `set_times`). A row that is removed leaves a hole, noted
in its block's flags; a block whose rows are all removed is given back, and two neighbours that have become sparse are
packed into one. So a snapshot writes a block's rows once and afterwards only its flags, 1 kB, however many of its rows
a batch of labels hits.

All blocks lie in one array, so that a batch of rows is one gather. Where that lies is `memory`'s business; no view of
it outlives the method that made it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from service.core.columns import Int
from service.core.join.memory import HeapRows, RowMemory, Spill
from service.core.join.rows import Raw

Buffer = bytes | memoryview

SHIFT = 13
BLOCK_ROWS = 1 << SHIFT
"""Rows of a block: the widest rows, 100 bytes, make 819,200, which fits in a record of 900 kB."""
MAX_SLOTS = 1 << (30 - SHIFT)
"""Blocks of a store: row numbers have 30 bits, so 1.07 G rows. More is an error; `max_entries` evicts long before."""
MAX_EXTRA_BYTES = 1 << 17
"""Bytes of one prediction's extra: 10,000 classes of 8 bytes fit. A block's extras then stay below 2^31."""
LENGTH_BYTES = 4

_NEVER = np.iinfo(np.int64).max
_SPARE_SLOTS = 4


@dataclass(slots=True)
class Block:
    """One block, by age: `number` rises with every block that is opened."""

    number: int
    used: int = 0
    extras: bytearray = field(default_factory=bytearray)
    """Length-prefixed extras of its rows, in their order."""
    extras_written: int = 0
    """Bytes of `extras` that a snapshot already holds."""


class Moved(NamedTuple):
    """Rows that compaction moved, with their new content; shape (n,) each."""

    rows: Raw
    old: Int
    new: Int


class RowStore:
    """Append, take and remove rows by number. Numbers stay valid until the row is removed or reported as moved."""

    def __init__(self, row: np.dtype[np.void], spill: Spill | None = None) -> None:
        self.row = row
        self._spill = spill
        self._has_extras = "extra" in (row.names or ())
        self.count = 0
        """Rows that live."""
        self.extra_bytes = 0
        """Bytes of their extras, with lengths."""
        self.next_number = 0
        self.blocks: dict[int, Block] = {}
        """Slot to block, oldest block first."""
        self._free: list[int] = []
        self._memory: RowMemory = HeapRows(row.itemsize)
        self._live = np.zeros(0, np.bool_)
        # By slot.
        self.alive = np.zeros(0, np.int64)
        self.rows_changed = np.zeros(0, np.bool_)
        self.flags_changed = np.zeros(0, np.bool_)
        self._oldest_ms = np.zeros(0, np.int64)
        self._tail = -1

    @property
    def nbytes(self) -> int:
        """Bytes of memory, holes and spare room included."""
        extras = sum(len(block.extras) for block in self.blocks.values())
        return self._memory.nbytes + self._live.nbytes + extras

    @property
    def _rows(self) -> Raw:
        return self._memory.rows

    @property
    def sparse(self) -> bool:
        """Whether more than half of the blocks' rows are holes (beyond a few blocks, which cost nothing)."""
        return len(self.blocks) * BLOCK_ROWS > 2 * self.count + _SPARE_SLOTS * BLOCK_ROWS

    def take(self, numbers: Int) -> Raw:
        """Copy rows."""
        return self._rows.take(numbers)

    def append(self, rows: Raw, extras: Sequence[bytes | None] | None = None) -> Int:
        """Add rows at the end; gives their numbers. Extras go beside them: the rows get to know where."""
        numbers = np.empty(len(rows), np.int64)
        start = 0
        while start < len(rows):
            slot = self._open_slot()
            block = self.blocks[slot]
            stop = min(len(rows), start + BLOCK_ROWS - block.used)
            part = rows[start:stop]
            if self._has_extras:
                self._add_extras(block, part, extras[start:stop] if extras is not None else None)
            at = (slot << SHIFT) + block.used
            self._put(slot, at, part)
            block.used += len(part)
            numbers[start:stop] = np.arange(at, at + len(part))
            start = stop
        self.count += len(rows)
        return numbers

    def _put(self, slot: int, at: int, rows: Raw) -> None:
        stop = at + len(rows)
        self._rows[at:stop] = rows
        self._live[at:stop] = True
        self.alive[slot] += len(rows)
        self.rows_changed[slot] = True
        oldest = rows.view(self.row)["time_ms"].min(initial=_NEVER)
        self._oldest_ms[slot] = min(oldest, self._oldest_ms[slot])

    def _add_extras(self, block: Block, rows: Raw, extras: Sequence[bytes | None] | None) -> None:
        places = rows.view(self.row)["extra"]
        places[:] = -1
        for i, extra in enumerate(extras or ()):
            if extra is not None:
                places[i] = len(block.extras)
                block.extras += len(extra).to_bytes(LENGTH_BYTES, "little")
                block.extras += extra
                self.extra_bytes += LENGTH_BYTES + len(extra)

    def extras_of(self, numbers: Int) -> list[bytes | None]:
        """Give the extras of rows that live."""
        if not self.extra_bytes:
            return [None] * len(numbers)
        places = self.take(numbers).view(self.row)["extra"].tolist()
        slots = (numbers >> SHIFT).tolist()
        return [
            _extra_at(self.blocks[slot].extras, place) if place >= 0 else None
            for slot, place in zip(slots, places, strict=True)
        ]

    def remove(self, numbers: Int) -> None:
        """Remove rows that live, all different."""
        if self.extra_bytes:
            self.extra_bytes -= _bytes_of(self.extras_of(numbers))
        self._live[numbers] = False
        slots = numbers >> SHIFT
        np.subtract.at(self.alive, slots, 1)
        self.flags_changed[slots] = True
        self.count -= len(numbers)
        emptied = slots[self.alive.take(slots) == 0]
        for slot in np.unique(emptied).tolist() if len(emptied) else ():
            self._release(slot)

    def slots_with_dead(self, cutoff_ms: int) -> list[int]:
        """Which blocks hold, or held, a row older than the cutoff; oldest block first."""
        slots = (self._oldest_ms < cutoff_ms).nonzero()[0].tolist()
        return sorted(slots, key=lambda slot: self.blocks[slot].number)

    def dead_in(self, slot: int, cutoff_ms: int) -> Int:
        """Give a block's rows older than the cutoff. The caller removes them: they are not given again."""
        start = slot << SHIFT
        stop = start + self.blocks[slot].used
        times = self._rows[start:stop].view(self.row)["time_ms"]
        old = times < cutoff_ms
        live = self._live[start:stop]
        self._oldest_ms[slot] = times[live & ~old].min(initial=_NEVER)
        return (live & old).nonzero()[0] + start

    def has_before(self, time_ms: int) -> bool:
        """Whether a row may have a time before this one."""
        return bool((self._oldest_ms < time_ms).any())

    def set_times(self, old_ms: int, new_ms: int) -> None:
        """Give the rows that have one time another: the only change that rows ever see."""
        for slot, block in self.blocks.items():
            start = slot << SHIFT
            times = self._rows[start : start + block.used].view(self.row)["time_ms"]
            found = times == old_ms
            if found.any():
                times[found] = new_ms
                self.rows_changed[slot] = True
                live = self._live[start : start + block.used]
                self._oldest_ms[slot] = times[live].min(initial=_NEVER)

    def live_in(self, slot: int) -> Int:
        """Give the numbers of a block's rows that live, oldest first."""
        start = slot << SHIFT
        return self._live[start : start + self.blocks[slot].used].nonzero()[0] + start

    def oldest(self) -> Iterator[Int]:
        """Give all rows, oldest first, a block at a time. What was given may be removed meanwhile."""
        for slot in list(self.blocks):
            yield self.live_in(slot)

    def rows_of(self, slot: int) -> bytes:
        """Give a block's rows, removed ones too."""
        start = slot << SHIFT
        return self._rows[start : start + self.blocks[slot].used].tobytes()

    def flags_of(self, slot: int) -> bytes:
        """Give a block's flags, one bit a row, set where the row lives."""
        start = slot << SHIFT
        return np.packbits(self._live[start : start + self.blocks[slot].used]).tobytes()

    def load(self, block: Block, rows: Buffer, flags: Buffer | None) -> int:
        """Add a block as `rows_of` and `flags_of` gave it (no flags: all rows live), as the newest; gives its slot."""
        slot = self._new_slot(block)
        items = np.frombuffer(rows, self._rows.dtype)
        block.used = len(items)
        self._put(slot, slot << SHIFT, items)
        if flags is not None:
            live = np.unpackbits(np.frombuffer(flags, np.uint8), count=block.used).astype(np.bool_)
            self._live[slot << SHIFT : (slot << SHIFT) + block.used] = live
            self.alive[slot] = np.count_nonzero(live)
        self.rows_changed[slot] = False
        self.count += int(self.alive[slot])
        self._tail = slot
        return slot

    def make_room(self, blocks: int) -> None:
        """Take memory for so many blocks at once."""
        if blocks > len(self.alive):
            self._resize(blocks)

    def _open_slot(self) -> int:
        """Give the slot of the newest block, a new one where that is full."""
        if self._tail >= 0 and self.blocks[self._tail].used < BLOCK_ROWS:
            return self._tail
        self._tail = self._new_slot(Block(self.next_number))
        self.next_number += 1
        return self._tail

    def _new_slot(self, block: Block) -> int:
        if not self._free:
            self._resize(max(len(self.alive) + 1, len(self.alive) * 9 // 8))
        slot = self._free.pop()
        self.blocks[slot] = block
        return slot

    def _resize(self, slots: int) -> None:
        """Grow by an eighth, so that spare room is at most 8 of 64 bytes a row; or cut free slots off the end."""
        if slots > MAX_SLOTS:
            raise MemoryError(f"a store of the join holds at most {MAX_SLOTS * BLOCK_ROWS} rows")
        before = len(self.alive)
        self._free = [slot for slot in self._free if slot < slots] + list(range(slots - 1, before - 1, -1))
        self._memory = self._place(slots << SHIFT)
        self._memory.resize(slots << SHIFT)
        self._live.resize(slots << SHIFT, refcheck=False)
        for column in (self.alive, self.rows_changed, self.flags_changed, self._oldest_ms):
            column.resize(slots, refcheck=False)
        self._oldest_ms[before:] = _NEVER

    def _place(self, rows: int) -> RowMemory:
        """Say where so many rows lie. What was moved out once stays out: going to and fro would cost more."""
        spill = self._spill
        if spill is None or rows <= spill.above_rows:
            return self._memory
        self._spill, moved = None, spill.make(self.row.itemsize)
        moved.resize(len(self._rows))
        moved.rows[:] = self._rows
        return moved

    def rest(self) -> None:
        """Be told that a batch is done."""
        self._memory.rest()

    def _release(self, slot: int) -> None:
        """Forget a block without live rows."""
        del self.blocks[slot]
        self._give_back(slot)

    def _give_back(self, slot: int) -> None:
        self._live[slot << SHIFT : (slot + 1) << SHIFT] = False
        self._oldest_ms[slot] = _NEVER
        self.alive[slot] = 0
        self.rows_changed[slot] = self.flags_changed[slot] = False
        self._free.append(slot)
        if slot == self._tail:
            self._tail = -1

    def compact(self) -> Moved | None:
        """Do one step of packing: two sparse neighbours into one block, or the last block into a hole.

        Order by age stays as it is, and so does everything that can be seen from outside but the numbers of the rows.
        """
        if self.sparse and (pair := self._sparsest_pair()) is not None:
            return self._pack(*pair)
        if len(self._free) > len(self.blocks) + _SPARE_SLOTS:
            return self._cut()
        return None

    def _sparsest_pair(self) -> tuple[int, int] | None:
        """Find the two neighbours with the fewest rows together. While the store is sparse some pair fits."""
        order = np.fromiter(self.blocks, np.int64, len(self.blocks))[:-1]  # the newest is still being filled
        if len(order) < 2:
            return None
        together = self.alive[order[:-1]] + self.alive[order[1:]]
        best = int(together.argmin())
        return (int(order[best]), int(order[best + 1])) if together[best] <= BLOCK_ROWS else None

    def _pack(self, first: int, second: int) -> Moved:
        """Pack two neighbours into the place of the first, which keeps its number and so its age."""
        old = np.concatenate((self.live_in(first), self.live_in(second)))
        rows, extras = self.take(old), self.extras_of(old)
        self._clear(first)
        self._clear(second)
        self._release(second)
        block = self.blocks[first]
        if self._has_extras:
            self._add_extras(block, rows, extras)
        self._put(first, first << SHIFT, rows)
        block.used = len(old)
        return Moved(rows, old, (first << SHIFT) + np.arange(len(old)))

    def _clear(self, slot: int) -> None:
        """Empty a block whose rows have been copied."""
        block = self.blocks[slot]
        self.extra_bytes -= _bytes_of(self.extras_of(self.live_in(slot)))
        block.used = block.extras_written = 0
        block.extras = bytearray()
        self._live[slot << SHIFT : (slot + 1) << SHIFT] = False
        self.alive[slot] = 0
        self._oldest_ms[slot] = _NEVER

    def _cut(self) -> Moved | None:
        """Cut free memory off the end, where no block lies any more; else move the last block into a hole."""
        last, hole = max(self.blocks, default=-1), min(self._free)
        if hole > last:
            self._resize(last + 1)
            return None
        block = self.blocks[last]
        old = self.live_in(last)
        source, target = last << SHIFT, hole << SHIFT
        self._rows[target : target + block.used] = self._rows[source : source + block.used]
        self._live[target : target + block.used] = self._live[source : source + block.used]
        for column in (self.alive, self.rows_changed, self.flags_changed, self._oldest_ms):
            column[hole] = column[last]
        # A dict keeps its order, which is that of age, only where keys stay; this one changes.
        self.blocks = {hole if slot == last else slot: block for slot, block in self.blocks.items()}
        self._free.remove(hole)
        was_tail = self._tail == last
        self._give_back(last)
        self._tail = hole if was_tail else self._tail
        return Moved(self.take(old - source + target), old, old - source + target)


def _extra_at(extras: bytearray, place: int) -> bytes:
    start = place + LENGTH_BYTES
    return bytes(extras[start : start + int.from_bytes(extras[place:start], "little")])


def _bytes_of(extras: Sequence[bytes | None]) -> int:
    return sum(LENGTH_BYTES + len(extra) for extra in extras if extra is not None)
