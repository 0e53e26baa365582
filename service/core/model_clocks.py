"""The time of each model: every model has a clock of its own, which others' records cannot move.

What moves it are the event times of the model's own records, robustly (see `clock`): the running lower median of the
last nine of its predictions, and of its labels, whichever is later, for labels may tell of an earlier time than the
predictions beside them, or of a later one. Between them, and while the model is silent, it goes on with the clock of
the log: it stays behind that as far as it was behind at the last record, so it never runs slower than the log does.

    clock = max(own, log - delay)    own: maximum of the medians; delay: minimum of what they were behind the log
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from service.core.clock import FRESH, REMEMBERED, medians
from service.core.columns import Int

_SHIFT: Final = 48
_TOP: Final = (1 << _SHIFT) - 1
"""No time is later, see `schemas.events.MAX_EPOCH_MS`."""
_GROUPS: Final = 1 << (63 - _SHIFT)
"""A time and the number of one of so many models share 63 bits."""


class ModelTime(NamedTuple):
    """What a model's clock is known by at a record, until the next."""

    clock_ms: int
    """Its time at the record; -1: no record has told any."""
    delay_ms: int
    """How far it stays behind the clock of the log."""

    def at(self, log_ms: int) -> int:
        """Give its time when the log's clock has come to a later one."""
        return max(self.clock_ms, log_ms - self.delay_ms)


class Rows(NamedTuple):
    """Records of one input that tell a time, in order. Shape (n,) each."""

    model: Int
    """Place of the model in the roster."""
    sequence: Int
    told_ms: Int
    log_ms: Int
    """Clock of the log at the record."""


class Course(NamedTuple):
    """The clocks of a step's models at each of their records, model after model, in order within each."""

    sequence: Int
    clock_ms: Int
    """At the record, itself included."""
    delay_ms: Int
    shares: dict[int, tuple[int, int]]
    """Place of the model to start and stop of its records; places rise."""
    before: dict[int, ModelTime]
    """What each was before its first record here."""
    predictions_ms: Int
    """The clock at each prediction, in the order in which they were given."""
    labels_ms: Int


_NOTHING: Final[Int] = np.zeros(0, dtype=np.int64)
_NO_COURSE: Final = Course(_NOTHING, _NOTHING, _NOTHING, {}, {}, _NOTHING, _NOTHING)


class ModelClocks:
    """The clocks of all models of a task, by their places in the roster."""

    def __init__(self) -> None:
        self._clock_ms: Int = np.zeros(0, dtype=np.int64)
        self._delay_ms: Int = np.zeros(0, dtype=np.int64)
        self._remembered: Int = np.zeros((2, 0, REMEMBERED), dtype=np.int64)

    def time_of(self, model: int) -> ModelTime:
        """Say what a model's clock is known by after all records so far."""
        if model >= len(self._clock_ms):
            return ModelTime(-1, _TOP)
        return ModelTime(int(self._clock_ms[model]), int(self._delay_ms[model]))

    def advance(self, predictions: Rows, labels: Rows) -> Course:
        """Take the records of a step."""
        both = Rows(*(np.concatenate(pair) for pair in zip(predictions, labels, strict=True)))
        if not len(both.model):
            return _NO_COURSE
        self._make_room(int(both.model.max()) + 1)
        told = [self._medians(number, rows) for number, rows in enumerate((predictions, labels))]
        order = np.lexsort((both.sequence, both.model))
        own, log_ms, model = np.concatenate(told)[order], both.log_ms[order], both.model[order]
        starts, group = _groups(model)
        models = model[starts]
        clock_0, delay_0 = self._clock_ms[models], self._delay_ms[models]
        own[starts] = np.maximum(own[starts], clock_0)
        late = np.clip(log_ms - np.concatenate(told)[order], 0, _TOP)
        late[starts] = np.minimum(late[starts], delay_0)
        delay_ms = _TOP - _running_maximum(_TOP - late, group)
        clock_ms = np.maximum(_running_maximum(own, group), log_ms - delay_ms)
        stops = np.append(starts[1:], len(model)).astype(np.int64)
        last = stops - 1
        self._clock_ms[models], self._delay_ms[models] = clock_ms[last], delay_ms[last]
        given = np.empty(len(order), dtype=np.int64)
        given[order] = clock_ms
        places = models.tolist()
        return Course(
            both.sequence[order],
            clock_ms,
            delay_ms,
            dict(zip(places, zip(starts.tolist(), stops.tolist(), strict=True), strict=True)),
            dict(zip(places, map(ModelTime, clock_0.tolist(), delay_0.tolist()), strict=True)),
            given[: len(predictions.model)],
            given[len(predictions.model) :],
        )

    def _medians(self, which: int, rows: Rows) -> Int:
        """Give the running median of the times of each row's model, in the order of the rows."""
        count = len(rows.model)
        if not count:
            return rows.told_ms
        order = np.argsort(rows.model, kind="stable")
        starts, group = _groups(rows.model[order])
        models = rows.model[order][starts]
        # Each model's times stand behind those that are remembered of it, and the windows go over all of them at once.
        at = np.arange(count) + REMEMBERED * (group + 1)
        stops = np.append(starts[1:], count) + REMEMBERED * np.arange(1, len(starts) + 1)
        times = np.empty(count + REMEMBERED * len(starts), dtype=np.int64)
        lead = starts + REMEMBERED * np.arange(len(starts))
        times[lead[:, None] + np.arange(REMEMBERED)] = self._remembered[which][models]
        times[at] = rows.told_ms[order]
        self._remembered[which][models] = times[stops[:, None] - np.arange(REMEMBERED, 0, -1)]
        found = np.empty(count, dtype=np.int64)
        found[order] = medians(times)[at - REMEMBERED]
        return found

    def _make_room(self, models: int) -> None:
        before = len(self._clock_ms)
        if models <= before:
            return
        more = max(models - before, before // 2)
        self._clock_ms = np.append(self._clock_ms, np.full(more, -1, dtype=np.int64))
        self._delay_ms = np.append(self._delay_ms, np.full(more, _TOP, dtype=np.int64))
        fresh = np.broadcast_to(np.array(FRESH, dtype=np.int64), (2, more, REMEMBERED))
        self._remembered = np.concatenate([self._remembered, fresh], axis=1)

    def snapshot(self, model: int) -> list[int]:
        """Give a model's clock as plain data."""
        self._make_room(model + 1)
        remembered = self._remembered[:, model].ravel().tolist()
        return [int(self._clock_ms[model]), int(self._delay_ms[model]), *remembered]

    def restore(self, model: int, state: Sequence[int]) -> None:
        """Take over a model's snapshot."""
        self._make_room(model + 1)
        self._clock_ms[model], self._delay_ms[model] = state[:2]
        self._remembered[:, model] = np.reshape(state[2:], (2, REMEMBERED))


def begun_at(clock_ms: int) -> list[int]:
    """Give the snapshot of a clock that stands at a time, and of which no record has told any."""
    return [clock_ms, _TOP, *FRESH, *FRESH]


def _groups(model: Int) -> tuple[Int, Int]:
    """Find where each model's rows begin, in rows sorted by model, and the number of each row's model among them."""
    new = np.concatenate([[True], model[1:] != model[:-1]])
    return np.flatnonzero(new), np.cumsum(new) - 1


def _running_maximum(values: Int, group: Int) -> Int:
    """Give the running maximum within each group, of values from 0 to _TOP."""
    if group[-1] >= _GROUPS:
        cut = int(np.searchsorted(group, _GROUPS))
        rest = _running_maximum(values[cut:], group[cut:] - _GROUPS)
        return np.concatenate([_running_maximum(values[:cut], group[:cut]), rest])
    base = group << _SHIFT
    running: Int = np.maximum.accumulate(values + base) - base
    return running
