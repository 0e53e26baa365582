"""The key table: which stored row belongs to a 128-bit key, for whole batches at a time.

Open addressing in buckets of one cache line (64 bytes): seven slots and one counter. A slot holds a 32-bit tag of the
key and a 32-bit reference to the row; the key itself stays in the row, so that an entry costs 8 / load bytes here. A
lookup of a batch gathers one line per key, and a second one only for keys whose first bucket ran over.

The counter says how many entries had to pass over the bucket when they were inserted. A lookup goes on to the next
bucket exactly while it is not zero, and a deletion takes its own passing back: no tombstones, so the table does not
wear out under a steady stream of insertions and deletions and need not be cleaned. (The idea is the overflow count of
Facebook's F14 tables.)
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.core.columns import Bool, Int

U64 = NDArray[np.uint64]

SLOTS = 7
LINE = SLOTS + 1
MIN_BUCKETS = 1024
"""64 kB."""
# A bucket of 7 at 3/4 load holds 5.25 on average; of Poisson(5.25) buckets 16 % run over, so most lookups touch one
# line. Doubling then leaves the load between 3/8 and 3/4: 64 / 5.25 = 12.2 to 24.4 bytes an entry.
MAX_PER_BUCKET = 5.25
# A table of up to 4 MB spends memory on small batches, whose cost is the number of looks: at half load 3 % run over.
SMALL_BUCKETS = 1 << 16
MAX_PER_SMALL_BUCKET = 3.5

_REFERENCE = 0xFFFFFFFF
_NOT_THE_COUNTER = 0x00FFFFFFFFFFFFFF
# Multiplying eight bytes of 0 or 1 by this collects them as the bits of the top byte, the first byte as bit 0.
_COLLECT = 0x0102040810204080
_FIRST_BIT = np.array([8, *[(b & -b).bit_length() - 1 for b in range(1, 256)]], dtype=np.int64)


class Location(NamedTuple):
    """Where keys were found. Shape (n,) each."""

    slot: Int
    """Index into the table's slots; -1 where no slot carries the key's tag."""
    reference: Int
    """What the slot refers to; 0 where there is none."""


class KeyTable:
    """Maps keys to references (1 to 2^32 - 1), all of them different.

    A tag has 31 bits, so about one lookup in 4e8 meets a slot of another key: the caller compares the keys in the
    rows, and asks `candidates` where they differ.
    """

    def __init__(self, entries: int = 0) -> None:
        self.count = 0
        self.reset(entries)

    def reset(self, entries: int) -> None:
        """Forget everything and make room for this many entries. The old table is let go before the new is made."""
        buckets = MIN_BUCKETS
        while _limit(buckets) < entries:
            buckets *= 2
        self.count = 0
        self._buckets = buckets
        self._shift = 64 - (buckets.bit_length() - 1)
        self._flat = self._lines = np.zeros(0, np.uint64)
        self._flat = np.zeros(buckets * LINE, np.uint64)
        self._lines = self._flat.view("V64")  # numpy copies a void item with one memcpy

    @property
    def limit(self) -> int:
        """How many entries fit before it must grow."""
        return _limit(self._buckets)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self._flat.nbytes

    def lookup(self, hi: U64, lo: U64) -> Location:
        """Find the first slot that carries each key's tag."""
        wanted = _tag(lo).view(np.int64)
        bucket = self._home(hi)
        slot, passed = self._match(bucket, wanted)
        self._follow(slot, passed, bucket, wanted)
        missing = slot < 0
        reference = (self._flat.take(slot, mode="wrap") & _REFERENCE).view(np.int64)
        reference[missing] = 0
        return Location(slot, reference)

    def candidates(self, hi: int, lo: int) -> list[tuple[int, int]]:
        """Every (slot, reference) that one key may have: for the rare key whose tag is another's too."""
        tag = (lo & _REFERENCE) | 1
        bucket = hi >> self._shift
        found = []
        for _ in range(self._buckets):
            line = self._flat[bucket * LINE : (bucket + 1) * LINE].tolist()
            found += [
                (bucket * LINE + i, word & _REFERENCE) for i, word in enumerate(line[:SLOTS]) if word >> 32 == tag
            ]
            if line[SLOTS] == 0:
                break
            bucket = (bucket + 1) % self._buckets
        return found

    def replace(self, slot: Int, reference: Int) -> None:
        """Let slots that were found refer to other rows."""
        self._flat[slot] = (self._flat.take(slot) & (_REFERENCE << 32)) | reference.view(np.uint64)

    def insert(self, hi: U64, lo: U64, reference: Int) -> None:
        """Add keys that are not in the table, all different. The caller has seen to it that `limit` is kept."""
        self.count += len(hi)
        bucket = self._home(hi)
        word = (_tag(lo) << 32) | reference.view(np.uint64)
        while len(bucket):
            line = self._lines.take(bucket).view(np.uint64).reshape(-1, LINE)
            free = (line == 0).view(np.uint64).ravel() & _NOT_THE_COUNTER
            slot = bucket * LINE + _first(free)
            full = free == 0
            if full.any():
                room = ~full
                self._flat[slot[room]] = word[room]
                self._count_passing(bucket[full], 1)
                bucket[full] = (bucket[full] + 1) & (self._buckets - 1)
            else:
                self._flat[slot] = word
            # Two keys of one batch may have chosen the same slot: the one that does not find itself there tries again,
            # and so does one whose bucket was full.
            again = self._flat.take(slot, mode="clip") != word
            bucket, word = bucket[again], word[again]

    def delete(self, hi: U64, lo: U64, reference: Int) -> None:
        """Remove entries that are in the table."""
        self.count -= len(hi)
        slot = self.locate(hi, lo, reference)
        self._flat[slot] = 0
        bucket, target = self._home(hi), slot // LINE
        while (short := bucket != target).any():
            bucket, target = bucket[short], target[short]
            self._count_passing(bucket, -1)
            bucket = (bucket + 1) & (self._buckets - 1)

    def locate(self, hi: U64, lo: U64, reference: Int) -> Int:
        """Find the slots of entries that are in the table, by their references, which no two share."""
        word = ((_tag(lo) << 32) | reference.view(np.uint64)).view(np.int64)
        bucket = self._home(hi)
        slot, passed = self._match(bucket, word, whole=True)
        self._follow(slot, passed, bucket, word, whole=True)
        return slot

    def _home(self, hi: U64) -> Int:
        return (hi >> self._shift).view(np.int64)

    def _match(self, bucket: Int, wanted: Int, *, whole: bool = False) -> tuple[Int, Bool]:
        """Look into one bucket per key: the slot (-1: not here) and whether anything passed over the bucket."""
        line = self._lines.take(bucket).view(np.uint64).reshape(-1, LINE)
        if whole:
            hits = line == wanted.view(np.uint64)[:, None]
        else:
            # The high half of each word is its tag. An empty slot has tag 0 and so has the counter; no key has.
            hits = line.view(np.uint32)[:, 1::2] == wanted.astype(np.uint32)[:, None]
        packed = hits.view(np.uint64).ravel()
        slot = bucket * LINE + _first(packed)
        slot[packed == 0] = -1
        return slot, line[:, SLOTS] != 0

    def _follow(self, slot: Int, passed: Bool, bucket: Int, wanted: Int, *, whole: bool = False) -> None:
        """Go on, bucket by bucket, for the keys that were not found where others ran over."""
        pending = ((slot < 0) & passed).nonzero()[0]
        for _ in range(self._buckets):
            if not len(pending):
                return
            bucket[pending] = (bucket[pending] + 1) & (self._buckets - 1)
            here, passed = self._match(bucket[pending], wanted[pending], whole=whole)
            slot[pending] = here
            pending = pending[(here < 0) & passed]

    def _count_passing(self, bucket: Int, change: int) -> None:
        """Count keys that pass over buckets. `add.at` because two keys of a batch may pass over one bucket."""
        np.add.at(self._flat.view(np.int64), bucket * LINE + SLOTS, change)

    def fill(self, chunks: Iterable[tuple[U64, U64, Int]], entries: int) -> None:
        """Make the table anew, for at least `entries`, from (hi, lo, reference) chunks of all rows that live.

        Keys come from the rows and not from the old table, which is gone by then: growing needs no second copy.
        """
        self.reset(entries)
        for hi, lo, reference in chunks:
            self.insert(hi, lo, reference)


def _limit(buckets: int) -> int:
    return int(buckets * (MAX_PER_SMALL_BUCKET if buckets <= SMALL_BUCKETS else MAX_PER_BUCKET))


def _tag(lo: U64) -> U64:
    """31 bits of the half of the key that does not choose the bucket; odd, so never that of an empty slot."""
    return (lo & np.uint64(_REFERENCE)) | np.uint64(1)


def _first(flags: U64) -> Int:
    """Position of the first byte that is 1, of eight bytes of 0 or 1; 8 where none is."""
    return _FIRST_BIT.take(((flags * _COLLECT) >> 56).view(np.int64))
