"""Identifiers of labels that wait for their prediction, so that their dead letters can name it.

The join keeps hashes of identifiers. Here are the texts of the first that wait; beyond the bound a dead letter says
where the label lies and no more.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypedDict

import numpy as np

from service.core.columns import Bool
from service.core.join import JoinResult, LabelFate
from service.core.prepare import LabelBatch

MAX_NAMES: Final = 5_000
"""Labels whose prediction is named. They are part of every snapshot: 200 kB of usual identifiers."""

_VERSION: Final = 1


class Arrived(NamedTuple):
    """A label that has found no prediction."""

    operation: int
    """Of the join, in its batch."""
    offset: int
    prediction_id: str
    time_ms: int
    """Clock of the log, from which on it waits."""


class NamesState(TypedDict):
    """The snapshot of WaitingNames."""

    version: int
    names: list[tuple[int, str, int]]
    """Offset, prediction_id and clock of the log, oldest first."""


class WaitingNames:
    """Offset of a waiting label to what it named."""

    def __init__(self) -> None:
        self._names: dict[int, tuple[str, int]] = {}

    @property
    def empty(self) -> bool:
        """Whether no label waits here."""
        return not self._names

    def follow(self, arrived: Sequence[Arrived], gone: Mapping[int, int]) -> dict[int, str]:
        """Take in labels that arrived and let go of those that are gone, in the order of operations.

        `gone`: offset to the operation after which it no longer waits, or never did. Gives what those were, by offset.
        """
        names: dict[int, str] = {}
        waited = gone.keys() & (self._names.keys() | {one.offset for one in arrived})
        turns: list[tuple[int, int, int, Arrived | None]] = [(one.operation, 0, one.offset, one) for one in arrived]
        turns += [(gone[offset], 1, offset, None) for offset in waited]
        for _, _, offset, label in sorted(turns, key=_turn):
            if label is not None and len(self._names) < MAX_NAMES:
                self._names[offset] = (label.prediction_id, label.time_ms)
            elif label is None and (name := self.take(offset)) is not None:
                names[offset] = name
        return names

    def take(self, offset: int) -> str | None:
        """Let go of a label; give the prediction that it named, where that is known."""
        found = self._names.pop(offset, None)
        return None if found is None else found[0]

    def forget_before(self, time_ms: int) -> None:
        """Let go of labels that came before some time of the log: a higher revision took their place."""
        for offset in [offset for offset, (_, at_ms) in self._names.items() if at_ms < time_ms]:
            del self._names[offset]

    def snapshot(self) -> NamesState:
        """Give it as plain data."""
        return {"version": _VERSION, "names": [(offset, *name) for offset, name in self._names.items()]}

    def restore(self, state: NamesState) -> None:
        """Take over a snapshot."""
        self._names = {offset: (name, time_ms) for offset, name, time_ms in state["names"]}


def follow_names(names: WaitingNames, labels: LabelBatch, is_label: Bool, result: JoinResult) -> dict[int, str]:
    """Keep the identifiers of a stretch's labels that wait; give those of labels that no longer do, by offset."""
    rows = np.flatnonzero((result.label_fate == LabelFate.WAITING) | (result.label_fate == LabelFate.REPLACED))
    if not len(rows) and names.empty:
        return {}
    operations = np.flatnonzero(is_label)[rows].tolist()
    arrived = [
        Arrived(operation, int(labels.offset[row]), labels.events[row].prediction_id, int(labels.log_ms[row]))
        for operation, row in zip(operations, rows.tolist(), strict=True)
    ]
    joined, evicted = result.outcomes, result.evicted.labels
    gone = dict(zip(joined.labels["offset"].tolist(), joined.operation.tolist(), strict=True))
    gone.update(zip(evicted["offset"].tolist(), result.evicted_labels_after.tolist(), strict=True))
    return names.follow(arrived, gone)


def _turn(turn: tuple[int, int, int, Arrived | None]) -> tuple[int, int, int]:
    return turn[:3]
