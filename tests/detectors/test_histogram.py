"""Reference histograms: every value has one bin, counts add up, atoms and constants stay visible."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from detectors.histogram import EXTRA_COLUMNS, MISSING, UNSEEN, ReferenceHistogram
from detectors.protocol import StateError

numbers = st.one_of(st.floats(-1e6, 1e6), st.integers(-3, 3).map(float), st.just(np.nan))
samples = hnp.arrays(np.float64, st.tuples(st.integers(1, 80), st.integers(1, 4)), elements=numbers)


def single(values, **options):
    return ReferenceHistogram.from_sample(np.array(values, dtype=np.float64)[:, None], **options)


@settings(max_examples=25, deadline=None)
@given(sample=samples, n_bins=st.integers(2, 30))
def test_every_reference_value_is_counted_once_and_none_is_unseen(sample, n_bins):
    histogram = ReferenceHistogram.from_sample(sample, n_bins=n_bins)
    assert (histogram.counts.sum(axis=1) == len(sample)).all()
    assert (histogram.counts[:, UNSEEN] == 0).all()
    assert (histogram.counts[:, MISSING] == np.isnan(sample).sum(axis=0)).all()
    assert (histogram.bins <= max(n_bins, 3)).all()
    assert np.isfinite(histogram.positions).all()


@settings(max_examples=25, deadline=None)
@given(sample=samples, first=samples, second=samples, n_bins=st.integers(2, 30))
def test_counts_of_blocks_add_up_to_the_count_of_the_blocks_together(sample, first, second, n_bins):
    width = sample.shape[1]
    first, second = (np.resize(block, (len(block), width)) for block in (first, second))
    histogram = ReferenceHistogram.from_sample(sample, n_bins=n_bins)
    together = histogram.count(np.concatenate((first, second)))
    assert np.array_equal(histogram.count(first) + histogram.count(second), together)
    assert (together.sum(axis=1) == len(first) + len(second)).all()


@settings(max_examples=25, deadline=None)
@given(sample=samples, n_bins=st.integers(2, 30), categorical=st.booleans())
def test_a_snapshot_gives_back_the_same_histogram(sample, n_bins, categorical):
    kinds = [categorical] * sample.shape[1]
    histogram = ReferenceHistogram.from_sample(sample, n_bins=n_bins, categorical=kinds)
    for code in (msgspec.msgpack, msgspec.json):
        again = ReferenceHistogram.restore(code.decode(code.encode(histogram.snapshot())))
        assert again.snapshot() == histogram.snapshot()
        assert np.array_equal(again.count(sample), histogram.counts)


@settings(max_examples=25, deadline=None)
@given(sample=hnp.arrays(np.float64, st.integers(5, 300), elements=st.floats(-1e9, 1e9), unique=True))
def test_without_ties_the_bins_hold_equal_shares_give_or_take_one(sample):
    histogram = single(sample, n_bins=5)
    if len(sample) > 10:
        filled = histogram.counts[0, :5]
        assert filled.max() - filled.min() <= 1


@settings(max_examples=25, deadline=None)
@given(constant=st.floats(-1e6, 1e6), other=st.floats(-1e6, 1e6))
def test_any_other_value_of_a_constant_feature_is_visible(constant, other):
    histogram = single([constant] * 100)
    block = histogram.count(np.array([[other]]))
    same = int(np.argmax(histogram.counts[0]))
    assert histogram.counts[0, same] == 100
    assert (block[0, same] == 1) == (other == constant)


def test_a_value_with_much_mass_has_a_bin_of_its_own():
    rng = np.random.default_rng(1)
    sample = np.where(rng.random(2_000) < 0.4, 0.0, rng.normal(size=2_000))
    histogram = single(sample)
    alone = histogram.count(np.array([[0.0]]))[0].argmax()
    assert histogram.counts[0, alone] == (sample == 0.0).sum()
    assert histogram.count(np.array([[-1e-9], [1e-9]]))[0, alone] == 0


def test_every_value_of_a_feature_with_few_values_has_a_bin_of_its_own():
    histogram = single([0, 1, 2, 2, 2, 5] * 30)
    bins = [int(histogram.count(np.array([[value]]))[0].argmax()) for value in (0.0, 1.0, 2.0, 5.0, 1.5, 3.0)]
    assert len(set(bins)) == 6
    assert histogram.counts[0, bins].tolist() == [30, 30, 90, 30, 0, 0]


def test_far_out_of_range_and_missing_have_columns_of_their_own():
    histogram = single(np.linspace(0, 1, 101))
    block = histogram.count(np.array([[1.4], [1.6], [-0.6], [np.inf], [np.nan]]))
    assert block[0, UNSEEN] == 3
    assert block[0, MISSING] == 1
    assert block[0, -EXTRA_COLUMNS - 1] == 1


def test_categories_beyond_the_limit_share_a_bin_and_new_ones_are_unseen():
    codes = [0] * 50 + [1] * 30 + [7] * 10 + [8] * 6 + [9] * 4
    histogram = single(codes, categorical=[True], max_categories=3)
    assert histogram.counts[0].tolist() == [50, 30, 20, 0, 0]
    block = histogram.count(np.array([[7.0], [9.0], [3.0], [1.0], [np.nan]]))
    assert block[0].tolist() == [0, 1, 2, 1, 1]


def test_a_feature_that_was_always_missing_shows_any_value():
    histogram = single([np.nan] * 10)
    assert histogram.count(np.array([[0.5], [np.nan]]))[0].tolist() == [0, 1, 1]
    unknown = single([np.nan] * 10, categorical=[True])
    assert unknown.count(np.array([[0.0], [np.nan]]))[0].tolist() == [0, 1, 1]


def test_features_of_different_width_are_padded_with_zeros():
    rng = np.random.default_rng(2)
    sample = np.stack((rng.normal(size=500), np.ones(500), rng.integers(0, 3, 500)), axis=1)
    histogram = ReferenceHistogram.from_sample(sample, categorical=[False, False, True])
    assert histogram.bins.tolist() == [20, 3, 3]
    assert (histogram.counts[1:, 3:-EXTRA_COLUMNS] == 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: single([1.0], n_bins=1), "n_bins"),
        (lambda: single([1.0], n_bins=101), "n_bins"),
        (lambda: single([1.0], max_categories=1), "max_categories"),
        (lambda: single([np.inf]), "infinity"),
        (lambda: single([1.0], categorical=[True, False]), "categorical"),
        (lambda: single([1.0]).count(np.zeros((3, 2))), "shape"),
        (lambda: single([1.0]).with_counts(np.zeros((3, 2), np.int64)), "shape"),
    ],
)
def test_what_cannot_be_meant_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_snapshot_from_a_newer_version_is_refused():
    state = single([1.0, 2.0]).snapshot()
    for wrong in ({**state, "version": 99}, {**state, "name": "another"}):
        with pytest.raises(StateError):
            ReferenceHistogram.restore(wrong)
