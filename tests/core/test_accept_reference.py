"""A person says that what has drifted is normal from now on."""

import numpy as np
import orjson

from schemas.outputs import Alert, Output
from service.core.settings import CoreSettings, FineTuneSettings, ModelProfile
from tests.core.stream import START_MS, Driver, Source, drifting

COUNT, CHANGE, ACCEPTED = 9_000, 2_000, 4_500
SETTINGS = CoreSettings(default=ModelProfile(fine_tune=FineTuneSettings(enabled=False)))


def accepting(source: Source) -> Source:
    said = {"type": "accept_reference", "model_id": "m0", "event_time_ms": START_MS + ACCEPTED * 100 + 5_000}
    return source._replace(control=[orjson.dumps(said)])


def told(outputs: list[Output], kind: str) -> list[Alert]:
    return [one for one in outputs if isinstance(one, Alert) and one.kind == kind]


def test_what_has_drifted_is_the_reference_from_then_on() -> None:
    source = drifting(COUNT, CHANGE)
    without = Driver(source, SETTINGS).run()
    outputs = Driver(accepting(source), SETTINGS).run()
    for kind in ("concept_drift", "data_drift"):
        assert told(without, kind)[-1].state == "firing"
        resolved = told(outputs, kind)[-1]
        assert (resolved.state, resolved.resolution) == (
            "resolved",
            "a person has accepted the present as the reference",
        )


def test_a_further_change_is_held_against_the_accepted_level() -> None:
    source = accepting(drifting(COUNT, CHANGE))
    rng = np.random.default_rng(8)
    labels = list(source.labels)
    for number in np.flatnonzero(rng.random(COUNT) < 0.8).tolist():
        if number >= 7_000:  # four in five are wrong now, where half were
            event = orjson.loads(source.predictions[number])
            labels[number] = orjson.dumps(orjson.loads(labels[number]) | {"label": not event["prediction"]})
    last = told(Driver(source._replace(labels=labels), SETTINGS).run(), "concept_drift")[-1]
    assert last.state == "firing"
    assert last.event_time_ms > START_MS + 7_000 * 100
    assert abs(float(last.evidence[0].before or 0.0) - 0.5) < 0.05


def test_it_is_cut_and_restored_anywhere() -> None:
    source = accepting(drifting(COUNT, CHANGE))
    whole = Driver(source, SETTINGS).run(batch=10_000)
    assert Driver(source, SETTINGS).run(batch=333) == whole


def test_without_drift_nothing_changes() -> None:
    source = drifting(COUNT, COUNT)
    assert told(Driver(accepting(source), SETTINGS).run(), "concept_drift") == []
