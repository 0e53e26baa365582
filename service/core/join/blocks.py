"""The state of the join as packed blocks for a changelog, and back.

Rows never change, so a block's rows are given once, and again only when it grows or is packed with its neighbour. What
labels do to it is in its flags: 1 kB a block, 1.2 MB for 10 M entries when a commit has hit every block.

Records, by key:

    meta                          msgpack: version, operations, watermark, and of every block its number and counts
    waiting/0000000012/rows       packed rows, oldest first (also orphans/, joined/)
    waiting/0000000012/flags      one bit a row, set where it lives; absent where all do
    waiting/0000000012/extras/0   length-prefixed extras, in parts
    departed/0000000012           keys that have left, in the order in which they did
departed/pending/0            those since the last time that timers fired
unmatched/0                   keys of labels that found nothing since then
expired/predictions/0         found dead and not yet reported, in parts (also expired/labels/)

Each begins with a mark, a version and a checksum (XXH3) over its key and its bytes, so a record that was damaged, or
stands under another's key, is named by the error.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from service.core.join.departed import DEPARTED_ROW, Departed
from service.core.join.entries import Entries
from service.core.join.memory import Spill
from service.core.join.rows import (
    KIND_NAMES,
    KINDS,
    LABEL_BYTES,
    ORPHAN_ROW,
    PREDICTION_BYTES,
    UNTIMED,
    WAITING_ROW,
    Raw,
)
from service.core.join.store import BLOCK_ROWS, Block, RowStore

VERSION = 2
"""1: waiting predictions and labels kept no time of arrival, and the clock was one of event time."""
PART_BYTES = 800_000
"""Extras and expired rows are given in parts of this many bytes: with rows of at most 819,200 bytes every record stays
below 900 kB, and so below Kafka's default of 1 MiB."""

FIRST_BYTES = {WAITING_ROW: 64, ORPHAN_ROW: 48}
"""Bytes of rows in version 1, where those were less: what is there now stands at the end."""
_MARK = b"TGJB"
_KEY_BYTES = 16
_HEADER = struct.Struct("<4sHHQ")  # mark, version, nothing, checksum


class JoinStateError(ValueError):
    """Blocks from which no join can be restored. Reading them again does not help: rebuild from the inputs."""

    retriable = False

    def __init__(self, key: str, fault: str, *, newer: bool = False) -> None:
        super().__init__(f"the join block {key} {fault}")
        self.key = key
        self.newer = newer
        """Whether a newer version of the program wrote it."""


class BlockChanges(NamedTuple):
    """What a changelog has to be told."""

    blocks: Iterator[tuple[str, bytes]]
    """Key and content of blocks that are new or changed. To be read before the next call to the buffer."""
    vanished: tuple[str, ...]
    """Keys of blocks that are no more."""


@dataclass(slots=True)
class JoinState:
    """All that the join knows."""

    entries: Entries = field(default_factory=Entries)
    operations: int = 0
    """Operations since the task began."""
    watermark_ms: int = -(1 << 60)
    expired_predictions: list[Raw] = field(default_factory=list)
    """Found dead and not yet reported, in the order in which they were found."""
    expired_labels: list[Raw] = field(default_factory=list)
    departed: Departed = field(default_factory=lambda: Departed(0))
    """Keys that have left. The limit is a setting, and not part of the state."""
    unmatched: list[NDArray[np.uint64]] = field(default_factory=list)
    """Keys, shape (n, 2), of labels that found nothing since `expire` was called last: 16 bytes beside each orphan."""
    unmatched_written: int = 0
    """How many of them a snapshot already holds."""
    untimed: bool = False
    """Whether there are entries whose time is not known, because an older program kept none."""

    def begin(self, now_ms: int) -> None:
        """Let what has no time begin now."""
        if self.untimed:
            for store in self.entries.stores.values():
                store.set_times(UNTIMED, now_ms)
            self.untimed = False


class Record(NamedTuple):
    """A block that can be written."""

    key: str
    changed: bool
    payload: Callable[[], bytes]

    def sealed(self) -> bytes:
        """Give the block's bytes, with its checksum."""
        payload = self.payload()
        return _HEADER.pack(_MARK, VERSION, 0, _checksum(self.key, payload)) + payload


def records(state: JoinState) -> list[Record]:
    """List all blocks of a state, the changed ones marked."""
    listed = [Record("meta", True, lambda: _meta(state))]
    for kind, store in state.entries.stores.items():
        for slot, block in store.blocks.items():
            listed += _block_records(f"{KIND_NAMES[kind]}/{block.number:010d}", store, slot, block)
    for name, rows in (("predictions", state.expired_predictions), ("labels", state.expired_labels)):
        listed += _parts(f"expired/{name}", b"".join(part.tobytes() for part in rows), 0)
    departed = state.departed
    for number, held in departed.blocks.items():
        listed.append(Record(f"departed/{number:010d}", number in departed.changed, held.tobytes))
    waiting = b"".join(part.tobytes() for part in departed.pending)
    listed += _parts("departed/pending", waiting, departed.pending_written * DEPARTED_ROW.itemsize)
    unmatched = b"".join(part.tobytes() for part in state.unmatched)
    listed += _parts("unmatched", unmatched, state.unmatched_written * _KEY_BYTES)
    return listed


def set_clean(state: JoinState) -> None:
    """Note that everything has been given."""
    for store in state.entries.stores.values():
        store.rows_changed[:] = store.flags_changed[:] = False
        for block in store.blocks.values():
            block.extras_written = len(block.extras)
    state.departed.changed.clear()
    state.departed.pending_written = sum(len(rows) for rows in state.departed.pending)
    state.unmatched_written = sum(len(keys) for keys in state.unmatched)


def _block_records(key: str, store: RowStore, slot: int, block: Block) -> Iterator[Record]:
    rows_changed = bool(store.rows_changed[slot])
    yield Record(f"{key}/rows", rows_changed, lambda: store.rows_of(slot))
    if store.alive[slot] < block.used:
        # There is a bit for every row, so that a block that grows gets new flags as well.
        yield Record(f"{key}/flags", rows_changed or bool(store.flags_changed[slot]), lambda: store.flags_of(slot))
    if block.extras:
        yield from _parts(f"{key}/extras", block.extras, block.extras_written)


def _parts(key: str, content: bytes | bytearray, written: int) -> Iterator[Record]:
    """Cut bytes that only grow into records. `written`: how many of them are known to have been given."""
    for start in range(0, len(content), PART_BYTES):
        stop = min(start + PART_BYTES, len(content))
        yield Record(f"{key}/{start // PART_BYTES}", stop > written, _slice(content, start, stop))


def _slice(content: bytes | bytearray, start: int, stop: int) -> Callable[[], bytes]:
    return lambda: bytes(content[start:stop])


def _meta(state: JoinState) -> bytes:
    stores = state.entries.stores
    meta: dict[str, Any] = {
        KIND_NAMES[kind]: {
            "next_number": store.next_number,
            "extra_bytes": store.extra_bytes,
            "blocks": [
                [block.number, block.used, int(store.alive[slot]), len(block.extras)]
                for slot, block in store.blocks.items()
            ],
        }
        for kind, store in stores.items()
    }
    meta |= {
        "version": VERSION,
        "operations": state.operations,
        "watermark_ms": state.watermark_ms,
        "expired_predictions": sum(len(rows) for rows in state.expired_predictions),
        "expired_labels": sum(len(rows) for rows in state.expired_labels),
        "departed": [
            state.departed.total,
            [[number, len(rows)] for number, rows in state.departed.blocks.items()],
            sum(len(rows) for rows in state.departed.pending),
        ],
        "unmatched": sum(len(keys) for keys in state.unmatched),
    }
    return msgspec.msgpack.encode(meta)


def restore_state(blocks: Mapping[str, bytes], spill: Spill | None = None) -> JoinState:
    """Make the state that gave these blocks. Keys that it does not name are left alone.

    JoinStateError names the block that is missing, damaged, of a newer version, or at odds with the others.
    """
    state = JoinState(Entries(spill))
    meta = msgspec.msgpack.decode(open_block(blocks, "meta"))
    state.operations = meta["operations"]
    if meta["version"] > 1:
        state.watermark_ms = meta["watermark_ms"]
    for kind in KINDS:
        _restore_store(state.entries.stores[kind], KIND_NAMES[kind], meta[KIND_NAMES[kind]], blocks)
    state.untimed = any(store.has_before(UNTIMED + 1) for store in state.entries.stores.values())
    state.entries.rebuild(sum(store.count for store in state.entries.stores.values()))
    expired = meta["expired_predictions"], meta["expired_labels"]
    state.expired_predictions = _restore_expired(blocks, "predictions", PREDICTION_BYTES, expired[0])
    state.expired_labels = _restore_expired(blocks, "labels", LABEL_BYTES, expired[1])
    _restore_departed(state, meta, blocks)
    return state


def _restore_departed(state: JoinState, meta: dict[str, Any], blocks: Mapping[str, bytes]) -> None:
    """Take over the keys that have left; an older program remembered none, so that memory begins now."""
    total, listed, pending = meta.get("departed", (0, [], 0))
    size = DEPARTED_ROW.itemsize
    held = [
        (number, np.frombuffer(open_block(blocks, f"departed/{number:010d}", count * size), DEPARTED_ROW))
        for number, count in listed
    ]
    waiting = np.frombuffer(_open_parts(blocks, "departed/pending", pending * size), DEPARTED_ROW)
    state.departed.restore(total, held, waiting)
    if count := meta.get("unmatched", 0):
        state.unmatched_written = count
        state.unmatched = [
            np.frombuffer(_open_parts(blocks, "unmatched", _KEY_BYTES * count), np.uint64).reshape(-1, 2)
        ]


def _restore_store(store: RowStore, name: str, meta: dict[str, Any], blocks: Mapping[str, bytes]) -> None:
    store.next_number, store.extra_bytes = meta["next_number"], meta["extra_bytes"]
    store.make_room(len(meta["blocks"]))
    for number, used, alive, extra_bytes in meta["blocks"]:
        key = f"{name}/{number:010d}"
        if used > BLOCK_ROWS:
            raise JoinStateError(f"{key}/rows", f"holds {used} rows, but a block has {BLOCK_ROWS}")
        rows, older = _open_rows(blocks, f"{key}/rows", store.row, used)
        flags = open_block(blocks, f"{key}/flags", (used + 7) // 8) if alive < used else None
        extras = bytearray(_open_parts(blocks, f"{key}/extras", extra_bytes))
        slot = store.load(Block(number, extras=extras, extras_written=extra_bytes), rows, flags)
        store.rows_changed[slot] = older
        if store.alive[slot] != alive:
            raise JoinStateError(f"{key}/flags", f"keeps {store.alive[slot]} rows where {alive} are meant")


def _open_rows(
    blocks: Mapping[str, bytes], key: str, row: np.dtype[np.void], used: int
) -> tuple[bytes | memoryview, bool]:
    """Give the rows of a block as they are kept now, and whether an older program wrote them otherwise."""
    written = open_block(blocks, key)
    if _HEADER.unpack_from(blocks[key])[1] > 1:
        return open_block(blocks, key, used * row.itemsize), False
    width = FIRST_BYTES.get(row, row.itemsize)
    if len(written) != used * width:
        raise JoinStateError(key, f"has {len(written)} bytes where {used * width} are meant")
    rows = np.zeros(used, row)
    rows.view(np.uint8).reshape(used, row.itemsize)[:, :width] = np.frombuffer(written, np.uint8).reshape(used, width)
    rows["time_ms"] = UNTIMED
    return rows.tobytes(), True


def _restore_expired(blocks: Mapping[str, bytes], name: str, item: np.dtype[np.void], count: int) -> list[Raw]:
    content = _open_parts(blocks, f"expired/{name}", count * item.itemsize)
    return [np.frombuffer(content, item)] if count else []


def _open_parts(blocks: Mapping[str, bytes], key: str, size: int) -> bytes:
    starts = range(0, size, PART_BYTES)
    return b"".join(open_block(blocks, f"{key}/{i}", min(PART_BYTES, size - at)) for i, at in enumerate(starts))


def open_block(blocks: Mapping[str, bytes], key: str, size: int | None = None) -> memoryview:
    """Check a block and give its payload."""
    block = blocks.get(key)
    if block is None:
        raise JoinStateError(key, "is missing")
    if len(block) < _HEADER.size or block[:4] != _MARK:
        raise JoinStateError(key, "is no join block")
    _, version, _, checksum = _HEADER.unpack_from(block)
    if version > VERSION:
        fault = f"has version {version}; this program knows versions up to {VERSION}"
        raise JoinStateError(key, fault, newer=True)
    payload = memoryview(block)[_HEADER.size :]
    if _checksum(key, payload) != checksum:
        raise JoinStateError(key, "is damaged: its checksum does not fit")
    if size is not None and len(payload) != size:
        raise JoinStateError(key, f"has {len(payload)} bytes where {size} are meant")
    return payload


def _checksum(key: str, payload: bytes | memoryview) -> int:
    return xxhash.xxh3_64_intdigest(payload, seed=xxhash.xxh32_intdigest(key.encode()))
