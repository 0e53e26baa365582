"""The versions of one model: monitors in memory, and those put by as compressed bytes until they are asked for.

A version that is put by answers exactly as if it had stayed: it is the snapshot of its monitor, and is restored when
anybody asks for it by name. What the join counts of it meanwhile, and its totals, are there without that.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Final, NamedTuple

import msgspec

from service.core.layout import checked, inside
from service.core.version import VersionMonitor
from service.core.version_state import JoinCounts, VersionState

Blocks = Mapping[str, Mapping[str, bytes]]
"""Of each window of a version its blocks, by key."""

_LEVEL: Final = 1
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[dict[str, object], dict[str, dict[str, bytes]]]).decode


class Changes(NamedTuple):
    """What is to be stored of a version; blocks by window and key, None: vanished."""

    state: VersionState
    blocks: list[tuple[str, bytes | None]]


class _Parked:
    """A version that is put by."""

    def __init__(self, state: VersionState, blocks: Blocks, counts: JoinCounts) -> None:
        packed = _encode((state, blocks))
        self.raw_bytes = len(packed)
        self.packed = zlib.compress(packed, _LEVEL)
        self.counts = counts
        self.outcomes = state["window"]["total"]
        self.is_holding = bool(state["held"]["answers"] or state["held"]["outcomes"])
        self.stored = dict(counts.values)
        """The counts that are in the changelog."""
        self.unstored: dict[str, bytes | None] | None = None
        """Blocks that the changelog has not yet as they are. None: it has all of the version but its counts."""

    def open(self) -> tuple[VersionState, dict[str, dict[str, bytes]]]:
        """Unpack it, with the counts as they are now."""
        plain, blocks = _decode(zlib.decompress(self.packed))
        state = checked(plain, VersionState)
        state["counts"] = dict(self.counts.values)
        return state, blocks


class Shelf(MutableMapping[str, VersionMonitor]):
    """Versions by name, in the order in which they were first seen. To ask for one wakes it."""

    def __init__(self, watch: Callable[[str], VersionMonitor]) -> None:
        self._watch = watch
        self._awake: dict[str, VersionMonitor] = {}
        self._parked: dict[str, _Parked] = {}
        self._names: dict[str, None] = {}
        self._leftover: dict[str, dict[str, bytes | None]] = {}
        """Blocks of versions that woke before the changelog had them."""
        self.stirred: set[str] = set()
        """Versions that were asked for since the owner last looked."""
        self.forgotten: set[str] = set()
        """Versions that were dropped for want of memory."""
        self.woken_total = 0

    # -- as a mapping

    def __getitem__(self, name: str) -> VersionMonitor:
        """Give a version's monitor; from its bytes, where it was put by."""
        monitor = self._awake.get(name)
        if monitor is None:
            monitor = self._wake(name)
        self.stirred.add(name)
        return monitor

    def __setitem__(self, name: str, monitor: VersionMonitor) -> None:
        """Begin with a version."""
        self._awake[name] = monitor
        self._names[name] = None
        self.stirred.add(name)

    def __delitem__(self, name: str) -> None:
        """Forget a version."""
        del self._names[name]
        self._awake.pop(name, None)
        self._parked.pop(name, None)
        self._leftover.pop(name, None)
        self.stirred.discard(name)

    def __iter__(self) -> Iterator[str]:
        """Give the names."""
        return iter(self._names)

    def __len__(self) -> int:
        """Count them."""
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        """Whether there is one of that name."""
        return name in self._names

    def forget(self, name: str) -> None:
        """Drop a version for want of memory."""
        del self[name]
        self.forgotten.add(name)

    def holding(self) -> Iterator[VersionMonitor]:
        """Give those that hold something until it is known what the model is."""
        for name in list(self._names):
            parked = self._parked.get(name)
            if parked.is_holding if parked is not None else self._awake[name].held:
                yield self[name]

    # -- without waking anybody

    def counts(self, name: str) -> JoinCounts:
        """Give what the join counted of a version, to count on."""
        parked = self._parked.get(name)
        return self._awake[name].counts if parked is None else parked.counts

    def totals(self) -> Iterator[tuple[str, JoinCounts, int]]:
        """Give the name, the counts and the number of outcomes of each version."""
        for name in self._names:
            parked = self._parked.get(name)
            if parked is None:
                yield name, self._awake[name].counts, self._awake[name].window.total
            else:
                yield name, parked.counts, parked.outcomes

    def taken(self, *, labels: bool) -> int:
        """Count the predictions that all versions have taken in, or their outcomes."""
        return sum(outcomes if labels else counts.values["predictions"] for _, counts, outcomes in self.totals())

    def awake(self) -> Iterator[tuple[str, VersionMonitor]]:
        """Give those that are in memory."""
        yield from self._awake.items()

    def is_awake(self, name: str) -> bool:
        """Whether a version is in memory."""
        return name in self._awake

    def parked_bytes(self) -> int:
        """Say what those that are put by take in memory."""
        return sum(len(parked.packed) for parked in self._parked.values())

    # -- putting by

    def park(self, name: str) -> int:
        """Put a version by; gives its bytes before compression. It must be awake."""
        monitor = self._awake.pop(name)
        unstored = self._leftover.pop(name, {}) | dict(monitor.changed_blocks())
        parked = _Parked(monitor.snapshot(), monitor.blocks(), monitor.counts)
        parked.unstored = unstored
        self._parked[name] = parked
        return parked.raw_bytes

    def adopt(self, name: str, state: VersionState, blocks: Blocks) -> None:
        """Take up a version as it is stored, put by."""
        counts = JoinCounts()
        counts.values.update(state["counts"])
        self._names[name] = None
        self._parked[name] = _Parked(state, blocks, counts)

    def _wake(self, name: str) -> VersionMonitor:
        parked = self._parked[name]
        state, blocks = parked.open()
        monitor = self._watch(name)
        with inside(f"versions[{name!r}]"):
            monitor.restore(state, blocks)
        del self._parked[name]
        if parked.unstored:
            self._leftover[name] = parked.unstored
        self._awake[name] = monitor
        self.woken_total += 1
        return monitor

    # -- storing

    def changes(self, name: str) -> Changes | None:
        """Give what is to be stored of a version, which counts as stored from then on. None: nothing has changed."""
        parked = self._parked.get(name)
        if parked is None:
            monitor = self._awake[name]
            state = monitor.snapshot()
            return Changes(state, list((self._leftover.pop(name, {}) | dict(monitor.changed_blocks())).items()))
        if parked.unstored is None and parked.stored == parked.counts.values:
            return None
        blocks, parked.unstored = parked.unstored or {}, None
        parked.stored = dict(parked.counts.values)
        return Changes(parked.open()[0], list(blocks.items()))
