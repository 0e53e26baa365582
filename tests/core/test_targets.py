"""Several outputs of one model: each target has monitors, metrics and incidents of its own; inputs are watched once."""

from typing import Any

import msgspec
import numpy as np
import orjson
import pytest

from schemas.outputs import Alert, DeadLetter, FineTuneTrigger, MetricSnapshot, Output
from service.core.intake import Role
from service.core.learning import learnt
from service.core.settings import (
    ConceptDriftSettings,
    CoreSettings,
    FeatureDriftSettings,
    ModelProfile,
    PerformanceSettings,
    ReferenceProfile,
    WindowSettings,
)
from tests.core.stream import START_MS, Driver, Source, label, prediction

COUNT = 1200
CHANGE = 700


def watched(**core: Any) -> CoreSettings:
    profile = ModelProfile(
        concept_drift=ConceptDriftSettings(reference_outcomes=100),
        feature_drift=FeatureDriftSettings(reference_events=200, block_events=50),
        performance=PerformanceSettings(windows=(WindowSettings(last=5000),)),
        snapshot_interval_ms=10_000,
    )
    return CoreSettings(default=profile, tick_ms=1000, **core)


def stream(targets: list[str | None], drifting: str | None = "buys", *, moves: bool = False) -> Source:
    """Give events of one model: a class and a number for each request, of which one goes wrong from CHANGE on."""
    rng = np.random.default_rng(6)
    predictions, labels = [], []
    for n in range(COUNT):
        x = float(rng.normal() + (3.0 if moves and n >= CHANGE else 0.0))
        for target in targets:
            odds = 0.5 if target == drifting and n >= CHANGE else 0.1
            truth: Any = round(float(rng.normal(50, 5)), 2) if target == "spends" else bool(rng.random() < 0.5)
            wrong = rng.random() < odds
            answer = truth + (20.5 if wrong else 0.5) if target == "spends" else truth ^ bool(wrong)
            of = {} if target is None else {"target": target}
            predictions.append(prediction(n, answer, features={"x": x}, latency_ms=3.0, **of))
            labels.append(label(n, truth, **of))
    beyond = {"model": "another", "event_time_ms": START_MS + COUNT * 100 + 600_000}
    last = range(COUNT, COUNT + 9)  # so many move the log's clock
    predictions += [prediction(n, "x", **beyond) for n in last]
    return Source([], predictions, [*labels, *[label(n, "x", **beyond) for n in last]])


def run(source: Source, batch: int = 500, **core: Any) -> list[Output]:
    return Driver(source, watched(**core)).run(batch=batch)


def last_of(outputs: list[Output], target: str | None) -> MetricSnapshot:
    found = [output for output in outputs if isinstance(output, MetricSnapshot) and output.target == target]
    return [snapshot for snapshot in found if snapshot.model_id == "m"][-1]


def test_each_target_has_its_own_problem_and_metrics() -> None:
    outputs = run(stream(["buys", "spends"], drifting=None))
    buys, spends = last_of(outputs, "buys"), last_of(outputs, "spends")
    assert (buys.problem, spends.problem) == ("binary", "regression")
    assert buys.windows[0].values["accuracy"] == pytest.approx(0.9, abs=0.03)
    assert spends.windows[0].values["mae"] == pytest.approx(2.5, abs=0.5)
    assert (buys.outcomes_total, spends.outcomes_total) == (COUNT, COUNT)


def test_only_the_target_that_drifts_has_an_incident_and_a_trigger() -> None:
    outputs = run(stream(["buys", "spends"]))
    alerts = [output for output in outputs if isinstance(output, Alert) and output.kind == "concept_drift"]
    triggers = [output for output in outputs if isinstance(output, FineTuneTrigger)]
    assert {(alert.model_id, alert.target) for alert in alerts} == {("m", "buys")}
    assert alerts[0].summary.startswith("Model m, target buys, version 1: ")
    assert {(trigger.model_id, trigger.target) for trigger in triggers} == {("m", "buys")}


def test_the_same_cause_of_two_targets_is_two_incidents_and_inputs_are_watched_once() -> None:
    both = [*run(stream(["a", "b"], drifting="a", moves=True)), *run(stream(["a", "b"], drifting="b", moves=True))]
    concept = {
        (output.target, output.fingerprint)
        for output in both
        if isinstance(output, Alert) and output.kind == "concept_drift"
    }
    assert {target for target, _ in concept} == {"a", "b"}
    assert len({fingerprint for _, fingerprint in concept}) == 2
    inputs = [output for output in both if isinstance(output, Alert) and output.kind == "data_drift"]
    assert {alert.target for alert in inputs} == {"a"}
    told = {
        target: [output for output in both if isinstance(output, MetricSnapshot) and output.target == target]
        for target in "ab"
    }
    assert any(snapshot.latency_ms["p50"] for snapshot in told["a"])
    assert not any(snapshot.latency_ms["p50"] or "x" in snapshot.drift for snapshot in told["b"])


def test_a_model_without_targets_has_none_and_its_names_are_what_they_were() -> None:
    outputs = run(stream([None], drifting=None))
    assert all(getattr(output, "target", None) is None for output in outputs)


def test_targets_beyond_the_limit_are_dead_letters() -> None:
    outputs = run(stream(["a", "b", "c"]), max_targets=2)
    letters = [output for output in outputs if isinstance(output, DeadLetter)]
    assert {(letter.model_id, letter.reason) for letter in letters} == {("m", "too_many")}
    assert "core.max_targets" in letters[0].message
    assert {output.target for output in outputs if isinstance(output, MetricSnapshot)} == {"a", "b"}


def test_neither_cuts_nor_restarts_change_what_is_told() -> None:
    source = stream(["buys", "spends"], moves=True)
    whole = [msgspec.json.encode(output) for output in run(source, 5000)]
    assert [msgspec.json.encode(output) for output in run(source, 37)] == whole
    driver, entries, parts = Driver(source, watched()), {}, []
    while sum(driver.offer(role, 400) for role in (Role.PREDICTIONS, Role.LABELS)):
        parts += driver.drain()
        for key, entry in driver.task.changed_state().items():
            entries.pop(key, None)
            if entry is not None:
                entries[key] = entry
        driver = driver.restarted(entries)
    assert [msgspec.json.encode(output) for output in parts] == whole


def test_a_command_reaches_every_target_and_a_report_the_one_whose_trigger_it_is() -> None:
    source = stream(["buys", "spends"])
    trigger = next(output for output in run(source) if isinstance(output, FineTuneTrigger))
    at = {"model_id": "m", "event_time_ms": trigger.event_time_ms + 1000}
    said = {"type": "fine_tune_status", "trigger_id": trigger.trigger_id, "status": "running"} | at
    reset = {"type": "reset_monitor"} | at | {"event_time_ms": trigger.event_time_ms + 2000}
    outputs = run(Source([orjson.dumps(said), orjson.dumps(reset)], source.predictions, source.labels))
    states = [output.state for output in outputs if isinstance(output, FineTuneTrigger)]
    assert states[:2] == ["requested", "running"]
    assert [output for output in outputs if isinstance(output, DeadLetter)] == []


def test_of_a_stored_reference_targets_take_the_inputs_and_nothing_of_answers() -> None:
    driver = Driver(stream([None], drifting=None), watched())
    driver.run()
    stored = learnt(driver.task.models["m"].versions["1"])
    core = watched()
    profile = msgspec.structs.replace(core.default, reference=ReferenceProfile(data=stored))
    core = msgspec.structs.replace(core, default=profile)
    outputs = Driver(stream(["spends", "buys"], drifting=None, moves=True), core).run()
    assert (last_of(outputs, "buys").problem, last_of(outputs, "spends").problem) == ("binary", "regression")
    inputs = [output for output in outputs if isinstance(output, Alert) and output.kind == "data_drift"]
    assert {alert.target for alert in inputs} == {"spends"}
    assert [output for output in outputs if isinstance(output, DeadLetter)] == []
