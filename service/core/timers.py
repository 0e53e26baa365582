"""When each model's timers are due: by its own records, or, while it is silent, by the clock of the log.

A timer has an event time. It fires at the first of these moments at which the model's watermark has passed it and a
multiple of the tick: a record of the model's own, or a tick of the log's clock, but at that only where the model's
clock has gone on by a tick since its last record. So each moment depends on the records alone, not on the steps in
which they came.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from service.core.columns import Int
from service.core.model_clocks import Course, ModelTime
from service.core.settings import CoreSettings
from service.core.shares import Moment

NEVER: Final = 1 << 62


class Timers:
    """When which model of a task is due while it is silent, by the clock of the log."""

    def __init__(self, settings: CoreSettings) -> None:
        self._tick_ms = settings.tick_ms
        self._lateness_ms = settings.allowed_lateness_ms
        self._due_ms: Int = np.zeros(0, dtype=np.int64)

    def watermark(self, clock_ms: int) -> int:
        """Give the watermark of a model whose clock stands there."""
        return clock_ms - self._lateness_ms

    def watermarks(self, clock_ms: Int) -> Int:
        """Do the same for many."""
        return clock_ms - self._lateness_ms

    def tick(self, clock_ms: int) -> int:
        """Give the last multiple of the tick that the watermark has passed."""
        return (clock_ms - self._lateness_ms) // self._tick_ms * self._tick_ms

    def set(self, model: int, deadline_ms: int, time: ModelTime) -> None:
        """Note when a model's next timer is due. `time`: what its clock is known by after its last record."""
        if model >= len(self._due_ms):
            more = max(model + 1 - len(self._due_ms), len(self._due_ms) // 2)
            self._due_ms = np.append(self._due_ms, np.full(more, NEVER, dtype=np.int64))
        self._due_ms[model] = min(self._log_time(deadline_ms, time), NEVER)

    def due(self, log_ms: int) -> list[int]:
        """Give the models of which something is due at a tick of the log's clock; places rise.

        One look at a column of all models: 10,000 of them take some microseconds.
        """
        due: list[int] = np.flatnonzero(self._due_ms <= log_ms).tolist()
        return due

    def moments(self, course: Course) -> Iterator[tuple[int, Moment]]:
        """Give the records at which a model's watermark passes a multiple of the tick, by place of the model."""
        ticks = (course.clock_ms - self._lateness_ms) // self._tick_ms
        for model, (start, stop) in course.shares.items():
            before = (course.before[model].clock_ms - self._lateness_ms) // self._tick_ms
            if ticks[stop - 1] == before:
                continue
            for row in (np.flatnonzero(np.diff(ticks[start:stop], prepend=before)) + start).tolist():
                yield model, Moment(int(course.sequence[row]), int(course.clock_ms[row]))

    def _log_time(self, deadline_ms: int, time: ModelTime) -> int:
        """Say at which time of the log's clock a silent model's watermark passes a deadline, and a further tick."""
        own = (time.clock_ms - self._lateness_ms) // self._tick_ms
        ticks = max(-(-deadline_ms // self._tick_ms), own + 1)
        return ticks * self._tick_ms + self._lateness_ms + time.delay_ms
