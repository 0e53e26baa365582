"""What producers forget or confuse is told by the task in an alert, the same wherever records are cut."""

import msgspec
import pytest

from schemas.codec import encode
from schemas.outputs import Alert
from service.core.intake import Role
from service.core.settings import DAY_MS, CoreSettings, LabelSettings, ModelProfile
from tests.core.stream import START_MS, Driver, Source, label, prediction

COUNT = 6_000
SETTINGS = CoreSettings(tick_ms=1_000, default=ModelProfile(snapshot_interval_ms=60_000))


def source(labels: list[bytes]) -> Source:
    return Source([], [prediction(n, "a") for n in range(COUNT)], labels)


def told(outputs: list, name: str = "ModelLabelsMissing") -> list[Alert]:
    return [output for output in outputs if isinstance(output, Alert) and output.alertname == name]


STOPPED = source([label(n, "a") for n in range(4_000)])
RENAMED = source([label(n, "a", **({"prediction_id": f"order-{n}"} if n >= 3_000 else {})) for n in range(COUNT)])
COMPLETE = source([label(n, "a") for n in range(COUNT)])
CONSTANT = Source([], [prediction(n, "a", prediction_id="request") for n in range(500)], [])


@pytest.mark.parametrize(("given", "subject"), [(STOPPED, "labels stopped"), (RENAMED, "none meets a prediction")])
def test_missing_labels_are_told_once_with_what_to_look_at(given: Source, subject: str) -> None:
    (alert,) = told(Driver(given, SETTINGS).run())
    assert (alert.kind, alert.severity, alert.model_version) == ("operational", "warning", "(all)")
    assert subject in alert.summary
    since_ms = START_MS + (4_000 if given is STOPPED else 3_000) * 100 + 5_000
    assert alert.starts_at_ms - since_ms <= 2 * 5_000 + 2 * SETTINGS.tick_ms
    assert "producer of labels" in alert.advice or "Compare the two identifiers" in alert.advice
    if given is RENAMED:
        assert '"order-' in alert.summary


def test_complete_labels_and_a_model_that_gets_none_are_not_told_of() -> None:
    assert told(Driver(COMPLETE, SETTINGS).run()) == []
    none = msgspec.structs.replace(SETTINGS, default=ModelProfile(labels=LabelSettings(expected=False)))
    assert told(Driver(STOPPED, none).run()) == []


def test_repeated_identifiers_are_told_with_their_share_and_an_example() -> None:
    (alert,) = told(Driver(CONSTANT, SETTINGS).run(), "ModelPredictionsRepeated")
    assert '(96%) came with the identifier of an earlier one, as "request"' in alert.summary
    assert "prediction_id of its own" in alert.advice


@pytest.mark.parametrize("given", [STOPPED, RENAMED, CONSTANT])
@pytest.mark.parametrize("batch", [97, 1_500])
def test_cuts_and_restarts_change_nothing(given: Source, batch: int) -> None:
    expected = [encode(output) for output in Driver(given, SETTINGS).run(batch=10_000)]
    driver, got, entries = Driver(given, SETTINGS), [], {}
    while sum([driver.offer(role, batch) for role in Role]):
        got += [encode(output) for output in driver.drain()]
        for name, entry in driver.task.changed_state().items():
            entries.pop(name, None)
            if entry is not None:
                entries[name] = entry
        if batch > 1_000:
            driver = driver.restarted(dict(entries))
    assert got == expected


def test_a_history_written_at_once_with_its_labels_behind_it_misses_none() -> None:
    """30 days of event time, written within a second: predictions have waited for nothing yet."""
    times = [START_MS + n * 8_640_000 for n in range(300)]
    now = times[-1] + 10 * DAY_MS
    # Behind another model's of today records are merged as they lie in their topics: all predictions, then all labels.
    predictions = [prediction(n, "a", model="today", event_time_ms=now) for n in range(20)]
    predictions += [prediction(n, "a", event_time_ms=time) for n, time in enumerate(times)]
    labels = [label(n, "a", model="today", event_time_ms=now) for n in range(20)]
    labels += [label(n, "a", event_time_ms=time + 3_600_000) for n, time in enumerate(times)]
    driver = Driver(Source([], predictions, labels), stamps=([], [now] * 320, [now] * 320))
    outputs = driver.run(batch=1_000)
    assert driver.task.models["m"].versions["1"].window.total == 300
    assert told(outputs) == []


def test_a_history_written_at_once_without_labels_is_told_when_the_join_lets_it_go() -> None:
    written = START_MS + 40 * DAY_MS
    history = [prediction(n, "a", event_time_ms=START_MS + n * 8_640_000) for n in range(300)]
    later = [prediction(n, "a", model="other", event_time_ms=written + n * 600_000) for n in range(8 * 144)]
    stamps = [written] * 300 + [written + n * 600_000 for n in range(8 * 144)]
    outputs = Driver(Source([], history + later, []), stamps=([], stamps, [])).run(batch=200)
    (alert, *_) = [alert for alert in told(outputs) if alert.model_id == "m"]
    assert "no label has come for any of 300 predictions" in alert.summary
    # The model's clock stays as far behind the log's as it was, four records more: it has gone on by the horizon.
    went_on_ms = alert.starts_at_ms - (START_MS + 295 * 8_640_000)
    assert 0 <= went_on_ms - 7 * DAY_MS <= 3_600_000


def test_the_usual_delay_that_is_told_is_that_of_labels_where_records_are_far_apart() -> None:
    """The clock is four records behind: by it alone such labels would come at once."""
    times = [START_MS + n * 60_000 for n in range(300)]
    predictions = [prediction(n, "a", event_time_ms=time) for n, time in enumerate(times)]
    labels = [label(n, "a", event_time_ms=time + 90_000) for n, time in enumerate(times[:200])]
    (alert,) = told(Driver(Source([], predictions, labels)).run(batch=50))
    assert "95 % usually come within 89.6 s" in alert.summary
