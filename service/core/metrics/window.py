"""The latest outcomes of one model version, or of one segment of it, in bounded memory."""

from collections.abc import Iterator, Mapping
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from detectors.protocol import StateError
from service.core.columns import Bool, Float, Int, Outcomes
from service.core.layout import checked
from service.core.metrics.arithmetic import finite
from service.core.metrics.blocks import (
    BLOCK_ROWS,
    MAX_VECTOR_CLASSES,
    OUTCOME_ROW,
    OutcomeBlock,
    Rows,
    decode_vectors,
    widened,
)
from service.core.metrics.catalogue import ResolvedProblem
from service.core.metrics.change import ChangedAt, first_changed
from service.core.metrics.losses import loss
from service.core.metrics.selection import Since, WindowColumns
from service.core.settings import WindowSettings

MAX_VECTOR_BYTES = 64 * 2**20
"""Most bytes of class probabilities in one window. 5,000 outcomes of 200 classes take 8 MB; at 1,000,000 outcomes
(the setting's maximum) 8 classes are left. Longer vectors are not kept, and are counted."""

_VERSION = 1


class WindowState(TypedDict):
    """The snapshot of an OutcomeWindow: everything but its rows."""

    version: int
    problem: ResolvedProblem
    first: int
    total: int
    pushed_out_ms: int | None
    vectors_dropped_total: int


class OutcomeWindow:
    """The latest `capacity` outcomes. Those pushed out are forgotten; `truncated` says when that mattered.

    Rows are held in blocks of BLOCK_ROWS by outcome number, up to one block more than the capacity needs, so
    that a full block never changes again (but for corrections) until it vanishes.
    """

    def __init__(self, problem: ResolvedProblem, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"expected a capacity of at least 1, got {capacity}")
        self.problem: ResolvedProblem = problem
        self.capacity = capacity
        self.vector_limit = min(MAX_VECTOR_CLASSES, MAX_VECTOR_BYTES // (8 * capacity))
        """Longest vector of class probabilities that is kept."""
        self.vectors_dropped_total = 0
        self._blocks: list[OutcomeBlock] = []
        self._first = 0
        """Number of the oldest outcome of the window."""
        self._total = 0
        self._pushed_out_ms: int | None = None
        """Watermark of the newest outcome before `_first`."""
        self._written: set[str] = set()
        """Keys of the blocks that `changed_blocks` has given and not yet called vanished."""

    @property
    def total(self) -> int:
        """Outcomes ever taken; the number that the next one will have."""
        return self._total

    @property
    def nbytes(self) -> int:
        """Bytes of rows held."""
        return sum(block.nbytes for block in self._blocks)

    @property
    def size_bytes(self) -> int:
        """Bytes of the outcomes that are held, whatever is allocated for them."""
        return sum([block.size_bytes for block in self._blocks])

    def __len__(self) -> int:
        """Outcomes in the window."""
        return self._total - self._first

    def extend(self, outcomes: Outcomes, losses: Float) -> None:
        """Take outcomes with their `loss(problem, ...)`, shape (n,).

        Raises ValueError, and then nothing has changed, where watermarks fall or probabilities are damaged.
        """
        if not losses.size:
            return
        self._require_order(outcomes.watermark_ms)
        rows = _packed_rows(outcomes, losses)
        first = max(self._first, self._total + rows.size - self.capacity)
        skipped = max(0, first // BLOCK_ROWS * BLOCK_ROWS - self._total)  # rows of blocks that would vanish at once
        vectors, dropped = self._vectors(outcomes.probabilities, skipped)
        if first > self._total:
            self._pushed_out_ms = int(rows["watermark_ms"][first - 1 - self._total])
        elif first > self._first:
            self._pushed_out_ms = self._watermark_of(first - 1)
        self.vectors_dropped_total += dropped
        self._forget(first)
        self._total += skipped
        self._append(rows[skipped:], vectors)

    def correct(self, prediction_offset: Int, actual: Float, label_offset: Int) -> Bool:
        """Replace labels, shape (n,), of outcomes known by prediction offset, and their losses with them.

        Of several corrections of one outcome the last counts. False where the outcome has left the window.
        """
        wanted, last = np.unique(prediction_offset[::-1], return_index=True)
        if not wanted.size:
            return np.zeros(0, dtype=np.bool_)
        labels, offsets = actual[::-1][last], label_offset[::-1][last]
        found = np.zeros(wanted.size, dtype=np.bool_)
        for block, rows in self._parts(self._first, self._total):
            place = np.minimum(np.searchsorted(wanted, rows["prediction_offset"]), wanted.size - 1)
            hit = np.flatnonzero(wanted[place] == rows["prediction_offset"])
            if not hit.size:
                continue
            place = place[hit]
            found[place] = True
            rows["actual"][hit] = labels[place]
            rows["label_offset"][hit] = offsets[place]
            rows["loss"][hit] = loss(self.problem, rows["predicted"][hit], labels[place])
            block.changed = True
        return found[np.searchsorted(wanted, prediction_offset)]

    def select(self, settings: WindowSettings, now_ms: int) -> WindowColumns:
        """Give the outcomes of a window at one moment of event time.

        `last` counts outcomes. `duration_ms` takes those that became whole in [now_ms - duration_ms, now_ms), by
        the watermark: by the time of prediction a window shorter than the label delay would always be empty.
        """
        if settings.last is not None:
            start, stop = max(self._first, self._total - settings.last), self._total
            return self._columns(start, stop, truncated=self._first > max(0, self._total - settings.last))
        since_ms = now_ms - (settings.duration_ms or 0)
        times = self._gather(self._first, self._total)["watermark_ms"]
        start, stop = (self._first + int(n) for n in np.searchsorted(times, [since_ms, now_ms], side="left"))
        truncated = self._pushed_out_ms is not None and self._pushed_out_ms >= since_ms
        return self._columns(start, stop, truncated=truncated)

    def since(self, number: int) -> Since:
        """Say what is known of the outcomes from this number on."""
        start = max(number, self._first)
        rows = self._gather(start, self._total)
        if not rows.size:
            return Since(0, start, None, None, None, None, truncated=start > max(number, 0))
        losses = rows["loss"][np.isfinite(rows["loss"])]
        predictions, labels = rows["prediction_offset"], rows["label_offset"]
        with np.errstate(over="ignore"):
            mean = finite(float(np.sum(losses)) / losses.size) if losses.size else None
        return Since(
            outcomes=int(rows.size),
            first_number=start,
            whole_ms=int(rows["watermark_ms"][0]),
            prediction_offsets=(int(predictions.min()), int(predictions.max())),
            label_offsets=(int(labels.min()), int(labels.max())),
            mean_loss=mean,
            truncated=start > max(number, 0),
        )

    def changed_at(self, number: int) -> ChangedAt | None:
        """Say which prediction was the first after a change found at the outcome of this number; None: not kept."""
        if not self._first <= number < self._total:
            return None
        rows = self._gather(self._first, self._total)
        columns = [np.ascontiguousarray(rows[name]) for name in ("prediction_time_ms", "prediction_offset", "loss")]
        return first_changed(number - self._first, *columns)

    def losses(self, start: int, stop: int) -> Float:
        """Give the finite losses of the outcomes numbered [start, stop) that are still kept."""
        values: Float = self._gather(max(start, self._first), min(stop, self._total))["loss"]
        return values[np.isfinite(values)]

    def snapshot(self) -> WindowState:
        """Give everything but the rows, which `snapshot_blocks` gives."""
        return {
            "version": _VERSION,
            "problem": self.problem,
            "first": self._first,
            "total": self._total,
            "pushed_out_ms": self._pushed_out_ms,
            "vectors_dropped_total": self.vectors_dropped_total,
        }

    def snapshot_blocks(self) -> list[tuple[str, bytes]]:
        """Give every block as (key, bytes). Keys sort in the order of the outcomes."""
        return [(_key(block.number), block.pack()) for block in self._blocks]

    def changed_blocks(self) -> tuple[list[tuple[str, bytes]], list[str]]:
        """Give the blocks that changed since the last call, and the keys of those that have vanished."""
        changed = [(_key(block.number), block.pack()) for block in self._blocks if block.changed]
        for block in self._blocks:
            block.changed = False
        keys = {_key(block.number) for block in self._blocks}
        vanished = sorted(self._written - keys)
        self._written = keys
        return changed, vanished

    def restore(self, state: WindowState, blocks: Mapping[str, bytes]) -> None:
        """Take over a snapshot; other keys in `blocks` are let be. The capacity may differ from the snapshot's.

        Raises StateError, and then nothing has changed, where the snapshot is from a newer version, for another
        problem, or incomplete.
        """
        _demand(state, self.problem)
        first, total = state["first"], state["total"]
        wanted = range(first // BLOCK_ROWS, -(-total // BLOCK_ROWS) if total > first else 0)
        missing = [_key(number) for number in wanted if _key(number) not in blocks]
        if missing:
            raise StateError(f"missing block {missing[0]} of outcomes")
        held = [OutcomeBlock.unpack(number, blocks[_key(number)]) for number in wanted]
        for block in held:
            if block.length != min(BLOCK_ROWS, total - block.start):
                raise StateError(f"block {_key(block.number)} of outcomes has {block.length} rows, which is wrong")
        self._blocks, self._first, self._total = held, first, total
        self._pushed_out_ms = state["pushed_out_ms"]
        self.vectors_dropped_total = state["vectors_dropped_total"]
        self._written = {_key(number) for number in wanted}
        if len(self) > self.capacity:
            shrunk = total - self.capacity
            self._pushed_out_ms = self._watermark_of(shrunk - 1)
            self._forget(shrunk)

    def _require_order(self, watermark_ms: Int) -> None:
        falls = len(self) > 0 and watermark_ms[0] < self._watermark_of(self._total - 1)
        if falls or np.count_nonzero(watermark_ms[1:] < watermark_ms[:-1]):
            raise ValueError("expected watermarks that never fall")

    def _watermark_of(self, number: int) -> int:
        """Give the watermark of an outcome that is held."""
        block = self._blocks[number // BLOCK_ROWS - self._blocks[0].number]
        return int(block.rows["watermark_ms"][number - block.start])

    def _vectors(self, vectors: list[bytes | None], skipped: int) -> tuple[Float | None, int]:
        """Read the probabilities of the rows behind the skipped ones; count those too long, skipped or not."""
        if vectors.count(None) == len(vectors):
            return None, 0
        longest = 8 * self.vector_limit
        dropped = sum(vector is not None and len(vector) > longest for vector in vectors)
        return decode_vectors(vectors[skipped:], self.vector_limit), dropped

    def _append(self, rows: Rows, vectors: Float | None) -> None:
        """Put rows into the last block and into new ones."""
        taken = 0
        while taken < rows.size:
            if not self._blocks or self._blocks[-1].length == BLOCK_ROWS:
                self._blocks.append(OutcomeBlock(self._total // BLOCK_ROWS))
            block = self._blocks[-1]
            stop = min(rows.size, taken + BLOCK_ROWS - block.length)
            block.append(rows[taken:stop], None if vectors is None else _trimmed(vectors[taken:stop]))
            self._total += stop - taken
            taken = stop

    def _forget(self, first: int) -> None:
        """Let the window begin at this number and let go of the blocks before it."""
        self._first = first
        vanished = sum(block.number < first // BLOCK_ROWS for block in self._blocks)
        del self._blocks[:vanished]

    def _parts(self, start: int, stop: int) -> Iterator[tuple[OutcomeBlock, Rows]]:
        """Give the rows of [start, stop), block by block, to be read or written in place."""
        oldest = self._blocks[0].number if self._blocks else 0
        low_block, stop_block = start // BLOCK_ROWS - oldest, -(-stop // BLOCK_ROWS) - oldest
        for block in self._blocks[max(low_block, 0) : max(stop_block, 0)]:
            low, high = max(start - block.start, 0), min(stop - block.start, block.length)
            if low < high:
                yield block, block.rows[low:high]

    def _gather(self, start: int, stop: int) -> Rows:
        parts = [rows for _, rows in self._parts(start, stop)]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=OUTCOME_ROW)

    def _gather_vectors(self, start: int, stop: int) -> Float | None:
        """Give the probabilities of [start, stop), shape (n, K); None where no outcome has any."""
        parts: list[tuple[int, Float | None]] = []
        for block, rows in self._parts(start, stop):
            low = max(start - block.start, 0)
            held = block.probabilities
            parts.append((rows.size, None if held is None else held[low : low + rows.size]))
        classes = max((part.shape[1] for _, part in parts if part is not None), default=0)
        if not classes:
            return None
        return np.concatenate(
            [np.full((size, classes), np.nan) if part is None else widened(part, classes) for size, part in parts]
        )

    def _columns(self, start: int, stop: int, *, truncated: bool) -> WindowColumns:
        rows = self._gather(start, stop)
        return WindowColumns(
            number=np.arange(start, start + rows.size, dtype=np.int64),
            watermark_ms=np.ascontiguousarray(rows["watermark_ms"]),
            actual=np.ascontiguousarray(rows["actual"]),
            predicted=np.ascontiguousarray(rows["predicted"]),
            score=np.ascontiguousarray(rows["score"]),
            weight=np.ascontiguousarray(rows["weight"]),
            loss=np.ascontiguousarray(rows["loss"]),
            probabilities=self._gather_vectors(start, stop),
            truncated=truncated,
        )


def _key(number: int) -> str:
    return f"outcomes-{number:010d}"


def packed_outcomes(outcomes: Outcomes) -> NDArray[np.void]:
    """Give the outcomes as a window of classes keeps them: at once for many versions, for speed."""
    return _packed(outcomes, loss("multiclass", outcomes.predicted, outcomes.actual))


def _packed_rows(outcomes: Outcomes, losses: Float) -> NDArray[np.void]:
    if outcomes.packed is None:
        return _packed(outcomes, losses)
    rows = outcomes.packed.copy()
    rows["loss"] = losses
    return rows


def _packed(outcomes: Outcomes, losses: Float) -> NDArray[np.void]:
    rows = np.empty(outcomes.sequence.size, dtype=OUTCOME_ROW)
    for name in OUTCOME_ROW.names or ():
        rows[name] = losses if name == "loss" else getattr(outcomes, name)
    return rows


def _trimmed(vectors: Float) -> Float | None:
    """Let go of the last columns that no vector of these rows needs, so that a block does not depend on the batch.

    A column beyond a vector's end is 0, and so is one that the vector names with 0: both mean the same.
    """
    if bool(np.isnan(vectors[:, 0]).all()):
        return None
    used = np.flatnonzero((vectors > 0).any(axis=0))
    return vectors[:, : int(used[-1]) + 1 if used.size else 1]


def _demand(state: WindowState, problem: ResolvedProblem) -> None:
    if state.get("version") != _VERSION:
        raise StateError(f"expected a window of outcomes of version {_VERSION}, got {state.get('version')}")
    header = checked(state, WindowState)
    if header["problem"] != problem:
        raise StateError(f"$.problem: expected a window of a {problem} problem, got {header['problem']}")
    if not 0 <= header["first"] <= header["total"]:
        raise StateError(f"$.first: {header['first']} is not within total {header['total']}")
