"""Of which class a score speaks: however a producer says it, or does not, the metrics are those of the same model."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from schemas.outputs import Alert, MetricSnapshot, Output
from service.core.settings import ConceptDriftSettings, CoreSettings, ModelProfile, PerformanceSettings, WindowSettings
from tests.core.stream import START_MS, Driver, Source, label, prediction

COUNT = 600
Fields = dict[str, Any]
Say = Callable[[float, str], Fields]
"""From the probability of `leaves` and the answer to the fields of the event that carry it."""


def other(p: float) -> float:
    return round(1.0 - p, 3)


CONVENTIONS: dict[str, Say] = {
    "of the lesser name, not said": lambda p, _: {"score": p},
    "of the greater name, not said": lambda p, _: {"score": other(p)},
    "confidence, not said": lambda p, answer: {"score": p if answer == "leaves" else other(p)},
    "of the lesser name, said": lambda p, _: {"score": p, "score_class": "leaves"},
    "of the greater name, said": lambda p, _: {"score": other(p), "score_class": "stays"},
    "confidence, said": lambda p, answer: {"score": p if answer == "leaves" else other(p), "score_class": answer},
    "both probabilities": lambda p, _: {"probabilities": {"leaves": p, "stays": other(p)}},
}


def settings(**profile: Any) -> CoreSettings:
    usual = {"performance": PerformanceSettings(windows=(WindowSettings(last=5000),)), "snapshot_interval_ms": 200}
    watched = ModelProfile(concept_drift=ConceptDriftSettings(reference_outcomes=100), **(usual | profile))
    return CoreSettings(default=watched, tick_ms=100)


def drawn(seed: int = 3) -> tuple[list[float], list[str]]:
    """Give the probability of `leaves` of each prediction, and the truth."""
    rng = np.random.default_rng(seed)
    chance = np.round(rng.beta(1.2, 1.2, COUNT), 3)
    chance[chance == 0.5] = 0.501
    truth = ["leaves" if leaves else "stays" for leaves in rng.random(COUNT) < chance]
    return chance.tolist(), truth


def source(say: Say, threshold: float = 0.5) -> Source:
    chance, truth = drawn()
    answers = ["leaves" if p >= threshold else "stays" for p in chance]
    predictions = [prediction(n, answers[n], **say(chance[n], answers[n])) for n in range(COUNT)]
    labels = [label(n, truth[n]) for n in range(COUNT)]
    beyond = START_MS + COUNT * 100 + 600_000  # so that the last snapshot holds all
    labels.append(label(COUNT, "stays", model="another", event_time_ms=beyond))
    return Source([], [*predictions, prediction(COUNT, "stays", model="another", event_time_ms=beyond)], labels)


def snapshots(outputs: list[Output]) -> list[MetricSnapshot]:
    return [output for output in outputs if isinstance(output, MetricSnapshot) and output.model_id == "m"]


@pytest.mark.parametrize("name", CONVENTIONS)
def test_the_same_model_has_the_same_metrics_whatever_its_scores_speak_of(name: str) -> None:
    last = snapshots(Driver(source(CONVENTIONS[name]), settings()).run())[-1]
    chance, truth = drawn()
    of = (
        "stays"
        if "greater" in name or name in ("confidence, not said", "confidence, said", "both probabilities")
        else "leaves"
    )
    positive = [answer == of for answer in truth]
    score = [p if of == "leaves" else other(p) for p in chance]
    values = last.windows[0].values
    assert last.problem == "binary"
    assert last.positive_class == of
    assert last.score_class == ("(answer)" if "confidence" in name else of)
    assert last.score_class_reason
    assert values["auc"] == pytest.approx(roc_auc_score(positive, score))
    assert values["auc"] > 0.7
    assert values["average_precision"] == pytest.approx(average_precision_score(positive, score))
    assert values["log_loss"] == pytest.approx(log_loss(positive, score))
    assert values["brier"] == pytest.approx(brier_score_loss(positive, score))
    assert values["estimated_accuracy"] == pytest.approx(values["accuracy"], abs=0.06)


@pytest.mark.parametrize("threshold", [0.05, 0.2, 0.8, 0.95])
@pytest.mark.parametrize("name", ["of the lesser name, not said", "of the greater name, not said"])
def test_any_threshold_tells_the_class(name: str, threshold: float) -> None:
    last = snapshots(Driver(source(CONVENTIONS[name], threshold), settings()).run())[-1]
    assert last.score_class == ("stays" if "greater" in name else "leaves")


@pytest.mark.parametrize("name", CONVENTIONS)
def test_nothing_that_hangs_on_it_is_told_before_it_is_known_and_nothing_wrong_ever(name: str) -> None:
    last, undecided = None, 0
    for snapshot in reversed(snapshots(Driver(source(CONVENTIONS[name]), settings()).run())):
        last = last or (snapshot.positive_class, snapshot.score_class)
        values = snapshot.windows[0].values
        if snapshot.score_class is None:
            undecided += 1
            assert [values[name] for name in ("auc", "log_loss", "precision", "estimated_accuracy")] == [None] * 4
        else:
            assert (snapshot.positive_class, snapshot.score_class) == last
    assert undecided > 0 or name == "both probabilities" or "not said" not in name


@pytest.mark.parametrize("name", CONVENTIONS)
def test_neither_cuts_nor_restarts_change_what_is_told(name: str) -> None:
    stream = source(CONVENTIONS[name])
    whole = [msgspec.json.encode(output) for output in Driver(stream, settings()).run(batch=5000)]
    cut = [msgspec.json.encode(output) for output in Driver(stream, settings()).run(batch=7)]
    driver, entries, parts = Driver(stream, settings()), {}, []
    while sum(driver.offer(role, 61) for role in (1, 2)):  # type: ignore[arg-type]  # a role is a number
        parts += driver.drain()
        for key, entry in driver.task.changed_state().items():
            entries.pop(key, None)
            if entry is not None:
                entries[key] = entry
        driver = driver.restarted(entries)
    assert cut == whole
    assert [msgspec.json.encode(output) for output in parts] == whole


def test_a_model_that_begins_to_say_it_in_the_middle_is_read_as_it_says() -> None:
    chance, truth = drawn()
    answers = ["leaves" if p >= 0.5 else "stays" for p in chance]
    said = [{}] * 300 + [{"score_class": "leaves"}] * (COUNT - 300)
    predictions = [prediction(n, answers[n], score=chance[n], **said[n]) for n in range(COUNT)]
    stream = Source([], predictions, [label(n, truth[n]) for n in range(COUNT)])
    outputs = [Driver(stream, settings()).run(batch=batch) for batch in (13, 5000)]
    assert outputs[0] == outputs[1]
    assert {snapshot.score_class for snapshot in snapshots(outputs[0])} == {None, "leaves"}


@pytest.mark.parametrize("profile", [{"positive_label": "stays"}, {}])
def test_answers_that_contradict_what_was_said_are_told_once(profile: Fields) -> None:
    say: Say = lambda p, _: {"score": p} | ({} if profile else {"score_class": "stays"})  # noqa: E731
    outputs = Driver(source(say), settings(**profile)).run()
    alerts = [output for output in outputs if isinstance(output, Alert) and output.kind == "operational"]
    assert [alert.alertname for alert in alerts] == ["ModelScoresMisread"]
    assert "class stays" in alerts[0].summary
    assert "show class leaves" in alerts[0].summary


def test_scores_of_a_class_that_nobody_answers_are_told_once() -> None:
    outputs = Driver(source(lambda p, _: {"score": p, "score_class": "Leaves"}), settings()).run()
    alerts = [output for output in outputs if isinstance(output, Alert) and output.kind == "operational"]
    assert [alert.alertname for alert in alerts] == ["ModelScoresMisread"]
    assert "there are 3" in alerts[0].summary
    assert "Leaves came 0 times among the latest 400 answers and labels" in alerts[0].summary


def test_one_odd_label_that_makes_a_third_class_of_two_is_told() -> None:
    given = source(lambda p, _: {"score": p})
    labels = [label(n, "unknown") if n == 450 else one for n, one in enumerate(given.labels)]
    outputs = Driver(Source([], given.predictions, labels), settings()).run()
    alerts = [output for output in outputs if isinstance(output, Alert) and output.kind == "operational"]
    assert [alert.alertname for alert in alerts] == ["ModelScoresMisread"]
    assert "unknown came 1 times among the latest" in alerts[0].summary
    assert "problem: binary" in alerts[0].advice


THREE: dict[str, Say] = {
    "confidence": lambda p, answer: {"score": max(p, other(p)), "score_class": answer},
    "not said": lambda p, _: {"score": max(p, other(p))},
    "probabilities": lambda p, _: {"probabilities": {"leaves": p, "stays": other(p), "pauses": 0.0}},
}


@pytest.mark.parametrize("name", THREE)
def test_scores_of_three_classes_that_fit_are_not_told_of(name: str) -> None:
    given = source(THREE[name])
    labels = [label(n, "pauses") if n % 7 == 0 else one for n, one in enumerate(given.labels)]
    outputs = Driver(Source([], given.predictions, labels), settings()).run()
    assert {snapshot.problem for snapshot in snapshots(outputs)} >= {"multiclass"}
    assert not [output for output in outputs if isinstance(output, Alert) and output.kind == "operational"]


@pytest.mark.parametrize("name", CONVENTIONS)
def test_answers_that_fit_are_not_told_of(name: str) -> None:
    outputs = Driver(source(CONVENTIONS[name]), settings()).run()
    assert [output for output in outputs if isinstance(output, Alert) and output.kind == "operational"] == []


def test_a_reset_finds_it_out_anew() -> None:
    chance, truth = drawn()
    answers = ["leaves" if p >= 0.5 else "stays" for p in chance]
    command = {"type": "reset_monitor", "model_id": "m", "event_time_ms": START_MS + 30_000}
    # The producer changes its mind at the 300th prediction, and a person resets the monitors soon after.
    scores = [p if n < 300 else other(p) for n, p in enumerate(chance)]
    profile = settings()
    profile = msgspec.structs.replace(
        profile,
        default=msgspec.structs.replace(
            profile.default,
            performance=PerformanceSettings(windows=(WindowSettings(last=100),), max_window_outcomes=100),
        ),
    )
    stream = Source(
        [msgspec.json.encode(command | {"event_time_ms": START_MS + 45_000})],
        [prediction(n, answers[n], score=scores[n]) for n in range(COUNT)],
        [label(n, truth[n]) for n in range(COUNT)],
    )
    told = [snapshot.score_class for snapshot in snapshots(Driver(stream, profile).run())]
    assert [name for name, before in zip(told, ["", *told], strict=False) if name != before] == [
        None,
        "leaves",
        "stays",
    ]
