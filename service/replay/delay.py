"""Labels come later than predictions: this says when, and keeps what was not yet due."""

import heapq
from collections import deque
from collections.abc import Iterator

from msgspec.structs import replace

from schemas.events import Label

MAX_WAITING = 5_000_000
"""Labels that wait at a time, about 200 bytes each. At the limit DelayError: the delay is longer than this can hold."""


class DelayError(ValueError):
    """More labels wait than are held."""


class EventDelay:
    """Each label comes so many rows after its prediction. Its event time is that of the row with which it comes."""

    def __init__(self, rows: int, max_waiting: int = MAX_WAITING) -> None:
        self._rows = rows
        self._waiting: deque[tuple[int, Label]] = deque()
        self._number = 0
        self._times = (0, 0)
        self._max_waiting = max_waiting

    def row(self, time_ms: int, label: Label | None) -> list[Label]:
        """Take the next row; give the labels that are written after it. Raises DelayError."""
        number, waiting = self._number, self._waiting
        if label is not None:
            waiting.append((number + self._rows, label))
            if len(waiting) > self._max_waiting:
                raise _too_many(self._max_waiting)
        self._times = (self._times[1] if number else time_ms, time_ms)
        self._number += 1
        return self._due(number, time_ms) if waiting and waiting[0][0] <= number else []

    def rest(self) -> Iterator[Label]:
        """Give what still waits, as if rows went on at the pace of the last two."""
        before, last_ms = self._times
        step_ms = max(last_ms - before, 0)
        for extra in range(self._rows):
            yield from self._due(self._number + extra, last_ms + (extra + 1) * step_ms)

    def _due(self, number: int, time_ms: int) -> list[Label]:
        due = []
        while self._waiting and self._waiting[0][0] <= number:
            _, label = self._waiting.popleft()
            # A file that is not sorted by time must not give a label from before its prediction.
            due.append(replace(label, event_time_ms=time_ms) if time_ms > label.event_time_ms else label)
        return due


class TimeDelay:
    """Each label comes so many milliseconds of event time after its prediction."""

    def __init__(self, delay_ms: int, max_waiting: int = MAX_WAITING) -> None:
        self._delay_ms = delay_ms
        self._waiting: list[tuple[int, int, Label]] = []
        self._number = 0
        self._max_waiting = max_waiting

    def row(self, time_ms: int, label: Label | None) -> list[Label]:
        """Take the next row; give the labels that are written before the next. Raises DelayError.

        The order is by event time, of equal ones by row. A label is due when a row of its time or later was seen.
        """
        waiting = self._waiting
        if label is not None:
            due_ms = time_ms + self._delay_ms
            heapq.heappush(waiting, (due_ms, self._number, replace(label, event_time_ms=due_ms)))
            if len(waiting) > self._max_waiting:
                raise _too_many(self._max_waiting)
        self._number += 1
        due = []
        while waiting and waiting[0][0] <= time_ms:
            due.append(heapq.heappop(waiting)[2])
        return due

    def rest(self) -> Iterator[Label]:
        """Give what still waits."""
        while self._waiting:
            yield heapq.heappop(self._waiting)[2]


Delay = EventDelay | TimeDelay


def _too_many(limit: int) -> DelayError:
    return DelayError(f"more than {limit:,} labels wait for their time; shorten the label delay")
