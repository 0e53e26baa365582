"""Laws of drift and quality of embeddings."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.protocol import Level, StateError
from service.core.inputs.embeddings import EmbeddingMonitor
from service.core.settings import EmbeddingDriftSettings, FeatureDriftSettings, ModelProfile
from tests.core.inputs.streams import cuts, observe_in_parts, part, predictions

SIZES = FeatureDriftSettings(reference_events=200, block_events=50)
SMALL = EmbeddingDriftSettings(random_features=16, reference_vectors=128, max_embeddings=2)
PROFILE = ModelProfile(feature_drift=SIZES, embedding_drift=SMALL)


def normal(count, dimension=6, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dimension))


def named(vectors, name="text"):
    return [{name: vector.tolist()} for vector in vectors]


def watch(events, profile=PROFILE, reference=None):
    monitor = EmbeddingMonitor(profile, reference)
    return monitor, monitor.observe(predictions(embeddings=events))


def again(state):
    monitor = EmbeddingMonitor(PROFILE)
    monitor.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(state)))
    return monitor


hostile_vectors = st.one_of(
    st.none(),
    st.just([]),
    st.just([float(number) for number in range(9)]),
    st.just([1.0, None, 2.0, 3.0, 4.0, 5.0]),
    st.just([1e300, 0.0, 0.0, 0.0, 0.0, 0.0]),
    st.just([1e-320] * 6),
    st.just([3e38, -3e38] * 3),
)


damage = st.none() | st.just({}) | st.fixed_dictionaries({"text": hostile_vectors})
others = st.just({"image": [1.0, 2.0], "third": [1.0]})


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 99),
    damaged=st.dictionaries(st.integers(0, 599), damage, max_size=40),
    more=st.dictionaries(st.integers(0, 599), others, max_size=5),
    at=cuts,
)
def test_cuts_and_restarts_change_neither_findings_nor_state_whatever_vectors_come(seed, damaged, more, at):
    events = named(normal(600, seed=seed))
    for row, event in damaged.items():
        events[row] = event
    for row, event in more.items():
        events[row] = event | (events[row] or {})
    stream = predictions(embeddings=events)
    whole, findings = observe_in_parts(EmbeddingMonitor(PROFILE), stream, [])
    for restart in (None, again):
        monitor, found = observe_in_parts(EmbeddingMonitor(PROFILE), stream, at, restart)
        assert sorted(found, key=lambda finding: finding.sequence) == sorted(
            findings, key=lambda finding: finding.sequence
        )
        assert monitor.snapshot() == whole.snapshot()
        assert monitor.limits() == whole.limits()
        assert monitor.drift() == whole.drift()


@pytest.mark.parametrize("seed", range(4))
def test_a_stream_that_does_not_change_is_left_alone(seed):
    monitor, findings = watch(named(normal(8_000, 8, seed)), ModelProfile())
    assert findings == []
    assert 0.0 < monitor.drift()["(embedding text)"] < 1.0


def correlated(vectors):
    """Keep means and variances, make the coordinates of each pair move together."""
    mixed = vectors.copy()
    mixed[:, 1::2] = 0.8 * vectors[:, ::2] + 0.6 * vectors[:, 1::2]
    return mixed


@pytest.mark.parametrize(
    "change",
    [lambda x: x + 0.4, lambda x: 1.4 * x, correlated],
    ids=["mean shift", "wider", "covariance alone"],
)
def test_a_change_of_the_distribution_is_told_with_its_name_place_and_distance(change):
    vectors = normal(5_000, 8, 7)
    vectors[2_500:] = change(vectors[2_500:])
    _, findings = watch(named(vectors), ModelProfile())
    assert [(found.kind, found.subject, found.level) for found in findings] == [
        ("data_drift", "embedding text", Level.DRIFT)
    ]
    evidence = findings[0].evidence[0]
    assert evidence.statistic >= evidence.threshold
    assert evidence.after > 1.5 * evidence.before > 0
    assert evidence.features[0].feature == "embedding text"
    assert abs(evidence.change_point.sample_index - 2_500) <= 512
    assert findings[0].change_time_ms == evidence.change_point.event_time_ms
    assert evidence.change_point.event_time_ms == evidence.change_point.sample_index * 1000
    assert evidence.change_point.prediction_offset == evidence.change_point.sample_index + 1000
    assert findings[0].sequence // 2 < 4_000
    assert "embedding text moved away from the reference" in findings[0].summary


def test_the_end_of_a_drift_is_told_and_it_is_found_again_when_it_comes_back():
    vectors = normal(9_000, 8, 8)
    vectors[2_000:3_000] += 1.0
    vectors[8_000:] += 1.0
    _, findings = watch(named(vectors), ModelProfile())
    assert [found.level for found in findings] == [Level.DRIFT, Level.STABLE, Level.DRIFT]
    assert 3_000 < findings[1].sequence // 2 < 6_000
    assert "agreed with the reference again" in findings[1].resolution


def test_vectors_that_cannot_be_used_are_counted_and_told_and_stop_nothing():
    events = named(normal(1_000))
    events[300:310] = [{"text": [1.0] * 7}] * 10
    events[310:314] = [{"text": [1.0, 2.0, None, 4.0, 5.0, 6.0]}] * 4
    events[314:317] = [{"text": [1e39, 0.0, 0.0, 0.0, 0.0, 0.0]}] * 3
    events[320:345] = [None, {}, {"text": []}, {"text": None}, None] * 5
    monitor, findings = watch(events)
    assert monitor.limits() == {"max_embeddings": 0, "embedding_dimension": 10, "embedding_not_finite": 7}
    assert [(found.kind, found.subject, found.level) for found in findings] == [
        ("data_quality", "embeddings", Level.DRIFT),
        ("data_quality", "embeddings", Level.STABLE),
    ]
    assert {piece.detector for piece in findings[0].evidence} == {"missing", "wrong_type"}
    assert findings[0].evidence[0].features[0].feature == "embedding text"


def test_a_new_dimension_for_good_is_told_as_damaged_input():
    monitor, findings = watch(named(normal(400)) + named(normal(200, 7)))
    assert [(found.kind, found.level) for found in findings] == [("data_quality", Level.DRIFT)]
    assert monitor.limits()["embedding_dimension"] == 200
    assert monitor.quality()["(embedding text)"] == {"missing": 0.0, "wrong_type": 1.0}


@pytest.mark.parametrize("strays", [1, 20])
def test_the_dimension_is_that_of_most_vectors_and_not_of_the_first(strays):
    vectors = normal(1_000)
    monitor, _ = watch(named(normal(strays, 3)) + named(vectors))
    assert monitor.reference()["embeddings"][0]["dimension"] == 6
    # The strays; those that outvoted them came from as many good ones.
    assert monitor.limits()["embedding_dimension"] == strays
    assert monitor.drift()["(embedding text)"] is not None


def test_names_beyond_the_limit_are_counted_and_not_watched():
    events = [{"a": [1.0, 2.0], "b": [1.0], "c": [1.0], "x" * 300: [1.0]}] * 10
    monitor, findings = watch(events)
    assert monitor.limits()["max_embeddings"] == 20
    assert list(monitor.drift()) == ["(embedding a)", "(embedding b)"]
    assert findings == []


def test_constant_vectors_are_no_drift_until_they_change():
    _, findings = watch(named(np.ones((600, 4))) + named(np.full((64, 4), 2.0)))
    assert [(found.subject, found.level) for found in findings] == [("embedding text", Level.DRIFT)]


def test_failed_calls_without_embeddings_and_events_before_the_first_are_not_looked_at():
    events = [None] * 50 + named(normal(300))
    events[100:120] = [None] * 20
    error = np.zeros(350, bool)
    error[100:120] = True
    monitor = EmbeddingMonitor(PROFILE)
    assert monitor.observe(predictions(embeddings=events, error=error)) == []
    assert monitor.quality()["(embedding text)"]["missing"] == 0.0


def test_events_without_any_embedding_are_missing_ones_once_there_was_one():
    monitor, _ = watch(named(normal(300)))
    findings = monitor.observe(part(predictions(value=np.zeros(400)), 300, 400))
    assert [found.kind for found in findings] == ["data_quality"]
    assert monitor.quality()["(embedding text)"]["missing"] == 1.0


def test_a_monitor_that_is_switched_off_looks_at_nothing():
    off = ModelProfile(embedding_drift=EmbeddingDriftSettings(enabled=False))
    monitor, findings = watch(named(np.repeat(normal(2, 4), 2_000, axis=0)), off)
    assert findings == []
    assert not monitor.has_begun


def test_a_stored_reference_watches_from_the_first_vector():
    learnt, _ = watch(named(normal(256)))
    stored = msgspec.json.decode(msgspec.json.encode(learnt.reference()))
    _, found = watch(named(normal(64, seed=1) + 2.0), reference=stored)
    assert [finding.level for finding in found] == [Level.DRIFT]
    _, none = watch(named(normal(3_000, seed=1)), reference=stored)
    assert none == []


def test_a_reference_is_whole_after_whole_blocks_or_where_it_is_closed():
    monitor, _ = watch(named(normal(100)))
    assert monitor.reference() is None
    monitor.close_reference()
    assert monitor.reference()["embeddings"][0]["count"] == 96
    assert monitor.reference()["quality"]["total"] == 100
    assert EmbeddingMonitor(PROFILE).reference() is None


def test_the_state_does_not_grow_with_the_dimension_or_the_stream():
    small = len(msgspec.msgpack.encode(watch(named(normal(700)))[0].snapshot()))
    large = len(msgspec.msgpack.encode(watch(named(normal(700, 300)))[0].snapshot()))
    assert abs(large - small) < 100
    longer = len(msgspec.msgpack.encode(watch(named(normal(3_000)))[0].snapshot()))
    assert longer < small + 16 * 8 * 64 + 64 * 20 + 1_000


def test_a_reset_monitor_is_as_new_and_a_newer_or_damaged_snapshot_is_refused():
    monitor, _ = watch(named(normal(500)))
    state = monitor.snapshot()
    monitor.reset()
    assert monitor.snapshot() == EmbeddingMonitor(PROFILE).snapshot()
    with pytest.raises(StateError, match="version"):
        monitor.restore(state | {"version": 9})
    state["watches"][0]["detector"]["body"]["recent"] = b"12345"
    with pytest.raises(StateError, match="damaged"):
        monitor.restore(state)


def test_a_changed_budget_holds_from_the_restore_on():
    monitor, _ = watch(named(normal(500)))
    profile = msgspec.structs.replace(
        PROFILE, embedding_drift=msgspec.structs.replace(SMALL, expected_events_between_false_incidents=5_000.0)
    )
    changed = EmbeddingMonitor(profile)
    changed.restore(monitor.snapshot())
    parameters = changed.snapshot()["watches"][0]["detector"]["parameters"]
    assert parameters["expected_events_between_false_alarms"] == 10_000.0
