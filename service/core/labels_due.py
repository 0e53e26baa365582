"""Predictions by event time, in cells, with how many have had their label: what coverage is counted on."""

from typing import Final, NamedTuple, TypedDict

import numpy as np

from service.core.columns import Int

MAX_CELLS: Final = 256
"""Cells that `take` leaves; beyond it neighbours are put together, so that they are judged a little later."""


class Cell(NamedTuple):
    """Predictions made before `end_ms` and behind the cell before it, and how many of them have a label."""

    end_ms: int
    predictions: int
    labelled: int


class DueLabelsState(TypedDict):
    """The snapshot of a DueLabels; `cells`: end, predictions, labelled."""

    width_ms: int
    grid_from_ms: int
    newest_ms: int
    judged_ms: int
    cells: list[tuple[int, int, int]]


class DueLabels:
    """Cells of equal width from a moment on. Edges change in `take` and `resize` alone, so order within does not count.

    Costs: a few array operations for each call, and a cell for each width of event time between two calls of `take`.
    """

    def __init__(self, width_ms: int) -> None:
        self.width_ms = width_ms
        self._counts: dict[int, list[int]] = {}
        """End of a cell to predictions and labelled ones."""
        self._grid_from_ms = 0
        """From here on cells have `width_ms`."""
        self._newest_ms = -1
        self._judged_ms = 0
        """What was made before is judged, and not counted any more."""

    @property
    def oldest_end_ms(self) -> int | None:
        """End of the cell that is judged next."""
        return min(self._counts, default=None)

    def end_of(self, time_ms: int) -> int:
        """Give the end of the cell in which a moment lies."""
        if time_ms >= self._grid_from_ms:
            return (time_ms // self.width_ms + 1) * self.width_ms
        return int(self._ends(np.array([time_ms], dtype=np.int64))[0])

    def is_judged(self, time_ms: int) -> bool:
        """Whether predictions of a moment are not counted any more."""
        return time_ms < self._judged_ms

    def add_predictions(self, time_ms: Int) -> None:
        """Count predictions by their event times, shape (n,)."""
        self._newest_ms = max(self._newest_ms, int(time_ms.max(initial=-1)))
        for end, count in self._counted(time_ms):
            self._counts.setdefault(end, [0, 0])[0] += count

    def add_labelled(self, time_ms: Int) -> None:
        """Count labels of predictions with these event times; what is judged already is left out."""
        for end, count in self._counted(time_ms):
            # Also where no prediction is counted, as of one that came late: others of the cell may come behind it.
            self._counts.setdefault(end, [0, 0])[1] += count

    def _counted(self, time_ms: Int) -> list[tuple[int, int]]:
        ends, counts = np.unique(self._ends(time_ms[time_ms >= self._judged_ms]), return_counts=True)
        return list(zip(ends.tolist(), counts.tolist(), strict=True))

    def _ends(self, time_ms: Int) -> Int:
        ends: Int = (time_ms // self.width_ms + 1) * self.width_ms
        early = time_ms < self._grid_from_ms
        if early.any():
            old = np.array([*sorted(end for end in self._counts if end < self._grid_from_ms), self._grid_from_ms])
            ends[early] = old[np.searchsorted(old, time_ms[early], side="right")]
        return ends

    def _halve(self) -> None:
        """Put every second cell into the next one; the newest stays as it is."""
        ends = sorted(self._counts)
        for first, second in zip(ends[:-1:2], ends[1::2], strict=False):
            for place, count in enumerate(self._counts.pop(first)):
                self._counts[second][place] += count

    def take(self, before_ms: int) -> list[Cell]:
        """Give the cells that end at or before a moment, oldest first, and count nothing older any more."""
        self._judged_ms = max(self._judged_ms, before_ms)
        while len(self._counts) > MAX_CELLS:
            self._halve()
        ends = sorted(end for end in self._counts if end <= before_ms)
        return [Cell(end, *self._counts.pop(end)) for end in ends]

    def made_between(self, start_ms: int, end_ms: int) -> int:
        """Count the predictions of cells, not yet taken, that lie between two moments with all of their width."""
        return sum(counts[0] for end, counts in self._counts.items() if start_ms + self.width_ms <= end <= end_ms)

    def resize(self, width_ms: int) -> None:
        """Let cells behind the newest prediction have another width, where it differs by more than the factor 2."""
        if self.width_ms <= 2 * width_ms and width_ms <= 2 * self.width_ms:
            return
        cut = max(self._newest_ms + 1, self._grid_from_ms)
        for end in [end for end in self._counts if end > cut]:
            counts = self._counts.pop(end)
            held = self._counts.setdefault(cut, [0, 0])
            held[0] += counts[0]
            held[1] += counts[1]
        self._grid_from_ms = cut
        self.width_ms = width_ms

    def snapshot(self) -> DueLabelsState:
        """Give it as plain data."""
        return {
            "width_ms": self.width_ms,
            "grid_from_ms": self._grid_from_ms,
            "newest_ms": self._newest_ms,
            "judged_ms": self._judged_ms,
            "cells": [(end, counts[0], counts[1]) for end, counts in sorted(self._counts.items())],
        }

    def restore(self, state: DueLabelsState) -> None:
        """Take over a snapshot."""
        self.width_ms = state["width_ms"]
        self._grid_from_ms = state["grid_from_ms"]
        self._newest_ms = state["newest_ms"]
        self._judged_ms = state["judged_ms"]
        self._counts = {end: [predictions, labelled] for end, predictions, labelled in state["cells"]}
