"""The join of predictions and labels, in both orders, late, repeated, corrected, within horizons and bounds.

Horizons are counted from an entry's arrival, on the clock that every operation brings (`watermark_ms`): never from
event times, so that nothing is dead when it arrives, and history that is filled in waits as long as what is new. An
entry is dead for an operation at w when its time plus its horizon is before w:

* a prediction waits from its arrival for `label_horizon_ms`;
* a label waits from its arrival for `orphan_horizon_ms`, by default as long as a prediction;
* an outcome is remembered from when its label in force was joined for `correction_horizon_ms`: a correction renews it.

The dead are not there: a prediction that comes again is new, a label that comes too late waits as an orphan. But keys
that have left are remembered for a while (`departed`): at the next `expire` such a label is given up as late.

Order is all that matters, not where batches are cut. The bounds are looked at after every 4096th operation since the
task began, so at most `max_entries` + 4096 entries are kept. What is over goes in the order of least loss, the oldest
first: outcomes that are remembered, then orphans, then waiting predictions. So a flood of labels that belong to nothing
cannot push predictions out. The dead are swept before anything is given up.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from service.core.columns import LABEL_ROW, PREDICTION_ROW, Bool, Int
from service.core.join.blocks import BlockChanges, JoinState, Record, records, restore_state, set_clean
from service.core.join.entries import Entries
from service.core.join.index import U64
from service.core.join.memory import Spill
from service.core.join.operations import (
    NO_LATE,
    Gone,
    JoinOps,
    JoinResult,
    JoinSizes,
    LabelFate,
    LateLabels,
)
from service.core.join.repeated import resolve_repeated
from service.core.join.result import Part, result_of, rows_of
from service.core.join.rows import (
    JOINED,
    KINDS,
    ORPHAN,
    ORPHAN_ROW,
    ROW_TYPES,
    WAITING,
    WAITING_ROW,
    Raw,
    in_order,
    raw,
)
from service.core.join.segment import Changes, Segment, Work, resolve_pairs, resolve_single, write
from service.core.join.store import MAX_EXTRA_BYTES
from service.core.settings import JoinSettings

CHECK_EVERY = 4096
"""Operations between two looks at the bounds; also the most that one pass of numpy works on, for the caches' sake."""
_FOREVER_MS = 1 << 60
"""Longer horizons are this one: 36 million years, and sums with event times stay within 64 bits."""


class JoinBuffer:
    """All predictions, labels and outcomes of a task that still may meet something.

    Call `expire` regularly: entries that an operation found dead wait for it, to be reported.
    """

    def __init__(self, settings: JoinSettings, state: JoinState | None = None, *, spill: Spill | None = None) -> None:
        self._settings = settings
        self._state = state if state is not None else JoinState(Entries(spill))
        self._state.departed.limit = settings.remembered_ids
        self._known: set[str] = set()
        """Keys of the blocks that `changed_blocks` has given, or that the state was restored from."""
        self._calls = 0
        self._horizons = {
            WAITING: min(settings.label_horizon_ms, _FOREVER_MS),
            ORPHAN: min(settings.longest_orphan_ms, _FOREVER_MS),
            JOINED: min(settings.correction_horizon_ms, _FOREVER_MS),
        }

    def apply(self, ops: JoinOps) -> JoinResult:
        """Do operations in order. ValueError (nothing is done) where columns do not fit or the watermark falls."""
        batch = _columns(ops)
        _check(ops, batch, self._state.watermark_ms)
        self._calls += 1
        if len(ops.watermark_ms):
            self._state.begin(int(ops.watermark_ms[0]))
        new_prediction = np.ones(len(ops.predictions), np.bool_)
        label_fate = np.zeros(len(ops.labels), np.uint8)
        parts = []
        for start, segment in _segments(batch, CHECK_EVERY - self._state.operations % CHECK_EVERY):
            changes = Changes(new_prediction, label_fate)
            self._resolve(segment, changes)
            self._state.operations += len(segment.hi)
            self._state.watermark_ms = int(segment.watermark_ms[-1])
            parts.append(Part(start, start + len(segment.hi) - 1, changes, *self._enforce()))
        self._note_unmatched(ops, label_fate)
        self._state.entries.compact()
        return result_of(new_prediction, label_fate, parts)

    def expire(self, watermark_ms: int) -> Gone:
        """Remove what is dead at the watermark; gives it with what operations have found dead since the last call."""
        self._calls += 1
        self._state.begin(watermark_ms)
        self._sweep(watermark_ms)
        late = self._give_up_late()
        self._state.watermark_ms = max(self._state.watermark_ms, watermark_ms)
        self._state.entries.compact()
        predictions, labels = self._state.expired_predictions, self._state.expired_labels
        self._state.expired_predictions, self._state.expired_labels = [], []
        return Gone(rows_of(predictions, PREDICTION_ROW), rows_of(labels, LABEL_ROW), late)

    def sizes(self) -> JoinSizes:
        """Tell how much is kept."""
        stores = self._state.entries.stores
        waiting, orphans, joined = (stores[kind].count for kind in KINDS)
        return JoinSizes(waiting, orphans, joined, self._state.entries.size_bytes, self._state.entries.memory_bytes)

    def snapshot_blocks(self) -> Iterator[tuple[str, bytes]]:
        """Give the key and content of all blocks; see `blocks`. Read them before the next call."""
        return self._sealed(records(self._state))

    def changed_blocks(self) -> BlockChanges:
        """Give the blocks that have changed since the last call, or since the buffer was restored.

        They count as stored from now on: whoever fails to store them must drop the buffer.
        """
        listed = records(self._state)
        keys = {record.key for record in listed}
        changed = [record for record in listed if record.changed or record.key not in self._known]
        vanished = tuple(sorted(self._known - keys))
        self._known = keys
        set_clean(self._state)
        return BlockChanges(self._sealed(changed), vanished)

    @classmethod
    def restore(cls, settings: JoinSettings, blocks: Mapping[str, bytes], *, spill: Spill | None = None) -> Self:
        """Make the buffer that gave these blocks: it answers further calls as that one would.

        JoinStateError names the block that is missing, damaged, of a newer version or at odds with the others.
        """
        buffer = cls(settings, restore_state(blocks, spill))
        buffer._known = set(blocks)
        return buffer

    def _sealed(self, listed: list[Record]) -> Iterator[tuple[str, bytes]]:
        calls = self._calls
        for record in listed:
            if self._calls != calls:
                raise RuntimeError("the join buffer changed while its blocks were being read")
            yield record.key, record.sealed()

    def _resolve(self, segment: Segment, changes: Changes) -> None:
        """Decide a segment and bring the entries up to date."""
        entries = self._state.entries
        entries.reserve(len(segment.hi))
        work = Work(segment, entries.find(segment.hi, segment.lo), entries, self._horizons, changes)
        repeats = _repeats(segment.hi)
        resolve_single(work, repeats.alone if repeats is not None else None)
        if repeats is not None:
            paired = resolve_pairs(work, repeats.first, repeats.second)
            rest = (repeats.first[~paired], repeats.second[~paired], repeats.rest)
            if len(operations := np.sort(np.concatenate(rest))):
                resolve_repeated(work, operations)
        write(work)
        _keep(self._state.expired_predictions, changes.expired_predictions, WAITING_ROW)
        _keep(self._state.expired_labels, changes.expired_labels, ORPHAN_ROW)
        self._note_departed(segment, changes)

    def _note_departed(self, segment: Segment, changes: Changes) -> None:
        """Remember predictions that the segment found dead, waiting or answered."""
        parts = [(*part, False) for part in changes.expired_predictions]
        parts += [(*part, True) for part in changes.dead_outcomes]
        if not parts:
            return
        operation = np.concatenate([part[0] for part in parts])
        made_ms = np.concatenate([part[1] for part in parts]).view(PREDICTION_ROW)["time_ms"]
        answered = np.repeat([part[2] for part in parts], [len(part[0]) for part in parts])
        order = operation.argsort(kind="stable")
        self._state.departed.add(segment.hi.take(operation[order]), made_ms[order], answered[order])

    def _note_unmatched(self, ops: JoinOps, fate: NDArray[np.uint8]) -> None:
        """Remember the keys of labels that found nothing, until `expire` asks why."""
        unmatched = fate == LabelFate.WAITING
        if self._settings.remembered_ids and unmatched.any():
            self._state.unmatched.append(ops.keys[ops.is_label][unmatched].copy())

    def _give_up_late(self) -> LateLabels:
        """Remove the labels that came since the last call, and wait, though their prediction has left."""
        self._state.departed.settle()
        if not self._state.unmatched:
            return NO_LATE
        keys = np.unique(np.concatenate(self._state.unmatched), axis=0)
        self._state.unmatched.clear()
        self._state.unmatched_written = 0
        known = self._state.departed.find(keys[:, 0])
        keys, made_ms, answered = keys[known.found], known.made_ms[known.found], known.answered[known.found]
        waiting = self._state.entries.find(keys[:, 0].copy(), keys[:, 1].copy()).of.get(ORPHAN)
        if waiting is None:
            return NO_LATE
        labels = self._state.entries.remove(ORPHAN, waiting.numbers).view(ORPHAN_ROW)["label"].copy().view(LABEL_ROW)
        order = labels["offset"].argsort(kind="stable")
        return LateLabels(labels[order], made_ms[waiting.index][order], answered[waiting.index][order])

    def _sweep(self, watermark_ms: int) -> None:
        for kind in KINDS:
            swept = self._state.entries.sweep(kind, watermark_ms - self._horizons[kind])
            if kind == WAITING:
                self._state.expired_predictions += [rows.view(WAITING_ROW)["prediction"].copy() for rows in swept]
                self._depart(swept, kind)
            elif kind == ORPHAN:
                self._state.expired_labels += [rows.view(ORPHAN_ROW)["label"].copy() for rows in swept]
            else:
                self._depart(swept, kind)

    def _depart(self, parts: list[Raw], kind: int) -> None:
        for part in parts:
            rows = part.view(ROW_TYPES[kind])
            made_ms = rows["prediction"].copy().view(PREDICTION_ROW)["time_ms"]
            self._state.departed.add(rows["hi"], made_ms, kind == JOINED)

    def _over(self) -> tuple[int, int]:
        """Tell how many entries and bytes there are too many; not positive where there are not."""
        return (
            self._state.entries.count - self._settings.max_entries,
            self._state.entries.size_bytes - self._settings.max_bytes,
        )

    def _enforce(self) -> tuple[list[Raw], list[Raw], int]:
        """Keep the bounds, where it is time to look at them; gives the predictions, labels and outcomes given up."""
        gone: dict[int, list[Raw]] = {kind: [] for kind in KINDS}
        if self._state.operations % CHECK_EVERY == 0 and max(self._over()) > 0:
            self._sweep(self._state.watermark_ms)
            for kind in (JOINED, ORPHAN, WAITING):
                gone[kind] = self._state.entries.evict(kind, *self._over())
            self._depart(gone[JOINED], JOINED)
        return (
            [rows.view(WAITING_ROW)["prediction"].copy() for rows in gone[WAITING]],
            [rows.view(ORPHAN_ROW)["label"].copy() for rows in gone[ORPHAN]],
            sum(len(rows) for rows in gone[JOINED]),
        )


class _Repeats(NamedTuple):
    """Operations by how often their key's first half occurs in the segment."""

    alone: Bool
    """Shape (n,): whether it occurs once."""
    first: Int
    second: Int
    """The two operations of keys that occur twice."""
    rest: Int


def _repeats(hi: U64) -> _Repeats | None:
    """Find keys that occur more than once; None where there are none."""
    order = hi.argsort(kind="stable")
    ordered = hi.take(order)
    same = ordered[1:] == ordered[:-1]
    if not same.any():
        return None
    start = np.concatenate(([True], ~same)).nonzero()[0]
    times = np.diff(start, append=len(hi))
    alone = np.zeros(len(hi), np.bool_)
    alone[order.take(start[times == 1])] = True
    twice = start[times == 2]
    first, second = order.take(twice), order.take(twice + 1)
    others = ~alone
    others[first] = others[second] = False
    return _Repeats(alone, first, second, others.nonzero()[0])


def _columns(ops: JoinOps) -> Segment:
    """See a whole batch as one segment."""
    labels_before = ops.is_label.cumsum() - ops.is_label
    place = np.where(ops.is_label, labels_before, np.arange(len(ops.is_label)) - labels_before)
    predictions, labels = np.ascontiguousarray(ops.predictions), np.ascontiguousarray(ops.labels)
    hi, lo = ops.keys[:, 0].copy(), ops.keys[:, 1].copy()
    extras = ops.extras
    if extras is not None and extras.count(None) == len(extras):
        extras = None
    return Segment(
        ops.is_label, hi, lo, ops.watermark_ms, place, raw(predictions), raw(labels), predictions, labels, extras
    )


def _check(ops: JoinOps, batch: Segment, watermark_ms: int) -> None:
    count, labels = len(ops.is_label), int(np.count_nonzero(ops.is_label))
    if not len(batch.hi) == len(ops.watermark_ms) == count:
        raise ValueError(f"{count} operations with {len(batch.hi)} keys and {len(ops.watermark_ms)} watermarks")
    if (len(ops.predictions), len(ops.labels)) != (count - labels, labels):
        raise ValueError(
            f"{count - labels} predictions and {labels} labels are announced, "
            f"but there are rows of {len(ops.predictions)} and {len(ops.labels)}"
        )
    if batch.extras is not None:
        if len(batch.extras) != len(ops.predictions):
            raise ValueError(f"{len(ops.predictions)} predictions with {len(batch.extras)} extras")
        if (longest := max(len(extra) for extra in batch.extras if extra is not None)) > MAX_EXTRA_BYTES:
            raise ValueError(f"an extra of {longest} bytes is longer than {MAX_EXTRA_BYTES}")
    if count and (ops.watermark_ms[0] < watermark_ms or (ops.watermark_ms[1:] < ops.watermark_ms[:-1]).any()):
        raise ValueError("the watermark falls")


def _segments(batch: Segment, room: int) -> Iterator[tuple[int, Segment]]:
    """Cut a batch where the bounds are to be looked at; the first segment has at most `room` operations."""
    count = len(batch.hi)
    if 0 < count <= room:
        yield 0, batch
        return
    start = 0
    while start < count:
        part = slice(start, start + room)
        yield (
            start,
            batch._replace(
                is_label=batch.is_label[part],
                hi=batch.hi[part],
                lo=batch.lo[part],
                watermark_ms=batch.watermark_ms[part],
                place=batch.place[part],
            ),
        )
        start, room = start + room, CHECK_EVERY


def _keep(pending: list[Raw], parts: list[tuple[Int, Raw]], row: np.dtype[np.void]) -> None:
    if parts:
        pending.append(in_order(parts, row)[1])
