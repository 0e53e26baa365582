"""Labels come later than predictions: this says when, and keeps what was not yet due."""

import heapq
from collections import deque
from collections.abc import Iterator

import msgspec

from schemas.events import Label
from service.replay.mapping import Mapped

MAX_WAITING = 5_000_000
"""Labels that wait at a time, about 200 bytes each. At the limit DelayError: the delay is longer than this can hold."""


class DelayError(ValueError):
    """More labels wait than are held."""


class EventDelay:
    """Each label comes so many rows after its prediction. Its event time is that of the row with which it comes."""

    def __init__(self, rows: int, max_waiting: int = MAX_WAITING) -> None:
        self._rows = rows
        self._waiting: deque[tuple[int, int, Label]] = deque()
        self._number = 0
        self._times = (0, 0)
        self._max_waiting = max_waiting

    def row(self, line: int, mapped: Mapped) -> Iterator[tuple[int, Label]]:
        """Take the next row; give the labels (with the lines that they stand on) that are written after it."""
        if mapped.label is not None:
            self._waiting.append((self._number + self._rows, line, mapped.label))
            _refuse_too_many(len(self._waiting), self._max_waiting)
        yield from self._due(self._number, mapped.time_ms)
        self._times = (self._times[1] if self._number else mapped.time_ms, mapped.time_ms)
        self._number += 1

    def rest(self) -> Iterator[tuple[int, Label]]:
        """Give what still waits, as if rows went on at the pace of the last two."""
        before, last_ms = self._times
        step_ms = max(last_ms - before, 0)
        for extra in range(self._rows):
            yield from self._due(self._number + extra, last_ms + (extra + 1) * step_ms)

    def _due(self, number: int, time_ms: int) -> Iterator[tuple[int, Label]]:
        while self._waiting and self._waiting[0][0] <= number:
            _, line, label = self._waiting.popleft()
            # A file that is not sorted by time must not give a label from before its prediction.
            yield line, msgspec.structs.replace(label, event_time_ms=max(time_ms, label.event_time_ms))


class TimeDelay:
    """Each label comes so many milliseconds of event time after its prediction."""

    def __init__(self, delay_ms: int, max_waiting: int = MAX_WAITING) -> None:
        self._delay_ms = delay_ms
        self._waiting: list[tuple[int, int, int, Label]] = []
        self._number = 0
        self._max_waiting = max_waiting

    def row(self, line: int, mapped: Mapped) -> Iterator[tuple[int, Label]]:
        """Take the next row; give the labels (with the lines that they stand on) that are written before the next.

        The order is by event time, of equal ones by row. A label is due when a row of its time or later was seen.
        """
        if mapped.label is not None:
            due_ms = mapped.time_ms + self._delay_ms
            label = msgspec.structs.replace(mapped.label, event_time_ms=due_ms)
            heapq.heappush(self._waiting, (due_ms, self._number, line, label))
            _refuse_too_many(len(self._waiting), self._max_waiting)
        self._number += 1
        while self._waiting and self._waiting[0][0] <= mapped.time_ms:
            _, _, due_line, due = heapq.heappop(self._waiting)
            yield due_line, due

    def rest(self) -> Iterator[tuple[int, Label]]:
        """Give what still waits."""
        while self._waiting:
            _, _, line, label = heapq.heappop(self._waiting)
            yield line, label


Delay = EventDelay | TimeDelay


def _refuse_too_many(count: int, limit: int) -> None:
    if count > limit:
        raise DelayError(f"more than {limit:,} labels wait for their time; shorten the label delay")
