"""The order of things: three inputs become one sequence, the same however they were fetched.

Each input keeps its own order. A record's merge key is the clock of its input's event times up to it (see `clock`), so
a late event follows the one before it, and one that lies ahead moves nobody. Inputs are merged by (merge key, rank of
the input, offset). A record may be taken when no input that could still deliver an earlier one is empty; an input that
is idle (at its end, or silent for too long) is not waited for. That last decision depends on the moment, so a step that
was cut by it says so (`forced`): recovery and replay take exactly the same cut.
"""

from collections import deque
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.core.clock import InputClock, log_times
from service.core.placement import Stray

Int = NDArray[np.int64]


class Role(IntEnum):
    """The inputs. The number is the rank: at equal times commands come before predictions, and those before labels."""

    CONTROL = 0
    PREDICTIONS = 1
    LABELS = 2


class Block(NamedTuple):
    """Decoded records of one input: a chunk of its log, in columns over ALL its records, usable or not."""

    offsets: Int
    timestamps_ms: Int
    times_ms: Int
    """Event time; for a record that could not be used, -1."""
    events: list[Any]
    """Typed event, or a Rejected."""
    next_position: int
    size_bytes: int
    strays: Sequence[Stray | None] = ()
    """What is wrong with where each record lies; empty where nothing is with any."""


class Positions(NamedTuple):
    """The offset of the next record of each input. Fields in rank order."""

    control: int
    predictions: int
    labels: int


class Lane(NamedTuple):
    """What a step takes of one input. Row i of each belongs to the same record; keys rise."""

    offsets: Int
    timestamps_ms: Int
    times_ms: Int
    """As in Block: -1 where the record could not be used."""
    keys: Int
    events: list[Any]
    strays: Sequence[Stray | None] = ()
    """As in Block."""


class Merged(NamedTuple):
    """One step's records. `roles`, `keys` and `log_times_ms` in merged order; lane rows keep their own order in it."""

    lanes: dict[Role, Lane]
    roles: NDArray[np.int8]
    keys: Int
    log_times_ms: Int
    """What each record tells the clock of the log, in merged order; negative: nothing."""
    end: Positions
    forced: bool


_EMPTY_INT: Int = np.empty(0, dtype=np.int64)
_EMPTY_LANE = Lane(_EMPTY_INT, _EMPTY_INT, _EMPTY_INT, _EMPTY_INT, [])


class _Queue:
    """What was fetched of one input and not yet taken."""

    def __init__(self, position: int, clock: Sequence[int] | None) -> None:
        self.position = position
        """Offset from which the next block is to be offered."""
        self.taken = position
        """Offset up to which records were taken."""
        self.clock = InputClock() if clock is None else InputClock.restore(clock)
        """Stands at the last record taken: its merge key."""
        self.blocks: deque[tuple[Block, Int, int]] = deque()  # block, its keys, rows already taken
        self.records = 0
        self.size_bytes = 0
        self._ahead = InputClock.restore(self.clock.snapshot())
        """Stands at the last record offered."""

    @property
    def newest_ms(self) -> int:
        """Merge key of the last record offered: the next one's cannot be smaller."""
        return self._ahead.now_ms

    def offer(self, block: Block) -> None:
        if len(block.events):
            keys = self._ahead.advance(block.times_ms, block.timestamps_ms)
            self.blocks.append((block, keys, 0))
        elif self.blocks:
            last, keys, taken = self.blocks.pop()
            self.blocks.append((last._replace(next_position=block.next_position), keys, taken))
        else:
            self.taken = block.next_position
        self.position = block.next_position
        self.records += len(block.events)
        self.size_bytes += block.size_bytes

    def count_until(self, key: int, *, inclusive: bool) -> int:
        """Count the records that come before (or at) a merge key."""
        side = "right" if inclusive else "left"
        total = 0
        for _, keys, taken in self.blocks:
            found = int(np.searchsorted(keys, key, side))  # type: ignore[call-overload]
            total += max(found - taken, 0)
            if found < len(keys):
                break
        return total

    def count_before_offset(self, offset: int) -> int:
        total = 0
        for block, _, taken in self.blocks:
            found = int(np.searchsorted(block.offsets, offset))
            total += max(found - taken, 0)
            if found < len(block.offsets):
                break
        return total

    def keys_of(self, count: int) -> Int:
        """Give the merge keys of the next records, without taking them."""
        parts: list[Int] = []
        for _, keys, taken in self.blocks:
            if count <= 0:
                break
            parts.append(keys[taken : taken + count])
            count -= len(parts[-1])
        return np.concatenate(parts) if parts else _EMPTY_INT

    def offset_after(self, count: int) -> int:
        """Give the position behind the next `count` records, as taking them would leave it."""
        if not count:
            return self.taken
        for block, keys, taken in self.blocks:
            if count < len(keys) - taken:
                return int(block.offsets[taken + count])
            count -= len(keys) - taken
            if not count:
                return block.next_position
        raise IndexError("more records than wait")

    def take(self, count: int) -> Lane:
        parts: list[Lane] = []
        while count > 0:
            block, keys, taken = self.blocks[0]
            end = min(taken + count, len(keys))
            part = slice(taken, end)
            parts.append(
                Lane(
                    block.offsets[part],
                    block.timestamps_ms[part],
                    block.times_ms[part],
                    keys[part],
                    block.events[part],
                    block.strays[part],
                )
            )
            count -= end - taken
            self.records -= end - taken
            self.clock.advance(parts[-1].times_ms, parts[-1].timestamps_ms)
            if end == len(keys):
                self.blocks.popleft()
                self.size_bytes -= block.size_bytes
                self.taken = block.next_position
            else:
                self.blocks[0] = (block, keys, end)
                self.taken = int(block.offsets[end])
        return _join_lanes(parts)


def _join_lanes(parts: list[Lane]) -> Lane:
    if not parts:
        return _EMPTY_LANE
    if len(parts) == 1:
        return parts[0]
    events: list[Any] = []
    for part in parts:
        events.extend(part.events)
    return Lane(
        np.concatenate([part.offsets for part in parts]),
        np.concatenate([part.timestamps_ms for part in parts]),
        np.concatenate([part.times_ms for part in parts]),
        np.concatenate([part.keys for part in parts]),
        events,
        _join_strays(parts),
    )


def _join_strays(parts: list[Lane]) -> Sequence[Stray | None]:
    if not any(part.strays for part in parts):
        return ()
    strays: list[Stray | None] = []
    for part in parts:
        strays.extend(part.strays or [None] * len(part.events))
    return strays


class Intake:
    """Holds what was fetched and gives it out in merged order."""

    def __init__(self, positions: Positions, clocks: Sequence[Sequence[int] | None] = (None, None, None)) -> None:
        """Begin at positions. `clocks`: what `clocks` gave there; None: from the beginning."""
        self._queues = {
            role: _Queue(position, clock) for role, position, clock in zip(Role, positions, clocks, strict=True)
        }

    def offer(self, role: Role, block: Block) -> None:
        """Take in what was fetched from the position that `position` said."""
        self._queues[role].offer(block)

    def position(self, role: Role) -> int:
        """Say from which offset the next block is expected."""
        return self._queues[role].position

    def next_offset(self, role: Role) -> int | None:
        """Give the offset of an input's next record to be taken; None where none waits."""
        blocks = self._queues[role].blocks
        return int(blocks[0][0].offsets[blocks[0][2]]) if blocks else None

    def buffered(self, role: Role) -> tuple[int, int]:
        """Count the records and bytes of an input that wait to be taken."""
        queue = self._queues[role]
        return queue.records, queue.size_bytes

    @property
    def taken(self) -> Positions:
        """Offsets up to which records were given out."""
        return Positions(*(self._queues[role].taken for role in Role))

    @property
    def clocks(self) -> list[list[int]]:
        """Snapshots of the inputs' clocks at the last record given out of each, in rank order."""
        return [self._queues[role].clock.snapshot() for role in Role]

    def take(self, idle: frozenset[Role], max_records: int) -> Merged | None:
        """Give the records whose turn has come, waiting for no idle input; None where there are none.

        Cut at about `max_records`, between two merge keys of the largest input, which changes nothing.
        """
        counts = self._limit(self._ready(frozenset()), max_records)
        forced = False
        if not any(counts.values()):
            counts = self._limit(self._ready(idle), max_records)
            forced = True
        if not any(counts.values()):
            return None
        return self._merge(counts, forced=forced)

    def take_to(self, end: Positions) -> Merged:
        """Give exactly the records before `end`: a step that was taken before and is taken again."""
        return self.take_through(np.array([end], dtype=np.int64))

    def take_through(self, ends: Int) -> Merged:
        """Give the records of several steps that were taken before, at once: each step in its own merged order.

        `ends`, shape (steps, 3): where each ended, in rank order; rows never fall. Many small steps of a service that
        kept up are one large one for whoever comes later.
        """
        last = ends[-1].tolist()
        counts = {role: self._queues[role].count_before_offset(offset) for role, offset in zip(Role, last, strict=True)}
        merged = self._merge(counts, forced=True, ends=ends)
        for role, offset in zip(Role, last, strict=True):
            # Not where the next record lies: offsets without records, as the markers of transactions, may come between,
            # and who follows must stand exactly where the step ended before.
            self._queues[role].taken = offset
        return merged._replace(end=self.taken)

    def end_of(self, idle: frozenset[Role], count: int) -> Positions | None:
        """Say where the first `count` records end that `take` would give now, in merged order; None: it gives none.

        Nothing is taken. `take_to` takes exactly these, be they in the middle of what shares one merge key.
        """
        counts = self._ready(frozenset())
        if not any(counts.values()):
            counts = self._ready(idle)
        heads = {role: self._queues[role].keys_of(min(counts[role], count)) for role in Role}
        keys = np.concatenate([heads[role] for role in Role])
        if not len(keys):
            return None
        roles = np.repeat(np.array(list(Role), dtype=np.int8), [len(heads[role]) for role in Role])
        first = roles[np.argsort(keys, kind="stable")[:count]]
        return Positions(*(self._queues[role].offset_after(int(np.count_nonzero(first == role))) for role in Role))

    def _ready(self, idle: frozenset[Role]) -> dict[Role, int]:
        # The next record of input i has a key of at least newest_ms (all that was offered is known). So what is
        # buffered of another input is safe up to (newest_ms, rank of i): at equal keys the lower rank goes first.
        counts = {}
        for role, queue in self._queues.items():
            count = queue.records
            for other, waited in self._queues.items():
                if other is not role and other not in idle:
                    count = min(count, queue.count_until(waited.newest_ms, inclusive=role < other))
            counts[role] = count
        return counts

    def _limit(self, counts: dict[Role, int], max_records: int) -> dict[Role, int]:
        if sum(counts.values()) <= max_records:
            return counts
        # Cut where the largest input has had its share: everything up to that merge key, of all inputs.
        largest = max(Role, key=lambda role: counts[role])
        key = self._key_at(largest, min(counts[largest], max_records) - 1)
        return {role: min(counts[role], queue.count_until(key, inclusive=True)) for role, queue in self._queues.items()}

    def _key_at(self, role: Role, row: int) -> int:
        for _, keys, taken in self._queues[role].blocks:
            if row < len(keys) - taken:
                return int(keys[taken + row])
            row -= len(keys) - taken
        raise IndexError(f"input {role.name} holds fewer records than were counted")

    def _merge(self, counts: dict[Role, int], *, forced: bool, ends: Int | None = None) -> Merged:
        lanes = {role: self._queues[role].take(count) for role, count in counts.items()}
        keys = np.concatenate([lanes[role].keys for role in Role])
        roles = np.repeat(np.array(list(Role), dtype=np.int8), [len(lanes[role].keys) for role in Role])
        # Both sorts are stable: rank and offset order stand already.
        if ends is None or len(ends) == 1:
            order = np.argsort(keys, kind="stable")
        else:
            steps = [np.searchsorted(ends[:, role], lanes[role].offsets, side="right") for role in Role]
            order = np.lexsort((keys, np.concatenate(steps)))
        log_times_ms = np.concatenate([log_times(lanes[role].times_ms, lanes[role].timestamps_ms) for role in Role])
        return Merged(lanes, roles[order], keys[order], log_times_ms[order], self.taken, forced)
