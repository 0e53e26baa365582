"""Embedding drift: laws of state, false alarms, delay."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.mmd import BLOCK, EmbeddingDrift
from detectors.protocol import Level, StateError


def make(**options):
    return EmbeddingDrift(**{"dimension": 4, "features": 16, "reference_size": 128, **options})


def feed(detector, vectors):
    drifts, taken = [], 0
    while taken < len(vectors):
        progress = detector.update_many(vectors[taken:])
        taken += progress.consumed
        if progress.level is Level.DRIFT:
            drifts.append(taken - 1)
    return drifts


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    change=st.integers(0, 600),
    cuts=st.lists(st.integers(1, 200), max_size=8),
    restore_at=st.integers(0, 8),
)
def test_cuts_and_restores_change_no_bit(seed, change, cuts, restore_at):
    vectors = np.random.default_rng(seed).normal(size=(600, 4))
    vectors[change:] += 1.0
    whole, pieces = make(), make()
    expected, drifts, start = feed(whole, vectors), [], 0
    for turn, cut in enumerate([*cuts, len(vectors)]):
        if turn == restore_at:
            state = msgspec.msgpack.decode(msgspec.msgpack.encode(pieces.snapshot()))
            pieces = make(seed=99)
            pieces.restore(state)
        drifts += [start + index for index in feed(pieces, vectors[start : start + cut])]
        start = min(start + cut, len(vectors))
    assert drifts == expected
    assert pieces.snapshot() == whole.snapshot()
    assert pieces.verdict() == whole.verdict()


def test_the_feature_map_approximates_the_gaussian_kernel():
    rng = np.random.default_rng(1)
    detector = make(dimension=5, features=1024)
    vectors = rng.normal(size=(BLOCK, 5))
    detector.update_many(vectors)
    mapped = detector._mapped(vectors)
    squared = ((vectors[:, None] - vectors[None]) ** 2).sum(axis=2)
    kernel = np.exp(-squared / (2 * detector._body.bandwidth**2))
    assert np.abs(mapped @ mapped.T - kernel).max() < 0.15


def test_without_drift_false_alarms_are_rarer_than_nominal():
    rng = np.random.default_rng(2)
    alarms = vectors = 0
    for _ in range(8):
        detector = EmbeddingDrift(dimension=8, expected_events_between_false_alarms=2_000.0, reference_size=500)
        progress = detector.update_many(rng.normal(size=(4_512, 8)))
        alarms, vectors = alarms + (progress.level is Level.DRIFT), vectors + progress.consumed - 512
    assert alarms <= vectors / 2_000 / 2


@pytest.mark.parametrize(
    "change",
    [lambda x: x + 0.3, lambda x: 1.5 * x, lambda x: np.where(np.arange(x.shape[1]) < 2, x + 1.5, x)],
    ids=["all coordinates move", "spread grows", "two coordinates move"],
)
def test_a_change_is_seen_and_dated(change):
    rng = np.random.default_rng(3)
    detector = EmbeddingDrift(dimension=16)
    assert detector.update_many(rng.normal(size=(2_048, 16))).level is not Level.DRIFT
    progress = detector.update_many(change(rng.normal(size=(2_000, 16))))
    assert progress.level is Level.DRIFT
    assert progress.consumed <= 640
    assert abs(detector.verdict().change_point - 2_048) <= 256


def test_constant_vectors_are_no_drift_until_they_change():
    detector = make()
    assert detector.update_many(np.ones((1_000, 4))).level is Level.STABLE
    assert detector.update_many(np.full((64, 4), 2.0)).level is Level.DRIFT


def test_the_state_does_not_grow_with_the_stream():
    detector = make()
    rng = np.random.default_rng(4)
    feed(detector, rng.normal(size=(3_000, 4)))
    size = len(msgspec.msgpack.encode(detector.snapshot()))
    feed(detector, rng.normal(size=(9_000, 4)))
    assert len(msgspec.msgpack.encode(detector.snapshot())) <= size + BLOCK * 4 * 8 + 50


def test_a_given_reference_judges_as_the_one_it_was_taken_from():
    rng = np.random.default_rng(7)
    learnt, given = make(), make(dimension=9)
    learnt.update_many(rng.normal(size=(128, 4)))
    given.adopt(msgspec.json.decode(msgspec.json.encode(learnt.reference())))
    vectors = rng.normal(size=(500, 4))
    for detector in (learnt, given):
        for start in range(0, 500, 25):
            detector.update_many(vectors[start : start + 25])
    assert (given.verdict().statistic, given.distance) == (learnt.verdict().statistic, learnt.distance)
    assert given.verdict().sample_count == learnt.verdict().sample_count - 128


def test_a_reference_that_is_closed_is_one_that_was_as_long_from_the_start():
    vectors = np.random.default_rng(8).normal(size=(300, 4))
    closed, short = make(reference_size=1000), make(reference_size=96)
    closed.update_many(vectors[:100])
    closed.close_reference()
    short.update_many(vectors[:100])
    for detector in (closed, short):
        detector.update_many(vectors[100:])
    assert closed.reference() == short.reference()
    assert closed.distance == short.distance


def test_the_distance_now_is_beyond_the_usual_one_exactly_when_something_changed():
    rng = np.random.default_rng(9)
    detector = make(features=64)
    detector.update_many(rng.normal(size=(640, 4)))
    stable = detector.distance
    detector.update_many(rng.normal(size=(64, 4)) + 2.0)
    assert stable.now < 2 * stable.usual
    assert detector.distance.now > 3 * detector.distance.usual


def test_reset_equals_new():
    detector = make()
    feed(detector, np.random.default_rng(5).normal(size=(700, 4)))
    detector.reset()
    assert detector.snapshot() == make().snapshot()


@pytest.mark.parametrize("bad", [np.full((2, 4), np.nan), np.full((2, 4), np.inf), np.zeros((2, 3)), np.zeros(4)])
def test_what_is_no_vector_is_refused_and_changes_nothing(bad):
    detector = make()
    feed(detector, np.random.default_rng(6).normal(size=(300, 4)))
    before = detector.snapshot()
    with pytest.raises(ValueError, match="expected"):
        detector.update_many(bad)
    assert detector.snapshot() == before


def test_a_damaged_or_newer_snapshot_is_refused():
    state = make().snapshot()
    wrong_size = {**state, "body": {**state["body"], "recent": b"12345"}}
    for wrong in ({**state, "version": 99}, {**state, "detector": "another"}, wrong_size):
        with pytest.raises(StateError):
            make().restore(wrong)


@pytest.mark.parametrize("options", [{"features": 15}, {"dimension": 0}, {"reference_size": 3}])
def test_a_parameter_out_of_range_is_refused_by_its_path(options):
    with pytest.raises(ValueError, match=rf"\$\.{next(iter(options))}: expected"):
        make(**options)
