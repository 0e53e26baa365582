"""Models that only labels have named have room of their own: a flood of them touches no model that is watched."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import encode
from schemas.outputs import DeadLetter, MetricSnapshot, Output
from service.core.limits import TaskLimits
from service.core.settings import CoreSettings
from tests.core.stream import START_MS, Driver, Source, drifting, label, prediction

ROOM = 20
SETTINGS = CoreSettings(max_models=2, max_unpredicted_models=ROOM)
REAL = drifting(1200, 600, models=2)


def flood(count: int) -> list[bytes]:
    """Labels of models that do not exist, each of another one, from before the first prediction."""
    return [label(number, True, model=f"flood{number}", event_time_ms=START_MS - 1) for number in range(count)]


FLOODED = REAL._replace(labels=flood(500) + REAL.labels)


def of_real_models(outputs: list[Output]) -> list[bytes]:
    return [encode(output) for output in outputs if output.model_id in ("m0", "m1")]


def refused(outputs: list[Output]) -> list[DeadLetter]:
    return [output for output in outputs if isinstance(output, DeadLetter) and output.reason == "too_many"]


def test_a_flood_of_labels_of_models_that_do_not_exist_changes_no_byte_about_those_that_do() -> None:
    outputs = Driver(FLOODED, SETTINGS).run()
    assert len(refused(outputs)) == 500 - ROOM
    assert all("core.max_unpredicted_models" in letter.message for letter in refused(outputs))
    roomy = msgspec.structs.replace(SETTINGS, max_models=10_000, max_unpredicted_models=10_000)
    unhindered = Driver(FLOODED, roomy).run()
    assert not refused(unhindered)
    assert of_real_models(outputs) == of_real_models(unhindered)
    watched = [o for o in outputs if isinstance(o, MetricSnapshot) and o.model_id == "m0"]
    assert watched[-1].outcomes_total > 400


def test_a_flood_makes_no_monitors_and_a_state_that_is_bounded() -> None:
    small, large = (Driver(Source([], [], flood(count)), SETTINGS) for count in (ROOM, 5_000))
    for driver in (small, large):
        driver.run()
        assert not driver.task.models
        assert len(driver.task.roster.models) == ROOM
    sizes = [len(driver.task.changed_state()["task"] or b"") for driver in (small, large)]
    assert sizes[1] <= sizes[0] + 20  # a counter and the number of the first that was refused


def test_a_model_whose_labels_came_first_makes_room_with_its_first_prediction() -> None:
    labels = [*flood(ROOM), label(0, True, model="late", event_time_ms=START_MS)]
    predictions = [prediction(0, True, model="flood0"), prediction(1, True, model="flood0")]
    source = Source([], predictions, labels)
    driver = Driver(source, SETTINGS)
    assert refused(driver.run()) == [], "flood0 is predicted before the last label, so a place is free"


def test_people_are_told_once_of_each_limit() -> None:
    later = prediction(100_000, True, model="m0")
    outputs = Driver(FLOODED._replace(predictions=[*REAL.predictions, later]), SETTINGS).run()
    told = [o.evidence[0].subject for o in outputs if getattr(o, "alertname", "") == "TidegaugeLimitReached"]
    assert told == ["max_unpredicted_models"]


@settings(max_examples=20, deadline=None)
@given(batch=st.integers(20, 700), every=st.integers(1, 5))
def test_who_finds_room_does_not_depend_on_how_records_were_fetched_or_restarts(batch: int, every: int) -> None:
    source = Source([], REAL.predictions[:100], [*flood(60), *REAL.labels[:100]])
    whole = [encode(output) for output in Driver(source, SETTINGS).run(batch=100_000)]
    driver, got, entries, rounds = Driver(source, SETTINGS), [], {}, 0
    while sum(driver.offer(role, batch) for role in (0, 1, 2)):
        got += [encode(output) for output in driver.drain()]
        entries |= driver.task.changed_state()
        entries = {name: value for name, value in entries.items() if value is not None}
        if (rounds := rounds + 1) % every == 0:
            driver = driver.restarted(entries)
    assert got == whole


def test_what_an_older_program_told_is_not_told_again() -> None:
    limits = TaskLimits(SETTINGS)
    limits.restore({"version": 1, "told": True, "alerts": limits.snapshot()["alerts"]})
    assert limits.snapshot()["told"] == ["max_models"]
