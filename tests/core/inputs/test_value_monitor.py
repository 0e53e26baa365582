"""Laws of prediction and label drift."""

import itertools
from functools import cache

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from detectors.protocol import Level, StateError
from service.core.inputs.value_monitor import LabelMonitor, PredictionMonitor
from service.core.metrics.confidence import confidence_cells
from service.core.settings import FeatureDriftSettings
from tests.core.inputs.streams import cuts, outcomes, part, predictions

SMALL = FeatureDriftSettings(reference_events=200, block_events=50, window_blocks=3)
CLASSES = ["no", "yes"]


@cache
def answers():
    """Shares of the classes change at row 500 and back at 800; now and then a call fails."""
    rng = np.random.default_rng(0)
    share = np.repeat([0.3, 0.8, 0.3], [500, 300, 1200])
    value = (rng.random(2000) < share).astype(float)
    error = rng.random(2000) < 0.03
    return predictions(
        value=np.where(error, np.nan, value), score=np.where(error, np.nan, rng.beta(2, 2, 2000)), error=error
    )


def run(at=(), again=False):
    monitor = PredictionMonitor(SMALL)
    stream = answers()
    bounds = sorted({0, 2000, *(min(cut, 2000) for cut in at)})
    findings = []
    for start, end in itertools.pairwise(bounds):
        findings += monitor.observe_predictions(part(stream, start, end), CLASSES)
        if again:
            state = msgspec.msgpack.decode(msgspec.msgpack.encode(monitor.snapshot()))
            monitor = PredictionMonitor(SMALL)
            monitor.restore(state)
    return monitor, findings


def test_a_change_of_class_shares_is_prediction_drift_and_its_end_is_told():
    monitor, findings = run()
    assert [(finding.kind, finding.subject) for finding in findings] == [("prediction_drift", "prediction")] * 2
    assert [finding.level for finding in findings] == [Level.DRIFT, Level.STABLE]
    assert 500 < findings[0].sequence // 2 < 650
    top = findings[0].evidence[0].features[0]
    first = answers().value[~answers().error][:200]
    assert (top.feature, top.before) == ("prediction", f"no ({(first == 0).mean():.1%})")
    assert top.after.startswith("no (")  # the class whose share changed most
    assert "prediction: no went from 73.0% to " in findings[0].summary
    assert monitor.drift()["prediction"] < 1


@settings(max_examples=20, deadline=None)
@given(cuts)
def test_cuts_and_restarts_change_neither_findings_nor_state(at):
    whole, findings = run()
    for again in (False, True):
        cut, found = run(at, again)
        assert found == findings
        assert cut.snapshot() == whole.snapshot()


def test_a_change_of_the_scores_alone_is_prediction_drift():
    rng = np.random.default_rng(1)
    score = np.concatenate([rng.beta(2, 2, 1000), rng.beta(8, 2, 300)])
    findings = PredictionMonitor(SMALL).observe_predictions(predictions(value=np.zeros(1300), score=score), CLASSES)
    assert [feature.feature for feature in findings[0].evidence[0].features] == ["score"]


def test_numbers_are_compared_by_their_quantiles():
    rng = np.random.default_rng(2)
    value = np.concatenate([rng.lognormal(size=1000), rng.lognormal(1.5, 1, 300)])
    findings = PredictionMonitor(SMALL).observe_predictions(predictions(value=value), None)
    assert [finding.level for finding in findings] == [Level.DRIFT]
    assert findings[0].evidence[0].features[0].after > findings[0].evidence[0].features[0].before


def test_a_class_never_seen_before_is_label_drift_in_its_first_block():
    rng = np.random.default_rng(3)
    actual = np.concatenate([rng.integers(0, 2, 1000), rng.integers(0, 3, 50)])
    monitor = LabelMonitor(SMALL)
    findings = monitor.observe_outcomes(outcomes(actual), [*CLASSES, "perhaps"])
    assert [(finding.kind, finding.subject) for finding in findings] == [("label_drift", "label")]
    assert findings[0].sequence // 2 == 1049


def test_stable_labels_are_left_alone():
    actual = np.random.default_rng(4).integers(0, 2, 100_000)
    assert LabelMonitor(FeatureDriftSettings()).observe_outcomes(outcomes(actual), CLASSES) == []


def test_a_stored_reference_watches_from_the_first_value():
    learnt = LabelMonitor(SMALL)
    learnt.observe_outcomes(outcomes(np.zeros(200)), CLASSES)
    stored = msgspec.json.decode(msgspec.json.encode(learnt.reference()))
    findings = LabelMonitor(SMALL, stored).observe_outcomes(outcomes(np.ones(50)), CLASSES)
    assert [finding.level for finding in findings] == [Level.DRIFT]


def test_a_reset_monitor_is_as_new_and_a_newer_snapshot_is_refused():
    monitor, _ = run()
    monitor.reset()
    assert monitor.snapshot() == PredictionMonitor(SMALL).snapshot()
    with pytest.raises(StateError, match="version"):
        monitor.restore(monitor.snapshot() | {"version": 9})


def confident(stated):
    """Answers with a probability of the class that was answered."""
    value = np.random.default_rng(3).integers(0, 3, len(stated)).astype(float)
    given = predictions(value=value)
    cells = confidence_cells(value, given.score, np.asarray(stated, float))
    return given._replace(confidence=cells)


def test_without_scores_the_confidence_of_many_classes_is_watched_and_a_fall_of_it_is_found():
    rng = np.random.default_rng(5)
    monitor = PredictionMonitor(SMALL)
    findings = monitor.observe_predictions(confident(np.r_[rng.beta(9, 2, 1000), rng.beta(5, 5, 1000)]), CLASSES)
    assert [feature.feature for feature in findings[0].evidence[0].features] == ["score"]
    assert monitor.drift()["score"] > 1.0
    again = PredictionMonitor(SMALL, monitor.reference())
    assert again.observe_predictions(confident(rng.beta(5, 5, 2000)), CLASSES)


def test_where_there_is_neither_score_nor_confidence_its_distance_is_null():
    monitor = PredictionMonitor(SMALL)
    monitor.observe_predictions(confident(np.full(2000, np.nan)), CLASSES)
    assert monitor.drift()["score"] is None
    assert monitor.drift()["prediction"] is not None


def test_state_of_before_confidences_goes_on_without_them_until_its_next_reference():
    monitor = PredictionMonitor(SMALL)
    monitor.observe_predictions(confident(np.full(1000, np.nan)), CLASSES)
    old = PredictionMonitor(SMALL)
    old.restore(monitor.snapshot() | {"confidence": False})
    assert old.observe_predictions(confident(np.full(1000, 0.9)), CLASSES) == []
    assert old.drift()["score"] is None
    profile = PredictionMonitor(SMALL, monitor.reference())  # of a window that knew no confidence
    assert profile.observe_predictions(confident(np.full(1000, 0.9)), CLASSES) == []
