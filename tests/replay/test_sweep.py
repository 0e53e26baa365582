"""A sweep says of each configuration what a replay of its own would."""

from typing import Any

import msgspec
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import encode
from schemas.outputs import Alert, FineTuneTrigger
from service.core.inputs.feature_table import FeatureTable
from service.core.intake import Positions
from service.core.settings import CoreSettings, FeatureDriftSettings
from service.replay.sweep.shared import Moment, SharedRows
from service.replay.sweep.task import SweepTask, group
from tests.core.stream import TOPICS, Driver, Source, drifting
from tests.replay.live import messy

RULES = [{"metric": "accuracy", "window": "last_300", "below": 0.8}]
CHANGES: list[dict[str, Any]] = [
    {},
    {"concept_drift": {"reference_outcomes": 200}},
    {"concept_drift": {"reference_outcomes": 200, "alert_on": "majority"}},
    {"concept_drift": {"detectors": [{"name": "ddm"}, {"name": "adwin", "params": {"delta": 0.01}}]}},
    {"concept_drift": {"alert_on": "any"}, "alerts": {"pending_for_ms": 3000, "keep_firing_for_ms": 20_000}},
    {"feature_drift": {"reference_events": 300, "block_events": 50}},
    {"feature_drift": {"reference_events": 300, "block_events": 70}},
    {"feature_drift": {"enabled": False}, "data_quality": {"enabled": False}},
    {"prediction_drift": {"enabled": False}, "label_drift": {"enabled": False}},
    {"feature_drift": {"max_categories": 2, "max_features": 2}},
    {"fine_tune": {"min_labels": 50, "cooldown_ms": 1000}, "snapshot_interval_ms": 5000},
    {
        "performance": {
            "windows": [{"last": 300}],
            "rules": RULES,
        }
    },
    {
        "performance": {
            "windows": [{"last": 300}],
            "rules": [{"metric": "estimated_accuracy", "window": "last_300", "below": 0.95}],
        },
        "concept_drift": {"reference_outcomes": 150},
    },
    {"latency": {"p95_above_ms": 8.0, "block_events": 60}, "alerts": {"recovered_outcomes": 60}},
]


def core(changes: dict[str, Any]) -> CoreSettings:
    return msgspec.convert({"default": {"fine_tune": {"min_labels": 100}} | changes, "tick_ms": 1000}, CoreSettings)


def alone(source: Source, settings: CoreSettings) -> list[bytes]:
    outputs = Driver(source, settings).run(batch=700)
    return [encode(output) for output in outputs if isinstance(output, Alert | FineTuneTrigger)]


def together(source: Source, cores: list[CoreSettings], batch: int = 900) -> list[list[bytes]]:
    task = SweepTask(cores, TOPICS, Positions(0, 0, 0))
    driver = Driver(source, cores[0], task)
    driver.run(batch)
    return [
        [encode(one.output) for one in caused if isinstance(one.output, Alert | FineTuneTrigger)]
        for caused in task.outputs
    ]


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(drifting(1800, 900, models=2), id="two models"),
        pytest.param(messy(1300, 7), id="late, duplicate, corrected, damaged and reset"),
    ],
)
def test_each_configuration_gives_the_alerts_and_triggers_of_a_replay_of_its_own(source: Source) -> None:
    cores = [core(changes) for changes in CHANGES]
    assert len(group(cores)) == 1
    swept = together(source, cores)
    assert swept == [alone(source, settings) for settings in cores]
    assert len({tuple(outputs) for outputs in swept}) >= 6


def test_embeddings_are_swept_like_they_are_replayed() -> None:
    source, rng = drifting(1000, 600), np.random.default_rng(4)
    predictions = [
        orjson.dumps(orjson.loads(event) | {"embeddings": {"text": rng.normal(loc=float(row >= 600), size=4).tolist()}})
        for row, event in enumerate(source.predictions)
    ]
    small = {"reference_vectors": 128, "random_features": 16}
    changes = [
        {},
        {"embedding_drift": small},
        {"embedding_drift": small | {"enabled": False}},
        {"embedding_drift": small},
    ]
    cores = [core(change) for change in changes]
    swept = together(source._replace(predictions=predictions), cores)
    assert swept == [alone(source._replace(predictions=predictions), settings) for settings in cores]
    assert ["embedding text" in b"".join(outputs).decode() for outputs in swept] == [False, True, False, True]


def test_a_regression_is_swept_like_it_is_replayed() -> None:
    rng = np.random.default_rng(3)
    source = drifting(10, 5)
    predictions, labels = [], []
    from tests.core.stream import label, prediction

    for number in range(2000):
        truth = float(rng.normal())
        predictions.append(prediction(number, truth + float(rng.normal(scale=0.1 if number < 1000 else 1.0))))
        labels.append(label(number, truth))
    source = Source([], predictions, labels)
    cores = [core({}), core({"concept_drift": {"reference_outcomes": 200, "loss_cap_quantile": 0.9}})]
    swept = together(source, cores)
    assert all(swept)
    assert swept == [alone(source, settings) for settings in cores]


def test_configurations_that_differ_before_the_monitors_take_a_pass_each() -> None:
    cores = [core({}), core({"alerts": {"pending_for_ms": 1}}), core({"positive_label": "yes"})]
    late = msgspec.structs.replace(core({}), allowed_lateness_ms=5000)
    assert [each.numbers for each in group([*cores, late])] == [[0, 1], [2], [3]]


cells = st.none() | st.booleans() | st.floats(allow_nan=False) | st.sampled_from(["a", "b", "c", "d"])
events = st.none() | st.dictionaries(st.sampled_from("pqrstu"), cells, max_size=6)


@settings(deadline=None)
@given(st.lists(st.lists(events, min_size=1, max_size=8), max_size=8), st.integers(1, 9), st.integers(1, 9))
def test_rows_that_tables_share_are_those_that_each_would_encode_however_its_blocks_end(
    batches: list[list[Any]], first: int, second: int
) -> None:
    settings = FeatureDriftSettings(max_features=4, max_categories=2)
    moment = Moment()
    shared = SharedRows(moment)
    tables = {size: (FeatureTable(settings), FeatureTable(settings)) for size in (first, second)}
    seen = 0
    for batch in batches:
        moment.advance()
        for size, (table, alone_table) in tables.items():
            start = 0
            while start < len(batch):
                end = min(start + size - (seen + start) % size, len(batch))
                rows = shared.rows(table, batch)
                given_rows = table.encode(batch[start:end]) if rows is None else rows[start:end]
                assert given_rows.tobytes() == alone_table.encode(batch[start:end]).tobytes()
                start = end
            assert table.snapshot() == alone_table.snapshot()
        seen += len(batch)


def test_a_batch_that_teaches_nothing_is_encoded_once() -> None:
    moment, settings = Moment(), FeatureDriftSettings()
    shared, tables = SharedRows(moment), (FeatureTable(settings), FeatureTable(settings))
    batch: list[Any] = [{"p": 1.0, "q": "a"}] * 3
    for table in tables:
        moment.advance()
        assert shared.rows(table, batch) is None
        table.encode(batch)
    moment.advance()
    first, second = (shared.rows(table, batch) for table in tables)
    assert first is second is not None
