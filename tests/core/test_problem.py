"""Classification or regression: found over the first events, however numbers are written and batches are cut."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, mean_absolute_error

from schemas.outputs import Alert, MetricSnapshot, Output
from service.core.classes import class_name
from service.core.intake import Role
from service.core.problem import told_by, told_by_whole
from service.core.settings import (
    ConceptDriftSettings,
    CoreSettings,
    FeatureDriftSettings,
    LabelDriftSettings,
    ModelProfile,
    PerformanceSettings,
    WindowSettings,
)
from tests.core.stream import START_MS, Driver, Source, label, prediction

Write = Callable[[int], Any]
WRITTEN: dict[str, Write] = {"1": int, "1.0": float, '"1"': str}


def watched(**profile: Any) -> CoreSettings:
    usual = {
        "concept_drift": ConceptDriftSettings(reference_outcomes=30),
        "feature_drift": FeatureDriftSettings(reference_events=100, block_events=20),
        "label_drift": LabelDriftSettings(),
        "performance": PerformanceSettings(windows=(WindowSettings(last=5000),)),
        "snapshot_interval_ms": 500,
    }
    return CoreSettings(default=ModelProfile(**(usual | profile)), tick_ms=100)


def stream(answers: list[Any], truths: list[Any]) -> Source:
    """Give predictions and their labels, five seconds later, and what carries the clock on behind them."""
    count = len(answers)
    features = [{"x": n % 7} for n in range(count)]
    predictions = [prediction(n, answers[n], features=features[n], version="12"[n % 3 == 2]) for n in range(count)]
    labels = [label(n, truth) for n, truth in enumerate(truths)]
    beyond = {"model": "another", "event_time_ms": START_MS + count * 100 + 600_000}
    behind = range(count, count + 9)  # one record alone moves no clock
    return Source(
        [],
        [*predictions, *(prediction(n, "x", **beyond) for n in behind)],
        [*labels, *(label(n, "x", **beyond) for n in behind)],
    )


def snapshots(outputs: list[Output], version: str = "1") -> list[MetricSnapshot]:
    return [
        output
        for output in outputs
        if isinstance(output, MetricSnapshot) and (output.model_id, output.model_version) == ("m", version)
    ]


def drawn(classes: int, count: int = 600) -> tuple[list[int], list[int]]:
    rng = np.random.default_rng(classes)
    truths = rng.integers(0, classes, count)
    wrong = rng.random(count) < 0.242
    return np.where(wrong, rng.integers(0, classes, count), truths).tolist(), truths.tolist()


@pytest.mark.parametrize("truth_as", WRITTEN)
@pytest.mark.parametrize("answer_as", WRITTEN)
@pytest.mark.parametrize("classes", [2, 3, 40])
def test_whole_numbers_are_the_same_classes_however_they_are_written(
    classes: int, answer_as: str, truth_as: str
) -> None:
    answers, truths = drawn(classes)
    written = stream([WRITTEN[answer_as](a) for a in answers], [WRITTEN[truth_as](t) for t in truths])
    last = snapshots(Driver(written, watched()).run())[-1]
    of_version = [n for n in range(len(answers)) if n % 3 != 2]
    assert last.problem == ("binary" if classes == 2 else "multiclass")
    assert last.outcomes_total == len(of_version)
    assert last.windows[0].values["accuracy"] == pytest.approx(
        accuracy_score([truths[n] for n in of_version], [answers[n] for n in of_version])
    )
    assert set(last.windows[0].per_class) <= {str(code) for code in range(classes)}


def late_regression(count: int = 400, first: int = 60) -> tuple[list[float], list[float]]:
    """Give a regression that begins with whole numbers, more of them distinct than classes would be."""
    rng = np.random.default_rng(4)
    truths = rng.integers(0, 60, count).astype(float)
    answers = truths + rng.integers(-3, 4, count)
    answers[first:] += 0.25
    return answers.tolist(), truths.tolist()


def test_a_regression_that_begins_with_whole_numbers_is_one_from_its_first_outcome_on() -> None:
    answers, truths = late_regression()
    last = snapshots(Driver(stream(answers, truths), watched()).run())[-1]
    of_version = [n for n in range(len(answers)) if n % 3 != 2]
    assert last.problem == "regression"
    assert last.windows[0].count == len(of_version)
    assert last.windows[0].values["mae"] == pytest.approx(
        mean_absolute_error([truths[n] for n in of_version], [answers[n] for n in of_version])
    )


def test_nothing_is_told_of_answers_before_it_is_known_what_they_are() -> None:
    answers, truths = late_regression()
    told = snapshots(Driver(stream(answers, truths), watched()).run())
    assert {snapshot.problem for snapshot in told} == {None, "regression"}
    assert all(snapshot.windows == () for snapshot in told if snapshot.problem is None)
    assert any(snapshot.outcomes_total for snapshot in told if snapshot.problem is None)


def mixed(seed: int) -> Source:
    """Give streams that are decided at any place by anything, with corrections and failed calls."""
    rng = np.random.default_rng(seed)
    kind = seed % 4
    answers, truths = late_regression(240, int(rng.integers(1, 200))) if kind < 2 else drawn(2 + seed % 9, 240)
    if kind == 2:
        answers = [*answers[:50], *map(str, answers[50:])]
    source = stream(answers, truths)
    predictions, labels = list(source.predictions), list(source.labels)
    for n in rng.integers(0, 200, 20).tolist():
        predictions[n] = prediction(n, None, error=True)
    for n in rng.integers(0, 150, 30).tolist():
        again = label(n, truths[(n + 1) % 240], revision=1, event_time_ms=START_MS + (n + 60) * 100 + 5000)
        labels.insert(n + 60, again)
    return Source([], predictions, labels)


@pytest.mark.parametrize("seed", range(8))
def test_neither_cuts_nor_restarts_change_what_is_told(seed: int) -> None:
    source = mixed(seed)
    whole = [msgspec.json.encode(output) for output in Driver(source, watched()).run(batch=5000)]
    assert [msgspec.json.encode(output) for output in Driver(source, watched()).run(batch=3)] == whole
    driver, entries, parts = Driver(source, watched()), {}, []
    while sum(driver.offer(role, 17) for role in (Role.PREDICTIONS, Role.LABELS)):
        parts += driver.drain()
        for key, entry in driver.task.changed_state().items():
            entries.pop(key, None)
            if entry is not None:
                entries[key] = entry
        driver = driver.restarted(entries)
    assert [msgspec.json.encode(output) for output in parts] == whole


@pytest.mark.parametrize("classes", [2, 5])
def test_what_was_held_is_judged_as_if_it_had_been_known_from_the_start(classes: int) -> None:
    answers, truths = drawn(classes)
    found = snapshots(Driver(stream(answers, truths), watched()).run())[-1]
    said = snapshots(Driver(stream(answers, truths), watched(problem="multiclass")).run())[-1]
    assert found.windows[0].confusion == said.windows[0].confusion
    assert (found.drift, found.detectors) == (said.drift, said.detectors)


def test_two_values_told_as_a_regression_are_told_to_be_classes() -> None:
    answers, truths = drawn(2)
    outputs = Driver(stream([a + 0.25 for a in answers], truths), watched()).run()
    alerts = [output for output in outputs if isinstance(output, Alert) and output.alertname == "ModelProblemMisread"]
    assert {alert.model_version for alert in alerts} == {"1", "2"}
    assert "2 distinct whole numbers" in alerts[0].summary
    assert "problem in the model's profile" in alerts[0].advice


def test_a_hundred_numbers_told_as_classes_are_told_to_be_a_regression() -> None:
    answers, truths = drawn(80, 1200)
    outputs = Driver(stream(answers, truths), watched()).run()
    alerts = [output for output in outputs if isinstance(output, Alert) and output.alertname == "ModelProblemMisread"]
    assert "classes are all numbers" in alerts[0].summary


@pytest.mark.parametrize("share", [0.005, 0.3, 0.95])
def test_zeros_among_the_labels_of_a_regression_do_not_make_it_look_like_something_else(share: float) -> None:
    rng = np.random.default_rng(2)
    truths = np.where(rng.random(600) < share, 0.0, rng.normal(100, 20, 600))
    outputs = Driver(stream((truths + rng.normal(0, 3, 600)).tolist(), truths.tolist()), watched()).run()
    assert not [output for output in outputs if isinstance(output, Alert) and output.alertname == "ModelProblemMisread"]


@settings(deadline=None)
@given(st.integers(-(2**63), 2**63 - 1))
def test_a_whole_number_has_one_name_where_its_spellings_are_the_same_number(number: int) -> None:
    assert class_name(number) == str(number)
    if float(number) == number:
        assert class_name(float(number)) == class_name(number) == str(number)


def test_what_one_value_tells() -> None:
    assert [told_by(value, scored=False) for value in ("a", "1", True, 0.5, 1.0, 1, 2.0**60)] == [
        "classes",
        "classes",
        "classes",
        "regression",
        None,
        None,
        "regression",
    ]
    assert told_by(0.5, scored=True) == "classes"
    assert [told_by_whole(*counts) for counts in ((19, 2), (20, 2), (99, 1), (100, 1), (100, 40), (300, 101))] == [
        None,
        "classes",
        None,
        "classes",
        None,
        "regression",
    ]
