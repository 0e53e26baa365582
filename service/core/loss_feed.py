"""A batch of outcomes on its way into the window, stopping wherever something is to be decided."""

from collections import deque
from typing import NamedTuple, Protocol

import numpy as np

from detectors.protocol import Verdict
from service.core.columns import Float, Outcomes
from service.core.findings import Finding
from service.core.metrics.window import OutcomeWindow

NEVER = 1 << 62
"""A number of outcomes that is not reached."""


class Drift(NamedTuple):
    """A detector's drift at a row of the batch."""

    row: int
    place: int
    verdict: Verdict
    change: int
    """Number of the first outcome after the estimated change."""


class Judge(Protocol):
    """Who decides."""

    def next_check(self, count: int) -> int:
        """Say behind how many outcomes, more than `count`, an open cause is looked at again."""
        ...

    def judge(self, drift: Drift, outcomes: Outcomes, window: OutcomeWindow) -> Finding | None:
        """Decide on a detector's drift, once the window holds the outcomes up to it."""
        ...

    def check(self, row: int, outcomes: Outcomes, window: OutcomeWindow) -> Finding | None:
        """Look whether an open cause is gone."""
        ...


class LossFeed:
    """A batch of outcomes on its way into the window, stopping wherever something is to be decided.

    The caller says up to which outcome; at a finding it stops earlier. So whoever looks at the window sees exactly the
    outcomes up to that moment, wherever the batch was cut.
    """

    def __init__(
        self, monitor: Judge, outcomes: Outcomes, losses: Float, window: OutcomeWindow, drifts: list[Drift]
    ) -> None:
        self._monitor = monitor
        self._outcomes = outcomes
        self._losses = losses
        self._window = window
        self._drifts = deque(drifts)
        self._start = window.total

    @property
    def end(self) -> int:
        """Outcomes that the window will have had when all of the batch is in."""
        return self._start + len(self._losses)

    def count_through(self, sequence: int) -> int:
        """Outcomes that the window will have had behind a record; NEVER where that is not in this batch's reach."""
        if not len(self._losses) or sequence > self._outcomes.sequence[-1]:
            return NEVER
        return self._start + int(np.searchsorted(self._outcomes.sequence, sequence, side="right"))

    def moment(self) -> tuple[int, int]:
        """Sequence and watermark of the newest outcome in the window that came from this batch."""
        row = max(self._window.total - self._start - 1, 0)
        return int(self._outcomes.sequence[row]), int(self._outcomes.watermark_ms[row])

    def next_stop(self) -> int:
        """Say at how many outcomes there is something to decide next, or the batch ends."""
        drift_at = self._start + self._drifts[0].row + 1 if self._drifts else NEVER
        return min(drift_at, self._monitor.next_check(self._window.total), self.end)

    def sequence_of(self, number: int) -> int:
        """Give the number of the record that brings so many outcomes into the window; -1 where the batch has none."""
        if not len(self._losses):
            return -1
        return int(self._outcomes.sequence[max(number - self._start - 1, 0)])

    def next_moment(self) -> tuple[int, int]:
        """Sequence and watermark of the outcome that comes next; there must be one."""
        row = self._window.total - self._start
        return int(self._outcomes.sequence[row]), int(self._outcomes.watermark_ms[row])

    def advance(self, until: int) -> Finding | None:
        """Put outcomes into the window until it has had `until`, or until there is a finding, which is given."""
        until = min(until, self.end)
        while self._window.total < until or self._drift_is_due():
            drift_at = self._start + self._drifts[0].row + 1 if self._drifts else until + 1
            check_at = self._monitor.next_check(self._window.total)
            stop = min(drift_at, check_at, until)
            self._extend(stop)
            found = None
            if stop == drift_at:
                found = self._monitor.judge(self._drifts.popleft(), self._outcomes, self._window)
            elif stop == check_at:
                found = self._monitor.check(stop - 1 - self._start, self._outcomes, self._window)
            if found is not None:
                return found
        return None

    def _drift_is_due(self) -> bool:
        """Two detectors may drift at the same outcome."""
        return bool(self._drifts) and self._start + self._drifts[0].row + 1 == self._window.total

    def _extend(self, stop: int) -> None:
        first, last = self._window.total - self._start, stop - self._start
        if last > first:
            whole = last - first == len(self._losses)
            outcomes = self._outcomes if whole else self._outcomes.part(first, last)
            self._window.extend(outcomes, self._losses[first:last])
