"""Laws of the task: order, cuts, restarts."""

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import encode
from schemas.outputs import Alert, DeadLetter, FineTuneTrigger, MetricSnapshot
from service.core.intake import Role
from service.core.learning import learnt
from service.core.settings import CoreSettings, FineTuneSettings, ModelProfile, ReferenceProfile
from tests.core.stream import Driver, Source, drifting, label, prediction

SOURCE = drifting(4000, 2000)
SETTINGS = CoreSettings(default=ModelProfile(fine_tune=FineTuneSettings(min_labels=100)))


def kinds(outputs: list) -> list[type]:
    return [type(output) for output in outputs]


@pytest.fixture(scope="module")
def whole() -> list[bytes]:
    return [encode(output) for output in Driver(SOURCE, SETTINGS).run(batch=10_000)]


def test_a_drift_is_alerted_once_and_asks_for_fine_tuning() -> None:
    outputs = Driver(SOURCE, SETTINGS).run()
    alerts = [output for output in outputs if isinstance(output, Alert)]
    concept = [alert for alert in alerts if alert.kind == "concept_drift"]
    assert [alert.state for alert in concept if alert.notify] == ["firing"]
    evidence = concept[0].evidence[0]
    assert evidence.change_point is not None
    assert 1800 < evidence.change_point.sample_index + 0 < 2200
    triggers = [output for output in outputs if isinstance(output, FineTuneTrigger)]
    assert [trigger.state for trigger in triggers] == ["requested"]
    window = {part.topic: (part.start_offset, part.end_offset) for part in triggers[0].window}
    assert 1800 < window["tidegauge.predictions"][0] < 2200
    data = [alert for alert in alerts if alert.kind == "data_drift"]
    assert data
    assert data[0].evidence[0].features[0].feature == "c"
    assert MetricSnapshot in kinds(outputs)
    assert DeadLetter not in kinds(outputs)


@pytest.mark.parametrize("batch", [1, 7, 100, 999])
def test_outputs_do_not_depend_on_how_records_were_fetched(batch: int, whole: list[bytes]) -> None:
    source = SOURCE if batch > 1 else drifting(400, 200)
    expected = whole if batch > 1 else [encode(o) for o in Driver(source, SETTINGS).run(batch=10_000)]
    assert [encode(output) for output in Driver(source, SETTINGS).run(batch=batch)] == expected


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 1500), min_size=1, max_size=12), st.integers(50, 3000))
def test_a_task_restored_anywhere_goes_on_as_if_nothing_had_happened(cuts: list[int], max_records: int) -> None:
    source = drifting(1500, 800, models=3)
    expected = [encode(output) for output in Driver(source, SETTINGS).run(batch=10_000)]
    driver, got, entries = Driver(source, SETTINGS), [], {}
    for cut in [*cuts, 100_000]:
        for role in Role:
            driver.offer(role, cut)
        got += driver.drain(max_records)
        for name, entry in driver.task.changed_state().items():
            entries.pop(name, None)
            if entry is not None:
                entries[name] = entry
        driver = driver.restarted(dict(entries))
    assert [encode(output) for output in got] == expected


def test_a_label_that_comes_before_its_prediction_joins_when_the_prediction_comes() -> None:
    source = Source(
        [], [prediction(1, "a", event_time_ms=1_790_000_100_000)], [label(1, "a", event_time_ms=1_790_000_000_000)]
    )
    driver = Driver(source)
    driver.run()
    assert driver.task.models["m"].versions["1"].window.total == 1


def test_a_malformed_record_is_a_dead_letter_and_the_stream_goes_on() -> None:
    source = Source([], [b"{", prediction(1, "a"), b"\xff", prediction(2, "b", features={"x": [1]})], [])
    outputs = Driver(source).run()
    assert [output.offset for output in outputs if isinstance(output, DeadLetter)] == [0, 2, 3]
    assert [output.path for output in outputs] == ["$", "$", "$.features.x"]


def test_settings_are_plain_data() -> None:
    plain = msgspec.to_builtins(CoreSettings())
    assert msgspec.convert(plain, CoreSettings) == CoreSettings()


def test_a_tracked_segment_has_performance_of_its_own_and_values_are_bounded() -> None:
    profile = ModelProfile(segments=("country",), max_segment_values=2, snapshot_interval_ms=1000)
    predictions = [prediction(n, "a", segments={"country": ["DE", "FR", "PL", "ES"][n % 4]}) for n in range(400)]
    labels = [label(n, "b" if n % 4 == 1 else "a") for n in range(400)]
    outputs = Driver(Source([], predictions, labels), CoreSettings(default=profile)).run(batch=77)
    last = {o.segment: o.windows[0].values["accuracy"] for o in outputs if isinstance(o, MetricSnapshot) and o.segment}
    assert last == {"country=DE": 1.0, "country=FR": 0.0, "country=(other)": 1.0}
    whole = Driver(Source([], predictions, labels), CoreSettings(default=profile)).run(batch=10_000)
    assert [encode(o) for o in whole] == [encode(o) for o in outputs]


def test_a_stored_reference_judges_from_the_first_event_on() -> None:
    source = drifting(2000, 2000)
    learner = Driver(source, SETTINGS)
    learner.run()
    stored = orjson.loads(orjson.dumps(learnt(learner.task.models["m0"].versions["1"])))
    profile = msgspec.structs.replace(SETTINGS.default, reference=ReferenceProfile(data=stored))
    outputs = Driver(drifting(800, 0, seed=9), CoreSettings(default=profile)).run()
    fired = {output.kind for output in outputs if isinstance(output, Alert)}
    assert {"concept_drift", "data_drift"} <= fired
    quiet = Driver(drifting(800, 800, seed=9), CoreSettings(default=profile)).run()
    assert not [output for output in quiet if isinstance(output, Alert)]
