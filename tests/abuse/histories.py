"""Histories of hours and days that try the clocks of a service, or that want labels: what producers write.

Some come live, each record stamped with the time at which it was written; others are written at once, in catch-up.
"""

from collections.abc import Iterator
from typing import Final

from tests.abuse.written import BEGAN_MS, TOPICS, Written, beside, elsewhere, label, prediction

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60 * SECOND_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS

LENGTH: Final = 300
"""Predictions of each model."""
STEP_MS: Final = 10 * SECOND_MS
DELAY_MS: Final = 20 * SECOND_MS
"""How long after its prediction a label comes."""
HOUR_AGO_MS: Final = BEGAN_MS - LENGTH * STEP_MS
"""From here on LENGTH predictions lie before whatever else is written."""

FIRST: Final = "first"
FILLED_IN: Final = beside("filled-in", FIRST)
FILLED_FROM_MS: Final = BEGAN_MS - 40 * DAY_MS
FILLED_STEP_MS: Final = 30 * DAY_MS // LENGTH

STOPPED: Final = "stopped"
LABELLED: Final = 200
"""Predictions with a label, before labels stop."""
RENAMED: Final = "renamed"
RENAMED_STEP_MS: Final = 20 * SECOND_MS

AHEAD_BY_MS: Final = 58 * MINUTE_MS
AHEAD: Final = 100
"""Which prediction claims to have been made so much later."""
LIVE: Final = elsewhere("ahead-live", STOPPED, RENAMED)
CAUGHT_UP: Final = "ahead-caught-up"
UNTOUCHED: Final = elsewhere("untouched", STOPPED, RENAMED, LIVE)
"""As the one live, without the record ahead."""
NEIGHBOURS: Final = {name: beside(f"beside-{name}", name) for name in (LIVE, CAUGHT_UP, UNTOUCHED)}
"""Each with a model in the same partition."""


def filled_in() -> Iterator[Written]:
    """Give a model's last hour, then 30 days of another, which end ten days ago: its predictions, then its labels."""
    for model_id, from_ms, step_ms, delay_ms in (
        (FIRST, HOUR_AGO_MS, STEP_MS, DELAY_MS),
        (FILLED_IN, FILLED_FROM_MS, FILLED_STEP_MS, HOUR_MS),
    ):
        key, times = model_id.encode(), [from_ms + number * step_ms for number in range(LENGTH)]
        for number, made_ms in enumerate(times):
            yield Written(TOPICS.predictions, key, prediction(model_id, number, event_time_ms=made_ms))
        for number, made_ms in enumerate(times):
            yield Written(TOPICS.labels, key, label(model_id, number, event_time_ms=made_ms + delay_ms))


def live() -> list[Written]:
    """Give what came live, in its order: an hour with a record ahead, and histories whose labels are missing."""
    return sorted((*ahead(), *stopped(), *renamed()), key=lambda record: record.timestamp_ms or 0)


def ahead() -> Iterator[Written]:
    """Give an hour in which one prediction claims a time 58 minutes later, the same without, and one beside each."""
    for number in range(LENGTH):
        made_ms = HOUR_AGO_MS + number * STEP_MS
        for model_id in (LIVE, NEIGHBOURS[LIVE], UNTOUCHED, NEIGHBOURS[UNTOUCHED]):
            yield from labelled(model_id, number, made_ms, stamped=True)


def ahead_caught_up() -> Iterator[Written]:
    """Give the same hour written at once, and one beside it."""
    for number in range(LENGTH):
        made_ms = HOUR_AGO_MS + number * STEP_MS
        for model_id in (CAUGHT_UP, NEIGHBOURS[CAUGHT_UP]):
            yield from labelled(model_id, number, made_ms, stamped=False)


def labelled(model_id: str, number: int, made_ms: int, *, stamped: bool) -> Iterator[Written]:
    """Give a prediction with its label; it is the one ahead if it is to be."""
    told_ms = made_ms + DELAY_MS
    said_ms = made_ms + (AHEAD_BY_MS if model_id in (LIVE, CAUGHT_UP) and number == AHEAD else 0)
    said, told = prediction(model_id, number, event_time_ms=said_ms), label(model_id, number, event_time_ms=told_ms)
    yield Written(TOPICS.predictions, model_id.encode(), said, timestamp_ms=made_ms if stamped else None)
    yield Written(TOPICS.labels, model_id.encode(), told, timestamp_ms=told_ms if stamped else None)


def stopped() -> Iterator[Written]:
    """Give an hour of which the last third has no labels."""
    for number in range(LENGTH):
        said, told = labelled(STOPPED, number, HOUR_AGO_MS + number * STEP_MS, stamped=True)
        yield said
        if number < LABELLED:
            yield told


def renamed() -> Iterator[Written]:
    """Give more than an hour whose labels call each prediction by another name."""
    for number in range(LENGTH):
        said, told = labelled(RENAMED, number, BEGAN_MS - (LENGTH - number) * RENAMED_STEP_MS, stamped=True)
        yield said
        yield told._replace(value=told.value | {"prediction_id": f"order-{number}"})
