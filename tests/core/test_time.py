"""Laws of time: no single record moves a clock that others depend on, and a model's time is its own."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.outputs import DeadLetter, MetricSnapshot, Output
from service.core.clock import RobustClock
from tests.core.stream import START_MS, Driver, Source, Stamps, label, prediction

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
COUNT = 3000
SECOND_MS = 1000
DELAY_MS = 20_000
AHEAD = 1000
"""Which prediction says that it was made 58 minutes after it was written."""


def one_ahead() -> tuple[Source, Stamps]:
    """Give one prediction a second with its label 20 s later; one of them lies 58 minutes ahead, which is allowed."""
    times = [START_MS + n * SECOND_MS for n in range(COUNT)]
    told = [time + (58 * MINUTE_MS if n == AHEAD else 0) for n, time in enumerate(times)]
    predictions = [prediction(n, n % 2 == 0, event_time_ms=time) for n, time in enumerate(told)]
    labels = [label(n, n % 3 == 0, event_time_ms=time + DELAY_MS) for n, time in enumerate(times)]
    return Source([], predictions, labels), ([], times, [time + DELAY_MS for time in times])


def snapshots(outputs: list[Output], model: str = "m") -> list[int]:
    return [out.event_time_ms for out in outputs if isinstance(out, MetricSnapshot) and out.model_id == model]


def test_live_a_record_58_minutes_ahead_neither_loses_a_label_nor_stops_metrics() -> None:
    source, stamps = one_ahead()
    driver = Driver(source, stamps=stamps)
    outputs = driver.run(batch=10)
    told = snapshots(outputs)
    assert max(np.diff(told)) == MINUTE_MS
    assert len(told) >= COUNT * SECOND_MS // MINUTE_MS - 1
    assert driver.task.models["m"].versions["1"].window.total == COUNT
    assert not [out for out in outputs if isinstance(out, DeadLetter)]


def test_in_catch_up_a_record_58_minutes_ahead_neither_loses_a_label_nor_stops_metrics() -> None:
    source, stamps = one_ahead()
    now = [START_MS + 3 * HOUR_MS] * COUNT  # all of it was written at once, by one who moved the topics
    for written in (stamps, ([], now, now)):
        driver = Driver(source, stamps=written)
        outputs = driver.run(batch=10_000)
        assert driver.task.models["m"].versions["1"].window.total == COUNT
        assert not [out for out in outputs if isinstance(out, DeadLetter)]
        told = snapshots(outputs)
        assert max(np.diff(told)) == MINUTE_MS
        assert len(told) >= COUNT * SECOND_MS // MINUTE_MS - 1


def test_a_model_that_is_back_filled_after_another_joins_all_of_its_labels() -> None:
    """The second model's history is 40 days old and lasts 30; it is written within a minute, labels after it."""
    day = [START_MS + n * SECOND_MS for n in range(COUNT)]
    old = [START_MS - 40 * DAY_MS + n * 30 * DAY_MS // COUNT for n in range(COUNT)]
    written = [day[-1] + n * 20 for n in range(COUNT)]
    predictions = [prediction(n, True, model="first", event_time_ms=time) for n, time in enumerate(day)]
    predictions += [prediction(n, True, model="second", event_time_ms=time) for n, time in enumerate(old)]
    labels = [label(n, True, model="first", event_time_ms=time) for n, time in enumerate(day)]
    labels += [label(n, True, model="second", event_time_ms=time + HOUR_MS) for n, time in enumerate(old)]
    stamps = ([], day + written, day + [time + COUNT * 20 for time in written])
    for batch in (100, 100_000):
        driver = Driver(Source([], predictions, labels), stamps=stamps)
        outputs = driver.run(batch)
        assert not [out for out in outputs if isinstance(out, DeadLetter)]
        for model in ("first", "second"):
            assert driver.task.models[model].versions["1"].window.total == COUNT
        told = snapshots(outputs, "second")
        assert len(told) > 2000  # a snapshot each time that its own time goes on, 14 minutes a record
        assert told[-1] < START_MS - 9 * DAY_MS


def rekeyed(order: np.random.Generator, parts: int, count: int, *, one_by_one: bool) -> list[int]:
    """Give an order in which a job that re-keys so many source partitions may write their records into one."""
    queues = [list(range(part, count, parts)) for part in range(parts)]
    if one_by_one:
        return [number for part in order.permutation(parts).tolist() for number in queues[part]]
    turns = order.permutation(np.repeat(np.arange(parts), [len(queue) for queue in queues])).tolist()
    return [queues[part].pop(0) for part in turns]


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_any_interleaving_of_re_keyed_partitions_joins_what_the_direct_path_joins(
    seed: int, first_whole: bool, then_whole: bool
) -> None:
    """Twelve partitions of predictions and six of labels, a day of events, labels ten minutes behind."""
    count, order = 600, np.random.default_rng(seed)
    times = [START_MS + n * DAY_MS // count for n in range(count)]
    predictions = [prediction(n, n % 2 == 0, event_time_ms=time) for n, time in enumerate(times)]
    labels = [label(n, n % 3 == 0, event_time_ms=time + 10 * MINUTE_MS) for n, time in enumerate(times)]
    predicted = rekeyed(order, 12, count, one_by_one=first_whole)
    labelled = rekeyed(order, 6, count, one_by_one=then_whole)
    source = Source([], [predictions[n] for n in predicted], [labels[n] for n in labelled])
    written = [START_MS + DAY_MS + n * 100 for n in range(count)]
    driver = Driver(source, stamps=([], written, written))
    outputs = driver.run(batch=int(order.integers(10, 400)))
    assert driver.task.models["m"].versions["1"].window.total == count
    assert not [out for out in outputs if isinstance(out, DeadLetter)]


@given(st.lists(st.integers(0, 1000), max_size=60), st.lists(st.integers(1, 9), max_size=20))
def test_a_clock_is_the_running_maximum_of_the_lower_median_of_nine_wherever_it_is_cut(
    times: list[int], cuts: list[int]
) -> None:
    expected, now = [], 0
    for number in range(len(times)):
        seen = sorted(times[max(0, number - 8) : number + 1])
        now = max(now, seen[(len(seen) - 1) // 2])
        expected.append(now)
    clock, got, start = RobustClock(), [], 0
    for cut in [*cuts, len(times)]:
        got += clock.advance(np.array(times[start : start + cut], dtype=np.int64)).tolist()
        clock, start = RobustClock.restore(clock.snapshot()), start + cut
    assert got == expected


def test_a_silent_model_is_carried_on_by_the_records_of_others() -> None:
    times = [START_MS + n * SECOND_MS for n in range(400)]
    predictions = [
        prediction(n, True, model="silent" if n < 20 else "other", event_time_ms=time) for n, time in enumerate(times)
    ]
    outputs = Driver(Source([], predictions, [])).run(batch=50)
    assert len(snapshots(outputs, "silent")) == 1
    assert len(snapshots(outputs, "other")) > 5
