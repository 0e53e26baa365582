"""Laws of the loss by feature and bin."""

import itertools
from functools import cache

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detectors.protocol import StateError
from service.core.columns import Outcomes
from service.core.inputs.feature_monitor import FeatureMonitor
from service.core.inputs.loss_by_bin import CELLS, MAX_ROWS, MIN_EXPONENT, BlockSample, LossByBin, _is_sampled
from service.core.settings import DataQualitySettings, FeatureDriftSettings
from tests.core.inputs.streams import predictions

SMALL = FeatureDriftSettings(reference_events=200, block_events=50, window_blocks=3)
BLOCK = 100


def outcomes(sequence, offset, losses):
    """Outcomes of a classifier with these losses, 0 or 1, in the order of their records."""
    sequence, offset = np.asarray(sequence, np.int64), np.asarray(offset, np.int64)
    nothing = np.full(len(offset), np.nan)
    return Outcomes(
        sequence=sequence,
        watermark_ms=sequence,
        prediction_time_ms=offset,
        label_time_ms=offset,
        prediction_offset=offset,
        label_offset=offset,
        predicted=np.asarray(losses, np.float64),
        actual=np.zeros(len(offset)),
        score=nothing,
        weight=np.ones(len(offset)),
        segments=np.full(len(offset), -1, np.int64),
        probabilities=[None] * len(offset),
    )


def flow(delays, losses, codes, width, batch=BLOCK):
    """Feed blocks of 100 predictions, at offsets from 0 on, and outcomes that come `delays` records later, if ever."""
    count = len(delays)
    by_bin = LossByBin()
    by_bin.begin((codes.shape[1], width))
    labelled = np.flatnonzero(delays >= 0)
    # Prediction n is record 1,000 n; an outcome's record lies between two of those.
    at = (labelled + delays[labelled]) * 1000 + 1 + labelled % 997
    order = np.argsort(at, kind="stable")
    at, labelled = at[order], labelled[order]
    fed = 0
    for end in range(BLOCK, count + BLOCK + int(delays.max()), BLOCK):
        stop = int(np.searchsorted(at, end * 1000 - 1000, side="right"))
        while fed < stop:
            rows = slice(fed, min(fed + batch, stop))
            by_bin.note(outcomes(at[rows], labelled[rows], losses[labelled[rows]]), "multiclass")
            fed = rows.stop
        if end <= count:
            by_bin.insert(BlockSample(np.arange(end - BLOCK, end), end * 1000 - 1000), codes[end - BLOCK : end])
    by_bin.settle()
    return by_bin


def stream(count, seed=0):
    """Codes of two features of which the first makes the loss."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, (count, 2))
    losses = (rng.random(count) < np.array([0.05, 0.1, 0.3, 0.6])[codes[:, 0]]).astype(float)
    return codes, losses


UNIFORM = np.array([[25, 25, 25, 25], [25, 25, 25, 25]])
MOVED = np.array([[10, 10, 20, 60], [60, 20, 10, 10]])


@pytest.mark.parametrize("delay", [0, 30, 5_000], ids=["at once", "within a block", "late"])
def test_the_association_is_the_change_of_the_mean_loss_that_the_move_of_one_feature_makes(delay):
    codes, losses = stream(40_000)
    by_bin = flow(np.full(40_000, delay), losses, codes, 4)
    found = by_bin.association(UNIFORM, MOVED).change
    expected = 0.1 * 0.05 + 0.1 * 0.1 + 0.2 * 0.3 + 0.6 * 0.6 - (0.05 + 0.1 + 0.3 + 0.6) / 4
    assert found[0] == pytest.approx(expected, abs=0.03)
    assert abs(found[1]) < 0.03
    assert by_bin.association(UNIFORM, UNIFORM).change == pytest.approx([0.0, 0.0], abs=1e-12)


def test_the_sums_are_those_of_the_sampled_outcomes_exactly():
    codes, losses = stream(2_000)
    by_bin = flow(np.full(2_000, 150), losses, codes, 4)
    sampled = np.flatnonzero(_is_sampled(np.arange(2_000), MIN_EXPONENT))
    assert len(sampled) == pytest.approx(2_000 / 2**MIN_EXPONENT, rel=0.05)
    for feature, code in itertools.product(range(2), range(4)):
        rows = sampled[codes[sampled, feature] == code]
        assert by_bin._count[feature, code] == len(rows)
        assert by_bin._sum[feature, code] == losses[rows].sum()
    assert by_bin.dropped == 0


def test_what_waits_is_bounded_and_late_labels_still_tell():
    codes, losses = stream(60_000)
    codes = np.repeat(codes, 50, axis=1)
    by_bin = flow(np.full(60_000, 20_000), losses, codes, 4)
    assert len(by_bin._offsets) <= CELLS // 100
    assert by_bin.dropped > 0
    assert by_bin._count[0].sum() >= 100
    assert by_bin.association(np.repeat(UNIFORM, 50, axis=0), np.repeat(MOVED, 50, axis=0)).change[0] > 0.1


def test_predictions_that_are_never_labelled_do_not_push_out_those_that_are():
    codes, losses = stream(300_000)
    delays = np.where(np.arange(300_000) % 3 == 0, 200, -1)
    by_bin = flow(delays, losses, codes, 4, batch=10_000)
    assert len(by_bin._offsets) <= MAX_ROWS
    # A third of one in eight, all through the stream, though two thirds wait for ever.
    assert by_bin._count[0].sum() > 0.5 * 300_000 / 3 / 2**MIN_EXPONENT


def test_nothing_is_said_before_enough_labels():
    codes, losses = stream(400)
    assert flow(np.full(400, 10), losses, codes, 4).association(UNIFORM, MOVED) is None


def test_labels_before_any_feature_are_bounded_too():
    by_bin = LossByBin()
    for start in range(0, 20_000, 500):
        rows = np.arange(start, start + 500)
        by_bin.note(outcomes(rows, rows, np.ones(500)), "multiclass")
    by_bin.settle()
    assert len(by_bin._early_offsets) == MAX_ROWS
    assert by_bin.dropped > 0


LENGTH, LONGEST = 1_800, 300


@cache
def watched():
    """Predictions of which feature a makes the loss and moves amid a group of blocks; outcomes up to 300 rows later."""
    rng = np.random.default_rng(3)
    a = rng.normal(size=LENGTH) + 2.0 * (np.arange(LENGTH) >= 1_400)
    b = rng.normal(size=LENGTH)
    events = [{"a": first, "b": second} for first, second in zip(a.tolist(), b.tolist(), strict=True)]
    sequence = 2 * (np.arange(LENGTH) + rng.integers(0, LONGEST, LENGTH)) + 1
    order = np.argsort(sequence, kind="stable")
    return predictions(events), outcomes(sequence[order], 1000 + order, (a[order] > 1.0) * 1.0)


def run(cuts, *, restart=False):
    given, labels = watched()
    monitor = FeatureMonitor(SMALL, DataQualitySettings(enabled=False))
    findings = []
    bounds = sorted({0, 2 * (LENGTH + LONGEST), *(2 * cut for cut in cuts)})
    for start, end in itertools.pairwise(bounds):
        rows = np.flatnonzero((labels.sequence >= start) & (labels.sequence < end))
        if len(rows):
            monitor.note_outcomes(labels.part(rows[0], rows[-1] + 1), "multiclass")
        first, last = np.searchsorted(given.sequence, [start, end])
        if last > first:
            findings += monitor.observe(given.part(first, last))
        if restart:
            state = msgspec.msgpack.decode(msgspec.msgpack.encode(monitor.snapshot()))
            monitor = FeatureMonitor(SMALL, DataQualitySettings(enabled=False))
            monitor.restore(state)
    return monitor, findings


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, LENGTH + LONGEST - 1), max_size=8))
@example(list(range(90, LENGTH + LONGEST, 90)))
@example(list(range(7, LENGTH + LONGEST, 7)))
def test_cuts_and_restarts_change_neither_findings_nor_state(cuts):
    whole, findings = run([])
    top = findings[0].evidence[0].features[0]
    assert (top.feature, top.loss_association > 0.1) == ("a", True)
    for restart in (False, True):
        monitor, found = run(cuts, restart=restart)
        assert found == findings
        assert monitor.snapshot() == whole.snapshot()


def test_outcomes_that_are_noted_twice_count_once():
    _, labels = watched()
    once, twice = LossByBin(), LossByBin()
    for by_bin, times in ((once, 1), (twice, 2)):
        for _ in range(times):
            by_bin.note(labels, "multiclass")
        by_bin.settle()
    assert once.snapshot() == twice.snapshot()


def test_a_huge_loss_is_capped_and_one_that_is_none_is_left_out():
    by_bin = LossByBin()
    by_bin.begin((1, 2))
    for start in range(0, 2_000, 500):
        by_bin.insert(BlockSample(np.arange(start, start + 500), start), np.zeros((500, 1), np.int64))
    rows = by_bin._offsets.copy()
    by_bin.note(outcomes(rows, rows, np.where(rows % 2, 1.7e308, np.nan)), "regression")
    by_bin.settle()
    assert by_bin._count.sum() == (rows % 2).sum()
    assert np.isfinite(by_bin.association(np.array([[1, 1]]), np.array([[0, 1]])).change).all()


def test_a_newer_or_damaged_snapshot_is_refused():
    codes, losses = stream(1_000)
    by_bin = flow(np.full(1_000, 500), losses, codes, 4)
    state = by_bin.snapshot()
    with pytest.raises(StateError, match="version"):
        LossByBin().restore(state | {"version": 2})
    with pytest.raises(StateError, match="loss_by_bin"):
        LossByBin().restore(state | {"codes": b"123"})
