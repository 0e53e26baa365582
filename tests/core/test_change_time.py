"""A change happened when the predictions were made, however late their labels are, and in whatever order they come."""

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.outputs import Alert, FineTuneTrigger
from service.core.metrics.change import first_changed
from service.core.settings import CoreSettings, FineTuneSettings, JoinSettings, ModelProfile
from tests.core.stream import START_MS, Driver, Source, label, prediction

MINUTE_MS = 60_000
DAY_MS = 1440 * MINUTE_MS
DELAY_MS = 30 * DAY_MS
COUNT, CHANGE, STEP_MS = 3000, 1500, 10 * MINUTE_MS
NEAR = 40
"""Predictions by which the told place may be off: an error rate of .1 that rises to .6 is told apart in 15 or so."""
SETTINGS = CoreSettings(
    join=JoinSettings(label_horizon_ms=3 * DELAY_MS),
    default=ModelProfile(snapshot_interval_ms=DAY_MS, fine_tune=FineTuneSettings(min_labels=100)),
)


def late(arrivals_ms: np.ndarray, seed: int = 3) -> Source:
    """Predictions every ten minutes whose labels come at the given times, and err more often from CHANGE on."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(COUNT) < np.where(np.arange(COUNT) < CHANGE, 0.1, 0.6)
    times = START_MS + np.arange(COUNT) * STEP_MS
    predictions = [prediction(n, True, event_time_ms=int(times[n]), score=0.8) for n in range(COUNT)]
    order = np.argsort(arrivals_ms, kind="stable").tolist()
    labels = [label(n, not wrong[n], event_time_ms=int(arrivals_ms[n])) for n in order]
    return Source([], predictions, labels)


def arrivals(how: str) -> np.ndarray:
    made = START_MS + np.arange(COUNT) * STEP_MS
    rng = np.random.default_rng(5)
    if how == "steady":
        return made + DELAY_MS
    if how == "jitter":
        return made + DELAY_MS + rng.integers(0, 3 * DAY_MS, COUNT)
    # Once a day, all of the day at once, in the order of their hashes.
    return (made + DELAY_MS) // DAY_MS * DAY_MS + DAY_MS + rng.permutation(COUNT) % 1000


@pytest.mark.parametrize("how", ["steady", "jitter", "shuffled batches"])
def test_an_alert_and_its_trigger_tell_when_the_predictions_changed(how: str) -> None:
    outputs = Driver(late(arrivals(how)), SETTINGS).run()
    alert = next(o for o in outputs if isinstance(o, Alert) and o.kind == "concept_drift")
    trigger = next(o for o in outputs if isinstance(o, FineTuneTrigger) and o.state == "requested")
    point = alert.evidence[0].change_point
    assert point is not None
    assert point.prediction_offset is not None
    assert point.outcome_time_ms is not None
    assert trigger.window_start_ms is not None
    assert abs(point.prediction_offset - CHANGE) <= NEAR
    assert abs(point.event_time_ms - (START_MS + CHANGE * STEP_MS)) <= NEAR * STEP_MS
    assert point.outcome_time_ms - point.event_time_ms >= DELAY_MS - 4 * DAY_MS
    assert abs(trigger.window_start_ms - (START_MS + CHANGE * STEP_MS)) <= NEAR * STEP_MS
    assert abs(trigger.window[0].start_offset - CHANGE) <= NEAR
    told = np.datetime64(alert.summary.rpartition("since about ")[2].rstrip("Z.")).astype("datetime64[ms]")
    assert abs(int(told.astype(np.int64)) - (START_MS + CHANGE * STEP_MS)) <= NEAR * STEP_MS


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 400), st.floats(0.0, 1.0))
def test_in_the_order_of_predictions_the_place_is_the_row_that_the_detector_found(
    seed: int, count: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.integers(0, 5, count))
    split = int(share * (count - 1))
    found = first_changed(split, times, np.arange(count), (rng.random(count) < 0.5).astype(np.float64))
    assert found == (times[split], split)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(60, 400), st.integers(2, 15))
def test_shuffled_in_batches_a_clear_step_is_found_nearly_where_it_is(seed: int, count: int, batch: int) -> None:
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(count), np.arange(count) // batch))
    change = int(rng.integers(count // 3, 2 * count // 3))
    losses = (np.arange(count) >= change).astype(np.float64)[order]
    found = first_changed(change, order * 10, order, losses)
    assert found.time_ms == 10 * found.offset
    # As many rows before the place as behind it are looked at: the step's own row may lie before those.
    assert abs(found.offset - change) <= count // 10


def test_records_are_as_the_story_says() -> None:
    source = late(arrivals("shuffled batches"))
    times = [orjson.loads(value)["event_time_ms"] for value in source.labels]
    assert times == sorted(times)
