"""Performance by segment: a window of outcomes of its own for each value of a tracked segment."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypedDict

import numpy as np

from service.core.columns import Corrections, Float, Outcomes
from service.core.metrics import OutcomeWindow, ResolvedProblem
from service.core.metrics.window import WindowState

OTHER = "(other)"
"""The value that stands for all beyond `max_segment_values`."""

_WINDOW_BYTES = 3_000
"""What a window takes beside its outcomes."""

BEYOND = -2
"""The code of a combination for which there was no room."""


class SegmentTableState(TypedDict):
    """The snapshot of a SegmentTable."""

    values: list[list[str]]
    combinations: list[tuple[str | None, ...]]


class SegmentTable:
    """Values of a model's tracked segments, and the combinations of them that its predictions had, as codes.

    Bounded: at most `max_values` values of each segment and OTHER, and so combinations; at most MAX_COMBINATIONS of
    these, beyond which a prediction belongs to no segment and is counted.
    """

    MAX_COMBINATIONS = 10_000

    def __init__(self, names: Sequence[str], max_values: int) -> None:
        self.names = tuple(names)
        self._max_values = max_values
        self._values: list[dict[str, None]] = [{} for _ in self.names]
        self.combinations: list[tuple[str | None, ...]] = []
        self._codes: dict[tuple[str | None, ...], int] = {}

    def code(self, segments: Mapping[str, str] | None) -> int:
        """Give the code of a prediction's combination; BEYOND where there is no room. Call it in merged order."""
        raw = tuple((segments or {}).get(name) for name in self.names)
        code = self._codes.get(raw)
        if code is not None:
            return code
        known = tuple(self._bounded(place, value) for place, value in enumerate(raw))
        code = self._codes.get(known)
        if code is None:
            if len(self.combinations) >= self.MAX_COMBINATIONS:
                return BEYOND
            code = self._codes[known] = len(self.combinations)
            self.combinations.append(known)
        return code

    def _bounded(self, place: int, value: str | None) -> str | None:
        values = self._values[place]
        if value is None or value in values:
            return value
        if len(values) >= self._max_values:
            return OTHER
        values[value] = None
        return value

    def labels(self, code: int) -> list[str]:
        """Name the segments of a combination, as country=DE."""
        pairs = zip(self.names, self.combinations[code], strict=True)
        return [f"{name}={value}" for name, value in pairs if value is not None]

    def snapshot(self) -> SegmentTableState:
        """Give it as plain data."""
        return {
            "values": [list(values) for values in self._values],
            "combinations": list(self.combinations),
        }

    def restore(self, state: SegmentTableState) -> None:
        """Take over a snapshot, unless it is of other segments."""
        if len(state["values"]) != len(self.names):
            return
        self._values = [dict.fromkeys(values) for values in state["values"]]
        self.combinations = [tuple(combination) for combination in state["combinations"]]
        self._codes = {combination: code for code, combination in enumerate(self.combinations)}


class SegmentsState(TypedDict):
    """The snapshot of SegmentWindows, without the rows."""

    beyond_limit: int
    windows: dict[str, WindowState]


class SegmentWindows:
    """The windows of one model version's segments."""

    def __init__(self, table: SegmentTable, problem: ResolvedProblem, capacity: int) -> None:
        self._table = table
        self._problem: ResolvedProblem = problem
        self._capacity = capacity
        self.windows: dict[str, OutcomeWindow] = {}
        self.beyond_limit = 0
        """Outcomes whose value, or combination, found no room."""

    def extend(self, outcomes: Outcomes, losses: Float) -> None:
        """Take outcomes in order."""
        if not self._table.names:
            return
        self.beyond_limit += int(np.count_nonzero(outcomes.segments == BEYOND))
        members: dict[str, list[int]] = {}
        for code in np.unique(outcomes.segments).tolist():
            if code >= 0:
                for label in self._table.labels(code):
                    members.setdefault(label, []).append(code)
        for label, codes in members.items():
            keep = np.isin(outcomes.segments, codes)
            self._window(label).extend(outcomes.where(keep), losses[keep])
            if label.endswith(f"={OTHER}"):
                self.beyond_limit += int(np.count_nonzero(keep))

    def correct(self, corrections: Corrections) -> None:
        """Replace labels where an outcome is held."""
        for window in self.windows.values():
            window.correct(corrections.prediction_offset, corrections.actual, corrections.label_offset)

    def _window(self, label: str) -> OutcomeWindow:
        if label not in self.windows:
            self.windows[label] = OutcomeWindow(self._problem, self._capacity)
        return self.windows[label]

    def named(self) -> Iterator[tuple[str, OutcomeWindow]]:
        """Give the windows by name, sorted."""
        yield from sorted(self.windows.items())

    @property
    def size_bytes(self) -> int:
        """Bytes of all windows."""
        return sum([_WINDOW_BYTES + window.size_bytes for window in self.windows.values()])

    def snapshot(self) -> SegmentsState:
        """Give all but the rows."""
        windows = {label: window.snapshot() for label, window in self.windows.items()}
        return {"beyond_limit": self.beyond_limit, "windows": windows}

    def restore(self, state: SegmentsState, blocks: Mapping[str, Mapping[str, bytes]]) -> None:
        """Take over a snapshot and the blocks of each window."""
        self.beyond_limit = state["beyond_limit"]
        for place, (label, header) in enumerate(state["windows"].items()):
            self._window(label).restore(header, blocks.get(str(place), {}))
