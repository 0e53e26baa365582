"""The join's rules once more, one operation at a time over dicts: what the buffer is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from service.core.columns import LABEL_ROW, PREDICTION_ROW
from service.core.join import JoinOps, JoinResult
from service.core.join.entries import ENTRY_BYTES
from service.core.settings import JoinSettings


class Op(NamedTuple):
    """One operation. `key` is any pair; rows are told apart by the operation's number, kept in `offset`."""

    is_label: bool
    key: tuple[int, int]
    time_ms: int
    watermark_ms: int
    revision: int = 0
    extra: bytes | None = None


@dataclass
class Trace:
    """Everything that came out, in order, by the numbers of the operations."""

    new_prediction: list[bool] = field(default_factory=list)
    label_fate: list[int] = field(default_factory=list)
    outcomes: list[tuple[int, int, int, bytes | None]] = field(default_factory=list)
    corrections: list[tuple[int, int, int, int]] = field(default_factory=list)
    evicted_predictions: list[int] = field(default_factory=list)
    evicted_labels: list[int] = field(default_factory=list)
    evicted_joined: int = 0
    expired: list[tuple[list[int], list[int]]] = field(default_factory=list)
    late: list[list[tuple[int, int, bool]]] = field(default_factory=list)
    """At each expiry: label, event time of its prediction, whether that had a label."""
    sizes: list[tuple[int, int, int, int]] = field(default_factory=list)

    def add(self, first: int, result: JoinResult) -> None:
        """Note what the buffer said about a batch that began with operation `first`."""
        self.new_prediction += result.new_prediction.tolist()
        self.label_fate += result.label_fate.tolist()
        done = result.outcomes
        offsets = (done.predictions["offset"].tolist(), done.labels["offset"].tolist())
        self.outcomes += zip((done.operation + first).tolist(), *offsets, done.extras, strict=True)
        fixed = result.corrections
        labels = (fixed.old_labels["offset"].tolist(), fixed.labels["offset"].tolist())
        predictions = fixed.predictions["offset"].tolist()
        self.corrections += zip((fixed.operation + first).tolist(), predictions, *labels, strict=True)
        self.evicted_predictions += result.evicted.predictions["offset"].tolist()
        self.evicted_labels += result.evicted.labels["offset"].tolist()
        self.evicted_joined += result.evicted_joined


def batch_of(first: int, ops: Sequence[Op]) -> JoinOps:
    """Put operations in columns; `first` is the number of the first."""
    predictions = np.zeros(sum(not op.is_label for op in ops), PREDICTION_ROW)
    labels = np.zeros(sum(op.is_label for op in ops), LABEL_ROW)
    at = {True: 0, False: 0}
    for number, op in enumerate(ops, first):
        row = (labels if op.is_label else predictions)[at[op.is_label]]
        at[op.is_label] += 1
        row["offset"], row["time_ms"] = number, op.time_ms
        if op.is_label:
            row["revision"] = op.revision
    return JoinOps(
        np.array([op.is_label for op in ops], np.bool_),
        np.array([op.key for op in ops], np.uint64).reshape(-1, 2),
        np.array([op.watermark_ms for op in ops], np.int64),
        predictions,
        labels,
        [op.extra for op in ops if not op.is_label],
    )


WAITING, ORPHAN, JOINED = 1, 2, 3


@dataclass
class _Entry:
    time_ms: int
    prediction: int = -1
    label: int = -1
    revision: int = 0
    extra: bytes | None = None


class JoinModel:
    """One operation after the other. Dicts keep their order, which is that of insertion: oldest first."""

    def __init__(self, settings: JoinSettings, check_every: int) -> None:
        self.settings, self.check_every = settings, check_every
        self.horizon = {
            WAITING: settings.label_horizon_ms,
            ORPHAN: settings.longest_orphan_ms,
            JOINED: settings.correction_horizon_ms,
        }
        self.kinds: dict[int, dict[tuple[int, int], _Entry]] = {WAITING: {}, ORPHAN: {}, JOINED: {}}
        self.dead: tuple[list[int], list[int]] = ([], [])
        self.number = 0
        self.made_ms: list[int] = []
        self.departed: dict[int, tuple[int, bool]] = {}
        """First half of a key to the event time of its prediction, and whether that had a label."""
        self.unmatched: set[tuple[int, int]] = set()
        self.trace = Trace()

    def do(self, op: Op) -> None:
        self.made_ms.append(op.time_ms)
        kind, entry = self._living(op)
        (self._label if op.is_label else self._prediction)(op, kind, entry)
        self.number += 1
        if self.number % self.check_every == 0:
            self._enforce(op.watermark_ms)

    def expire(self, watermark_ms: int) -> None:
        self._sweep(watermark_ms)
        late = [key for key in self.unmatched if key in self.kinds[ORPHAN] and key[0] in self.departed]
        labels = {self.kinds[ORPHAN].pop(key).label: self.departed[key[0]] for key in late}
        self.trace.late.append([(label, *known) for label, known in sorted(labels.items())])
        self.unmatched.clear()
        self.trace.expired.append(self.dead)
        self.dead = ([], [])
        waiting, orphans, joined = (len(self.kinds[kind]) for kind in (WAITING, ORPHAN, JOINED))
        self.trace.sizes.append((waiting, orphans, joined, self._bytes()))

    def _living(self, op: Op) -> tuple[int, _Entry | None]:
        for kind, entries in self.kinds.items():
            if op.key in entries:
                entry = entries[op.key]
                if entry.time_ms + self.horizon[kind] < op.watermark_ms:
                    self._bury(kind, op.key, entries.pop(op.key))
                    return 0, None
                return kind, entry
        return 0, None

    def _bury(self, kind: int, key: tuple[int, int], entry: _Entry) -> None:
        if kind != ORPHAN:
            self.departed[key[0]] = (self.made_ms[entry.prediction], kind == JOINED)
        if kind == WAITING:
            self.dead[0].append(entry.prediction)
        elif kind == ORPHAN:
            self.dead[1].append(entry.label)

    def _prediction(self, op: Op, kind: int, entry: _Entry | None) -> None:
        self.trace.new_prediction.append(kind in (0, ORPHAN))
        if entry is None:
            self.kinds[WAITING][op.key] = _Entry(op.watermark_ms, prediction=self.number, extra=op.extra)
        elif kind == ORPHAN:
            entry.prediction, entry.extra = self.number, op.extra
            self._join(op, kind, entry)

    def _label(self, op: Op, kind: int, entry: _Entry | None) -> None:
        if entry is None:
            fate = 0
            self.unmatched.add(op.key)
            self.kinds[ORPHAN][op.key] = _Entry(op.watermark_ms, label=self.number, revision=op.revision)
        elif kind == WAITING:
            fate = 2
            entry.label, entry.revision = self.number, op.revision
            self._join(op, kind, entry)
        elif op.revision <= entry.revision:
            fate = 4
        elif kind == ORPHAN:
            fate = 1
            del self.kinds[ORPHAN][op.key]
            self.kinds[ORPHAN][op.key] = _Entry(op.watermark_ms, label=self.number, revision=op.revision)
        else:
            fate = 3
            self.trace.corrections.append((self.number, entry.prediction, entry.label, self.number))
            del self.kinds[JOINED][op.key]
            self.kinds[JOINED][op.key] = _Entry(op.watermark_ms, entry.prediction, self.number, op.revision)
        self.trace.label_fate.append(fate)

    def _join(self, op: Op, kind: int, entry: _Entry) -> None:
        self.trace.outcomes.append((self.number, entry.prediction, entry.label, entry.extra))
        del self.kinds[kind][op.key]
        entry.time_ms, entry.extra = op.watermark_ms, None
        self.kinds[JOINED][op.key] = entry

    def _bytes(self) -> int:
        fixed = sum(len(entries) * ENTRY_BYTES[kind] for kind, entries in self.kinds.items())
        return fixed + sum(4 + len(e.extra) for e in self.kinds[WAITING].values() if e.extra is not None)

    def _over(self) -> bool:
        count = sum(len(entries) for entries in self.kinds.values())
        return count > self.settings.max_entries or self._bytes() > self.settings.max_bytes

    def _enforce(self, watermark_ms: int) -> None:
        if self._over():
            self._sweep(watermark_ms)
        for kind in (JOINED, ORPHAN, WAITING):
            while self._over() and self.kinds[kind]:
                key = next(iter(self.kinds[kind]))
                entry = self.kinds[kind].pop(key)
                if kind == JOINED:
                    self.departed[key[0]] = (self.made_ms[entry.prediction], True)
                self.trace.evicted_joined += kind == JOINED
                if kind == ORPHAN:
                    self.trace.evicted_labels.append(entry.label)
                elif kind == WAITING:
                    self.trace.evicted_predictions.append(entry.prediction)

    def _sweep(self, watermark_ms: int) -> None:
        for kind, entries in self.kinds.items():
            for key, entry in list(entries.items()):
                if entry.time_ms + self.horizon[kind] < watermark_ms:
                    self._bury(kind, key, entries.pop(key))
