"""All entries of the join: the key table and the three stores, kept in step."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from service.core.columns import Int
from service.core.join.index import U64, KeyTable
from service.core.join.memory import Spill
from service.core.join.rows import KINDS, ROW_TYPES, Raw
from service.core.join.store import BLOCK_ROWS, Moved, RowStore

_KIND_SHIFT = 30
_ROW = (1 << _KIND_SHIFT) - 1

# What an entry is counted as: its row, its flag, and its share of the table at the mean load of 9/16
# (64 bytes / (7 slots * 9/16) = 16.3).
ENTRY_BYTES = {kind: ROW_TYPES[kind].itemsize + 1 + 16 for kind in KINDS}


@dataclass(slots=True)
class Matches:
    """Which keys of a batch have an entry of one kind."""

    index: Int
    """Positions in the batch, rising."""
    numbers: Int
    """Numbers of their rows."""
    rows: Raw


@dataclass(slots=True)
class Found:
    """What a batch of keys finds. `slot`: shape (n,), -1 where there is no entry."""

    slot: Int
    of: dict[int, Matches]
    """Kind to its matches; kinds that nobody has are absent."""


class Entries:
    """At most one entry per key, of one of three kinds. Knows nothing of time or of what the kinds mean."""

    def __init__(self, spill: Spill | None = None) -> None:
        self.stores = {kind: RowStore(ROW_TYPES[kind], spill) for kind in KINDS}
        self._table = KeyTable()
        self._unpaid = 0

    @property
    def count(self) -> int:
        """Entries of all kinds."""
        return self._table.count

    @property
    def size_bytes(self) -> int:
        """Bytes that the entries are counted as: what they need when packed, wherever batches were cut."""
        return sum(ENTRY_BYTES[kind] * store.count + store.extra_bytes for kind, store in self.stores.items())

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory that are really held, holes and spare room included."""
        return self._table.nbytes + sum(store.nbytes for store in self.stores.values())

    def reserve(self, entries: int) -> None:
        """Make room in the table for so many more. What `find` gives stays valid until the next call."""
        if self.count + entries > self._table.limit:
            self.rebuild(self.count + entries)

    def rebuild(self, entries: int) -> None:
        """Make the table anew from the rows, with room for so many."""
        self._table.fill(self._keys(), entries)

    def _keys(self) -> Iterator[tuple[U64, U64, Int]]:
        for kind, store in self.stores.items():
            for numbers in store.oldest():
                hi, lo = _key_columns(store.take(numbers), kind)
                yield hi, lo, _reference(kind, numbers)

    def find(self, hi: U64, lo: U64) -> Found:
        """Find the entries of keys, with their rows."""
        slot, reference = self._table.lookup(hi, lo)
        while True:
            of, wrong = self._gather(hi, lo, reference)
            if not len(wrong):
                return Found(slot, of)
            for i in wrong.tolist():
                slot[i], reference[i] = self._find_one(int(hi[i]), int(lo[i]))

    def _gather(self, hi: U64, lo: U64, reference: Int) -> tuple[dict[int, Matches], Int]:
        """Take the rows that were found, and tell which of them are another key's."""
        of, wrong = {}, [np.zeros(0, np.int64)]
        kinds = reference >> _KIND_SHIFT
        for kind, hits in enumerate(np.bincount(kinds, minlength=4).tolist()):
            if kind and hits:
                index = (kinds == kind).nonzero()[0]
                numbers = reference.take(index) & _ROW
                rows = self.stores[kind].take(numbers)
                fields = rows.view(ROW_TYPES[kind])
                differs = (fields["hi"] != hi.take(index)) | (fields["lo"] != lo.take(index))
                wrong.append(index[differs])
                of[kind] = Matches(index, numbers, rows)
        return of, np.concatenate(wrong)

    def _find_one(self, hi: int, lo: int) -> tuple[int, int]:
        """Find the entry of a key whose tag is another's too, by comparing it with every row in question."""
        for slot, reference in self._table.candidates(hi, lo):
            kind = reference >> _KIND_SHIFT
            row = self.stores[kind].take(np.array([reference & _ROW])).view(ROW_TYPES[kind])[0]
            if int(row["hi"]) == hi and int(row["lo"]) == lo:
                return slot, reference
        return -1, 0

    def write(self, kind: int, slot: Int, rows: Raw, extras: list[bytes | None] | None = None) -> None:
        """Add rows, each in the place of the entry in its slot of the table, or as a new entry where the slot is -1.

        Whoever replaces an entry takes its row away with `drop`.
        """
        if not len(rows):
            return
        reference = _reference(kind, self.stores[kind].append(rows, extras))
        new = slot < 0
        if not new.all():
            old = ~new
            self._table.replace(slot[old], reference[old])
            rows, reference = rows[new], reference[new]
        hi, lo = _key_columns(rows, kind)
        self._table.insert(hi, lo, reference)

    def drop(self, kind: int, numbers: Int) -> None:
        """Take away the rows of entries that were replaced; the table is not touched."""
        self.stores[kind].remove(numbers)
        self._unpaid += len(numbers)

    def remove(self, kind: int, numbers: Int) -> Raw:
        """Remove entries; gives their rows, in the order asked for."""
        rows = self.stores[kind].take(numbers)
        hi, lo = _key_columns(rows, kind)
        self._table.delete(hi, lo, _reference(kind, numbers))
        self.drop(kind, numbers)
        return rows

    def sweep(self, kind: int, cutoff_ms: int) -> list[Raw]:
        """Remove the entries of a kind whose time is before the cutoff; gives their rows, oldest block first."""
        store, swept = self.stores[kind], []
        for slot in store.slots_with_dead(cutoff_ms):
            numbers = store.dead_in(slot, cutoff_ms)
            if len(numbers):
                swept.append(self.remove(kind, numbers))
        return swept

    def evict(self, kind: int, entries: int, size_bytes: int) -> list[Raw]:
        """Remove the oldest entries of a kind until there are so many and so many bytes less, or none of the kind."""
        store, evicted = self.stores[kind], []
        for numbers in store.oldest():
            if entries <= 0 and size_bytes <= 0:
                break
            sizes = np.array([len(e) + 4 if e is not None else 0 for e in store.extras_of(numbers)], np.int64)
            freed = (sizes + ENTRY_BYTES[kind]).cumsum()
            needed = max(entries, int(freed.searchsorted(size_bytes)) + 1 if size_bytes > 0 else 0)
            evicted.append(self.remove(kind, numbers[:needed]))
            entries -= len(evicted[-1])
            size_bytes -= int(freed[len(evicted[-1]) - 1])
        return evicted

    def compact(self) -> None:
        """Pack sparse blocks, as much as removals have paid for: half a block of them pays for moving one."""
        while self._unpaid >= BLOCK_ROWS // 2:
            self._unpaid -= BLOCK_ROWS // 2
            for kind, store in self.stores.items():
                if (moved := store.compact()) is not None:
                    self._follow(kind, moved)
        for store in self.stores.values():
            store.rest()
        if self._table.limit > 16 * max(self.count, 4096):
            self.rebuild(2 * self.count)

    def _follow(self, kind: int, moved: Moved) -> None:
        hi, lo = _key_columns(moved.rows, kind)
        slot = self._table.locate(hi, lo, _reference(kind, moved.old))
        self._table.replace(slot, _reference(kind, moved.new))


def _reference(kind: int, numbers: Int) -> Int:
    return numbers | (kind << _KIND_SHIFT)


def _key_columns(rows: Raw, kind: int) -> tuple[U64, U64]:
    fields = rows.view(ROW_TYPES[kind])
    return fields["hi"].copy(), fields["lo"].copy()
