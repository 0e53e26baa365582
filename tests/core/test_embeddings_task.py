"""Embeddings through a whole task: from bytes to alerts, at any cut."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import encode
from schemas.events import MAX_DIMENSION
from schemas.outputs import Alert, DeadLetter, MetricSnapshot
from service.core.intake import Role
from service.core.settings import CoreSettings, EmbeddingDriftSettings, FeatureDriftSettings, ModelProfile
from tests.core.stream import Driver, Source, label, prediction

SETTINGS = CoreSettings(
    default=ModelProfile(
        feature_drift=FeatureDriftSettings(reference_events=200, block_events=50),
        embedding_drift=EmbeddingDriftSettings(random_features=16, reference_vectors=256, max_embeddings=1),
    )
)


def vectors(count: int, change: int, *, hostile: bool, seed: int = 1) -> Source:
    """A perfect classifier whose embedding moves at `change`; of hostile events every kind is among the first."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, 5))
    rows[change:] += 0.8
    predictions, labels = [], []
    for number, row in enumerate(rows.tolist()):
        embeddings: dict[str, Any] = {"text": row}
        if hostile:
            embeddings = _hostile(number, embeddings)
        predictions.append(_with_nan(prediction(number, number % 2 == 0, embeddings=embeddings)))
        labels.append(label(number, number % 2 == 0))
    return Source([], predictions, labels)


def _hostile(number: int, good: dict[str, Any]) -> dict[str, Any]:
    hostile: dict[int, dict[str, Any]] = {
        20: {"text": []},
        30: {"text": [1.0, 2.0]},
        40: {"text": ["NaN", 1.0, 1.0, 1.0, 1.0]},
        50: {"text": [0.0] * (MAX_DIMENSION + 1)},
        60: {str(n): [1.0] for n in range(17)},
        70: {"text": "vector"},
        80: {**good, "image": [1.0]},
        90: {"text": [1e308] * 5},
    }
    return hostile.get(number, good)


def _with_nan(event: bytes) -> bytes:
    return event.replace(b'"NaN"', b"NaN")


def run(source: Source, batch: int = 10_000) -> list[Any]:
    return Driver(source, SETTINGS).run(batch)


def test_an_embedding_that_moves_is_a_data_drift_alert_that_names_it_and_harms_nothing_yet() -> None:
    alerts = [output for output in run(vectors(1500, 800, hostile=False)) if isinstance(output, Alert)]
    assert [(alert.kind, alert.state) for alert in alerts] == [("data_drift", "firing")]
    (alert,) = alerts
    assert alert.alertname == "ModelDataDrift"
    assert "embedding text moved away from the reference" in alert.summary
    assert alert.harmless_so_far
    (evidence,) = alert.evidence
    assert (evidence.detector, evidence.subject) == ("embedding_drift", "embedding text")
    assert evidence.change_point is not None
    assert abs(evidence.change_point.sample_index - 800) <= 64
    assert evidence.change_point.prediction_offset == evidence.change_point.sample_index


def test_hostile_vectors_are_counted_told_and_stop_nothing() -> None:
    outputs = run(vectors(1500, 1500, hostile=True))
    letters = [(letter.reason, letter.path) for letter in outputs if isinstance(letter, DeadLetter)]
    assert letters == [
        ("too_many", "$.embeddings.text"),
        ("too_many", "$.embeddings"),
        ("wrong_type", "$.embeddings.text"),
    ]
    snapshot = next(output for output in reversed(outputs) if isinstance(output, MetricSnapshot))
    assert snapshot.limits == {"max_embeddings": 1, "embedding_dimension": 1, "embedding_not_finite": 2}
    assert 0.0 < (snapshot.drift["(embedding text)"] or 0.0) < 1.0
    assert snapshot.data_quality["(embedding text)"] == {"missing": 0.0, "wrong_type": 0.0}
    told = {alert.summary for alert in outputs if isinstance(alert, Alert)}
    assert any("1 vectors of another dimension than the reference's so far" in summary for summary in told)
    assert any("1 vectors of embeddings beyond embedding_drift.max_embeddings so far" in summary for summary in told)


@pytest.mark.parametrize("batch", [1, 13, 500])
def test_outputs_do_not_depend_on_how_vectors_were_fetched(batch: int) -> None:
    source = vectors(900 if batch > 1 else 350, 300, hostile=True)
    assert [encode(output) for output in run(source, batch)] == [encode(output) for output in run(source)]


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, 700), min_size=1, max_size=6))
def test_a_task_restored_anywhere_goes_on_with_its_embeddings(cuts: list[int]) -> None:
    source = vectors(900, 500, hostile=True)
    expected = [encode(output) for output in run(source)]
    driver, got, entries = Driver(source, SETTINGS), [], {}
    for cut in [*cuts, 100_000]:
        for role in Role:
            driver.offer(role, cut)
        got += driver.drain()
        entries.update(driver.task.changed_state())
        entries = {name: entry for name, entry in entries.items() if entry is not None}
        driver = driver.restarted(dict(entries))
    assert [encode(output) for output in got] == expected
