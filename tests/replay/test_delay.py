"""When labels come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Label
from service.replay.delay import Delay, DelayError, EventDelay, TimeDelay


def truth(number: int, time_ms: int, *, labelled: bool = True) -> Label | None:
    label = Label(prediction_id=str(number), model_id="m", label=1.0, event_time_ms=time_ms)
    return label if labelled else None


def play(delay: Delay, times: list[int], labelled: list[bool] | None = None) -> list[list[tuple[str, int]]]:
    """Give what comes after each row, and last what comes behind all."""
    flags = labelled or [True] * len(times)
    steps = [
        [(label.prediction_id, label.event_time_ms) for label in delay.row(time_ms, truth(n, time_ms, labelled=flag))]
        for n, (time_ms, flag) in enumerate(zip(times, flags, strict=True))
    ]
    return [*steps, [(label.prediction_id, label.event_time_ms) for label in delay.rest()]]


def test_a_delay_in_events_counts_rows_and_takes_the_time_of_the_row_it_comes_with() -> None:
    assert play(EventDelay(2), [10, 20, 30, 40]) == [[], [], [("0", 30)], [("1", 40)], [("2", 50), ("3", 60)]]


def test_without_delay_a_label_follows_its_row() -> None:
    assert play(EventDelay(0), [10, 20]) == [[("0", 10)], [("1", 20)], []]


def test_a_delay_in_time_gives_labels_in_order_of_time_between_the_rows() -> None:
    assert play(TimeDelay(15), [10, 30, 20, 50]) == [
        [],
        [("0", 25)],
        [],
        [("2", 35), ("1", 45)],
        [("3", 65)],
    ]


@given(
    st.lists(st.tuples(st.integers(0, 1_000), st.booleans()), max_size=40),
    st.integers(0, 10),
    st.integers(0, 500),
)
def test_each_label_comes_once_and_never_before_its_prediction(
    rows: list[tuple[int, bool]], delay_rows: int, delay_ms: int
) -> None:
    times, labelled = [time for time, _ in rows], [flag for _, flag in rows]
    for delay in (EventDelay(delay_rows), TimeDelay(delay_ms)):
        steps = play(delay, times, labelled)
        came = {key: (step, time) for step, found in enumerate(steps) for key, time in found}
        assert sum(map(len, steps)) == len(came) == sum(labelled)
        for key, (step, time) in came.items():
            assert step >= int(key)
            assert time >= times[int(key)]


@given(st.lists(st.integers(0, 1_000), max_size=40).map(sorted), st.integers(0, 10), st.integers(0, 500))
def test_from_a_sorted_file_labels_rise_in_time(times: list[int], delay_rows: int, delay_ms: int) -> None:
    for delay in (EventDelay(delay_rows), TimeDelay(delay_ms)):
        order = [time for found in play(delay, times) for _, time in found]
        assert order == sorted(order)


def test_more_labels_than_are_held_end_it_with_words() -> None:
    for delay in (EventDelay(10, max_waiting=3), TimeDelay(10_000, max_waiting=3)):
        with pytest.raises(DelayError, match="more than 3 labels wait"):
            play(delay, [1, 2, 3, 4])
