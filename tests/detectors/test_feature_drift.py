"""The test of all features at one budget: validity of every bet, false incidents, delays."""

import msgspec
import numpy as np
import pytest
from scipy.stats import norm

from detectors.feature_bets import bank_of
from detectors.feature_drift import FeatureDriftTest
from detectors.histogram import MISSING, UNSEEN, ReferenceHistogram
from detectors.protocol import StateError

BLOCK = 200


def normal_shares(histogram):
    """True probability of each column for standard normal features: blocks can then be drawn as counts."""
    shares = np.zeros(histogram.counts.shape)
    for f, feature in enumerate(histogram.features):
        ends = norm.cdf(np.concatenate(([feature.low], feature.edges, [feature.high])))
        shares[f, : feature.bins] = np.diff(ends)
        shares[f, UNSEEN] = max(0.0, 1.0 - shares[f].sum())
    return shares / shares.sum(axis=1, keepdims=True)


def reference_of(rng, n, features, draw=None):
    return ReferenceHistogram.from_sample(draw(rng, n) if draw else rng.normal(size=(n, features)))


def incidents_without_drift(features, n, *, runs, blocks, budget=100_000.0):
    """False incidents over runs of at most `blocks` blocks, and the events that they took."""
    rng = np.random.default_rng(features * n)
    incidents = events = 0
    for _ in range(runs):
        histogram = reference_of(rng, n, features)
        shares = normal_shares(histogram)
        test = FeatureDriftTest(histogram, expected_events_between_false_incidents=budget)
        for _ in range(blocks):
            events += BLOCK
            if test.update(rng.multinomial(BLOCK, shares)).drifted.any():
                incidents += 1
                break
    return incidents, events


@pytest.mark.parametrize("n", [500, 1_000, 5_000])
@pytest.mark.parametrize("features", [5, 50])
def test_false_incidents_stay_within_one_budget_for_few_and_many_features(features, n):
    incidents, events = incidents_without_drift(features, n, runs=4, blocks=300 if features == 5 else 75)
    # 240,000 and 60,000 events at one in 100,000: 2.4 and .6 incidents are nominal. Measured: none.
    assert incidents <= events / 100_000 / 2


@pytest.mark.slow
@pytest.mark.parametrize("n", [500, 1_000, 5_000])
@pytest.mark.parametrize("features", [5, 50, 500])
def test_false_incidents_stay_within_one_budget_over_millions_of_events(features, n):
    runs, blocks = {5: (60, 1_000), 50: (40, 500), 500: (6, 250)}[features]
    incidents, events = incidents_without_drift(features, n, runs=runs, blocks=blocks)
    assert incidents <= events / 100_000 / 4


def mixed_features(rng, n):
    """Ties, a constant, a heavy tail, missing values, and two copies of one feature. Shape (n, 7)."""
    twin = rng.normal(size=n)
    columns = [
        rng.poisson(1.0, n).astype(float),
        np.full(n, 3.0),
        rng.standard_cauchy(n),
        np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)),
        np.where(rng.random(n) < 0.4, 0.0, rng.exponential(size=n)),
        twin,
        twin,
    ]
    return np.stack(columns, axis=1)


def test_ties_constants_heavy_tails_missing_values_and_copies_raise_no_false_incident():
    rng = np.random.default_rng(3)
    incidents = 0
    for _ in range(10):
        histogram = reference_of(rng, 600, 7, mixed_features)
        test = FeatureDriftTest(histogram, expected_events_between_false_incidents=100_000)
        incidents += any(test.update(histogram.count(mixed_features(rng, BLOCK))).drifted.any() for _ in range(60))
    # 120,000 events at one in 100,000.
    assert incidents <= 1


def test_categories_raise_no_false_incident_and_a_change_of_shares_is_seen():
    rng = np.random.default_rng(4)
    weights = np.array([0.5, 0.2, 0.15, 0.1, 0.05])
    sample = rng.choice(5, (1_000, 4), p=weights).astype(float)
    histogram = ReferenceHistogram.from_sample(sample, categorical=[True] * 4)
    test = FeatureDriftTest(histogram)
    for _ in range(100):
        assert not test.update(histogram.count(rng.choice(5, (BLOCK, 4), p=weights).astype(float))).drifted.any()
    blocks = 0
    verdict = test.verdict()
    while not verdict.drifted[2] and blocks < 20:
        block = rng.choice(5, (BLOCK, 4), p=weights).astype(float)
        block[:, 2] = rng.choice(5, BLOCK, p=[0.3, 0.4, 0.15, 0.1, 0.05])
        verdict = test.update(histogram.count(block))
        blocks += 1
    assert blocks <= 3
    assert verdict.drifted.tolist() == [False, False, True, False]


def test_every_bet_has_expectation_at_most_one_under_the_reference_itself():
    rng = np.random.default_rng(5)
    histogram = reference_of(rng, 400, 7, mixed_features)
    bank = bank_of(histogram, 0.0, 0.05)
    shares = histogram.counts / histogram.counts.sum(axis=1, keepdims=True)
    by_rank = np.einsum("fw,fwj->fj", shares, np.exp(bank.scores))
    by_bin = shares[:, :, None] * np.exp(bank.hit) + (1 - shares[:, :, None]) * np.exp(bank.miss)
    assert by_rank.max() <= 1.0
    assert by_bin.max() <= 1.0
    assert bank.weights.sum(axis=1) == pytest.approx(np.ones(7))


def test_the_average_of_all_processes_grows_no_faster_than_the_blocks():
    # E M_t <= t at any t, the law behind the budget, over fresh references.
    rng = np.random.default_rng(6)
    ends = []
    for _ in range(40):
        histogram = reference_of(rng, 1_000, 5)
        test, shares = FeatureDriftTest(histogram), normal_shares(histogram)
        for _ in range(30):
            verdict = test.update(rng.multinomial(BLOCK, shares))
        ends.append(np.exp(verdict.log_e).mean())
    assert np.mean(ends) <= 30


CHANGES = {
    "up by one deviation": (lambda x: x + 1.0, 2),
    "down by one deviation": (lambda x: x - 1.0, 2),
    "up by half a deviation": (lambda x: x + 0.5, 5),
    "half as wide again": (lambda x: 1.5 * x, 10),
    "two thirds as wide": (lambda x: 0.67 * x, 8),
    "a fifth missing": (lambda x: np.where(np.arange(len(x)) % 5 == 0, np.nan, x), 2),
    "another unit": (lambda x: 1_000.0 * x, 1),
    "stuck at one value": (lambda x: np.full_like(x, 0.3), 1),
    "a tenth at a default of zero": (lambda x: np.where(np.arange(len(x)) % 10 == 0, 0.0, x), 8),
}


@pytest.mark.parametrize(("change", "most_blocks"), CHANGES.values(), ids=CHANGES.keys())
def test_a_change_in_one_of_twenty_features_is_seen_named_and_dated(change, most_blocks):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        histogram = reference_of(rng, 1_000, 20)
        test = FeatureDriftTest(histogram)
        for _ in range(15):
            assert not test.update(histogram.count(rng.normal(size=(BLOCK, 20)))).drifted.any()
        blocks, verdict = 0, test.verdict()
        while not verdict.drifted.any() and blocks < 30:
            block = rng.normal(size=(BLOCK, 20))
            block[:, 7] = change(block[:, 7])
            verdict = test.update(histogram.count(block))
            blocks += 1
        assert blocks <= most_blocks
        assert np.flatnonzero(verdict.drifted).tolist() == [7]
        assert verdict.ranking[0] == 7
        assert 14 <= verdict.change_block[7] <= 15 + blocks // 2


def test_a_constant_that_starts_to_vary_is_seen_in_the_first_block():
    rng = np.random.default_rng(8)
    sample = rng.normal(size=(500, 50))
    sample[:, 11] = 0.42
    histogram = ReferenceHistogram.from_sample(sample)
    test = FeatureDriftTest(histogram)
    block = rng.normal(size=(BLOCK, 50))
    block[:, 11] = 0.42 + 1e-6 * rng.normal(size=BLOCK)
    assert np.flatnonzero(test.update(histogram.count(block)).drifted).tolist() == [11]


def test_a_larger_reference_sees_smaller_changes():
    delays = {}
    for n in (500, 20_000):
        rng = np.random.default_rng(9)
        histogram = reference_of(rng, n, 5)
        test = FeatureDriftTest(histogram)
        delays[n] = 100
        for block in range(100):
            values = rng.normal(size=(BLOCK, 5))
            values[:, 0] += 0.2
            if test.update(histogram.count(values)).drifted[0]:
                delays[n] = block + 1
                break
    assert delays[20_000] <= 10 < delays[500]


def test_a_change_within_the_tolerance_is_no_drift():
    rng = np.random.default_rng(10)
    histogram = reference_of(rng, 5_000, 3)
    strict, tolerant = FeatureDriftTest(histogram), FeatureDriftTest(histogram, tolerance=0.12)
    for _ in range(40):
        counts = histogram.count(rng.normal(size=(BLOCK, 3)) + 0.3)
        strict.update(counts)
        tolerant.update(counts)
    assert strict.verdict().drifted.all()
    assert not tolerant.verdict().drifted.any()


def test_a_restarted_feature_begins_without_evidence_and_the_others_keep_theirs():
    rng = np.random.default_rng(11)
    histogram = reference_of(rng, 1_000, 4)
    test = FeatureDriftTest(histogram)
    values = rng.normal(size=(BLOCK, 4))
    values[:, :2] += 2.0
    assert test.update(histogram.count(values)).drifted.tolist() == [True, True, False, False]
    test.restart(np.array([True, False, False, False]))
    assert test.verdict().drifted.tolist() == [False, True, False, False]
    later = test.update(histogram.count(values))
    assert later.drifted.tolist() == [True, True, False, False]
    assert later.change_block.tolist()[:2] == [1, 0]


@pytest.mark.parametrize("cut", [0, 1, 7])
def test_a_restored_test_goes_on_as_if_nothing_had_happened(cut):
    rng = np.random.default_rng(12)
    histogram = reference_of(rng, 500, 6)
    blocks = [histogram.count(rng.normal(size=(BLOCK, 6)) + (i > 4) * 0.4) for i in range(12)]
    whole = FeatureDriftTest(histogram, tolerance=0.001)
    for block in blocks[:cut]:
        whole.update(block)
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(whole.snapshot()))
    profile = msgspec.msgpack.decode(msgspec.msgpack.encode(histogram.snapshot()))
    resumed = FeatureDriftTest.restore(state, ReferenceHistogram.restore(profile))
    for block in blocks[cut:]:
        whole.update(block)
        resumed.update(block)
    assert resumed.snapshot() == whole.snapshot()


def test_a_snapshot_that_does_not_fit_is_refused():
    rng = np.random.default_rng(13)
    histogram, other = reference_of(rng, 200, 3), reference_of(rng, 200, 4)
    state = FeatureDriftTest(histogram).snapshot()
    for wrong in ({**state, "version": 99}, {**state, "name": "another"}):
        with pytest.raises(StateError):
            FeatureDriftTest.restore(wrong, histogram)
    with pytest.raises(StateError, match="another reference"):
        FeatureDriftTest.restore(state, other)


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"expected_events_between_false_incidents": 0.0}, "expected_events_between_false_incidents"),
        ({"block_events": 0}, "block_events"),
        ({"tolerance": 1.0}, "tolerance"),
        ({"reference_confidence": 1.0}, "reference_confidence"),
    ],
)
def test_a_parameter_out_of_range_is_refused_by_its_path(options, path):
    histogram = reference_of(np.random.default_rng(1), 50, 2)
    with pytest.raises(ValueError, match=rf"\$\.{path}"):
        FeatureDriftTest(histogram, **options)


def test_counts_of_another_shape_are_refused_and_change_nothing():
    histogram = reference_of(np.random.default_rng(1), 50, 2)
    test = FeatureDriftTest(histogram)
    before = test.snapshot()
    with pytest.raises(ValueError, match="expected shape"):
        test.update(np.zeros((3, histogram.width), np.int64))
    assert test.snapshot() == before


def test_the_evidence_of_a_feature_that_is_always_missing_is_raised_by_its_first_values():
    sample = np.column_stack((np.full(300, np.nan), np.random.default_rng(1).normal(size=300)))
    histogram = ReferenceHistogram.from_sample(sample)
    test = FeatureDriftTest(histogram)
    rng = np.random.default_rng(2)
    verdict = test.update(histogram.count(rng.normal(size=(BLOCK, 2))))
    assert verdict.drifted.tolist() == [True, False]
    assert histogram.count(np.full((5, 2), np.nan))[:, MISSING].tolist() == [5, 5]
