"""Inputs that move: which of them matters to the loss, and whether the loss has followed."""

import numpy as np
import pytest

from schemas.outputs import Alert, FineTuneTrigger, Output
from service.core.settings import CoreSettings, FineTuneSettings, ModelProfile
from tests.core.stream import START_MS, Driver, Source, label, prediction

COUNT, CHANGE = 5_000, 3_000
SETTINGS = CoreSettings(default=ModelProfile(fine_tune=FineTuneSettings(min_labels=100)))


def moving(name: str) -> Source:
    """A classifier that errs in 2 of 100 events where the feature `hard` is below 1, and in half of those above.

    The feature `name` moves by 1.5 deviations at CHANGE. Labels come 400 events later.
    """
    rng = np.random.default_rng(5)
    columns = {feature: rng.normal(size=COUNT) for feature in ("easy", "hard", "idle")}
    columns[name][CHANGE:] += 1.5
    truth = rng.random(COUNT) < 0.5
    wrong = rng.random(COUNT) < np.where(columns["hard"] > 1.0, 0.5, 0.02)
    predictions, labels = [], []
    for row in range(COUNT):
        features = {feature: float(column[row]) for feature, column in columns.items()}
        predictions.append(prediction(row, bool(truth[row] ^ wrong[row]), features=features))
        labels.append(label(row, bool(truth[row]), event_time_ms=START_MS + row * 100 + 40_000))
    return Source([], predictions, labels)


def alerts_of(outputs: list[Output], kind: str) -> list[Alert]:
    return [output for output in outputs if isinstance(output, Alert) and output.kind == kind]


def test_inputs_that_move_without_the_loss_are_harmless_and_ask_for_nothing() -> None:
    outputs = Driver(moving("easy"), SETTINGS).run()
    (alert,) = alerts_of(outputs, "data_drift")
    assert (alert.state, alert.severity, alert.harmless_so_far) == ("firing", "warning", True)
    assert "loss has not so far" in alert.advice
    (feature,) = alert.evidence[0].features
    assert feature.feature == "easy"
    assert feature.loss_association == pytest.approx(0.0, abs=0.03)
    assert not alerts_of(outputs, "concept_drift")
    assert not any(isinstance(output, FineTuneTrigger) for output in outputs)


def test_inputs_that_move_the_loss_are_told_with_how_much_before_its_labels_come_and_become_critical() -> None:
    outputs = Driver(moving("hard"), SETTINGS).run()
    first, *_, last = alerts_of(outputs, "data_drift")
    (feature,) = first.evidence[0].features
    assert feature.feature == "hard"
    assert first.harmless_so_far
    # 69 of 100 are above 1 now, before it were 16: the loss will rise by .53 x .48 = .25. What 100 outcomes and 20 bins
    # can tell of that, with each bin drawn to the mean, is at least half of it.
    assert feature.loss_association == pytest.approx(0.2, abs=0.07)
    assert "the move of hard alone would change the mean loss by +0.1" in first.summary
    (concept,) = alerts_of(outputs, "concept_drift")
    assert (last.severity, last.harmless_so_far) == ("critical", False)
    assert concept.event_time_ms <= last.event_time_ms
    assert any(isinstance(output, FineTuneTrigger) for output in outputs)


def test_before_enough_labels_no_association_is_told() -> None:
    source = moving("hard")
    (alert,) = alerts_of(Driver(source._replace(labels=source.labels[:500]), SETTINGS).run(), "data_drift")
    assert [feature.loss_association for feature in alert.evidence[0].features] == [None]
