"""Distances: scipy's values, Evidently's and NannyML's definitions, and their limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency, ks_2samp, wasserstein_distance

from detectors import distances
from detectors.histogram import ReferenceHistogram

tables = hnp.arrays(np.int64, (2, 3, 8), elements=st.integers(0, 400)).filter(lambda t: (t.sum(axis=2) > 0).all())


@settings(max_examples=25, deadline=None)
@given(tables)
def test_js_is_scipys_distance_in_bits(table):
    expected = [jensenshannon(p, q, base=2) for p, q in zip(*table, strict=True)]
    assert distances.js(*table) == pytest.approx(np.nan_to_num(expected), abs=1e-7)


@settings(max_examples=25, deadline=None)
@given(tables)
def test_chi_square_is_scipys_without_yates_correction(table):
    for f, value in enumerate(distances.chi_square(*table)):
        used = table[:, f].sum(axis=0) > 0
        assert value == pytest.approx(chi2_contingency(table[:, f][:, used], correction=False).statistic, abs=1e-7)


@settings(max_examples=25, deadline=None)
@given(tables)
def test_hellinger_and_l_infinity_are_nannymls(table):
    p, q = table[0] / table[0].sum(axis=1, keepdims=True), table[1] / table[1].sum(axis=1, keepdims=True)
    expected = np.sqrt(np.sum((np.sqrt(p) - np.sqrt(q)) ** 2, axis=1)) / np.sqrt(2)
    assert distances.hellinger(*table) == pytest.approx(expected)
    assert distances.l_infinity(*table) == pytest.approx(np.abs(p - q).max(axis=1))


def evidently_psi(p, q):
    """As Evidently fills zeros: 1e-4, or a millionth of the least share where that is smaller still."""
    for shares in (p, q):
        least = shares[shares != 0].min()
        np.place(shares, shares == 0, least / 10**6 if least <= 0.0001 else 0.0001)
    return np.sum((p - q) * np.log(p / q))


@settings(max_examples=25, deadline=None)
@given(tables)
def test_psi_with_evidentlys_floor_is_evidentlys(table):
    for f, value in enumerate(distances.psi(*table, floor=1e-4)):
        used = table[:, f].sum(axis=0) > 0
        p, q = (row[used] / row.sum() for row in table[:, f])
        assert value == pytest.approx(evidently_psi(p, q))


@settings(max_examples=25, deadline=None)
@given(tables, st.integers(1, 5))
def test_every_distance_is_zero_between_windows_of_the_same_shares_and_not_negative(table, factor):
    reference, current = table
    for distance in (distances.ks, distances.js, distances.hellinger, distances.l_infinity, distances.chi_square):
        assert distance(reference, factor * reference) == pytest.approx(np.zeros(3), abs=1e-7)
        assert (distance(reference, current) >= 0).all()
    assert distances.psi(reference, reference) == pytest.approx(np.zeros(3), abs=1e-12)
    assert (distances.psi(reference, current) >= 0).all()


@settings(max_examples=25, deadline=None)
@given(tables)
def test_padding_adds_nothing(table):
    padded = np.insert(table, [5, 5], 0, axis=2)
    for name in ("ks", "psi", "js", "chi_square", "hellinger", "l_infinity"):
        assert getattr(distances, name)(*padded) == pytest.approx(getattr(distances, name)(*table))


def windows(kind, n, m, shift, seed=0):
    rng = np.random.default_rng(seed)
    draw = {
        "normal": lambda size: rng.normal(size=size),
        "poisson": lambda size: rng.poisson(2.0, size).astype(float),
        "exponential": lambda size: rng.exponential(size=size),
    }[kind]
    return draw(n)[:, None], draw(m)[:, None] + shift


@pytest.mark.parametrize("shift", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("kind", ["normal", "exponential"])
def test_ks_over_a_hundred_bins_is_scipys_within_a_bins_share(kind, shift):
    reference, current = windows(kind, 5_000, 2_000, shift)
    histogram = ReferenceHistogram.from_sample(reference, n_bins=100)
    ours = distances.ks(histogram.counts, histogram.count(current))[0]
    exact = ks_2samp(reference[:, 0], current[:, 0]).statistic
    assert exact - 0.01 <= ours <= exact + 1e-12


def test_ks_and_wasserstein_are_scipys_where_every_value_has_its_bin():
    reference, current = windows("poisson", 3_000, 1_000, 1.0)
    reference, current = np.minimum(reference, 7.0), np.minimum(current, 7.0)
    histogram = ReferenceHistogram.from_sample(reference)
    counts = histogram.count(current)
    assert distances.ks(histogram.counts, counts)[0] == pytest.approx(
        ks_2samp(reference[:, 0], current[:, 0]).statistic
    )
    expected = wasserstein_distance(reference[:, 0], current[:, 0]) / np.std(reference)
    assert distances.wasserstein(histogram.counts, counts, histogram)[0] == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["normal", "exponential"])
def test_wasserstein_over_a_hundred_bins_is_scipys_within_a_few_percent(kind):
    reference, current = windows(kind, 5_000, 2_000, 0.5)
    histogram = ReferenceHistogram.from_sample(reference, n_bins=100)
    ours = distances.wasserstein(histogram.counts, histogram.count(current), histogram)[0]
    assert ours == pytest.approx(wasserstein_distance(reference[:, 0], current[:, 0]) / np.std(reference), rel=0.08)


def test_missing_and_unseen_values_are_seen_by_every_distance_but_wasserstein_ignores_missing():
    rng = np.random.default_rng(1)
    reference = rng.normal(size=(1_000, 1))
    histogram = ReferenceHistogram.from_sample(reference)
    missing, far = reference.copy(), reference.copy()
    missing[::2], far[::2] = np.nan, 1e6
    for name in distances.STATISTICS:
        same = distances.distance(name, histogram.counts, histogram.counts, histogram)[0]
        assert same == pytest.approx(0.0, abs=1e-7)
        assert distances.distance(name, histogram.counts, histogram.count(far), histogram)[0] > 0.2
        if name != "wasserstein":
            assert distances.distance(name, histogram.counts, histogram.count(missing), histogram)[0] > 0.2
    assert distances.wasserstein(histogram.counts, histogram.count(missing), histogram)[0] < 0.1


def test_an_empty_window_is_at_distance_zero():
    histogram = ReferenceHistogram.from_sample(np.random.default_rng(1).normal(size=(100, 2)))
    nothing = np.zeros_like(histogram.counts)
    for name in distances.STATISTICS:
        assert distances.distance(name, histogram.counts, nothing, histogram).tolist() == [0.0, 0.0]


def test_an_unknown_distance_is_refused_by_name():
    histogram = ReferenceHistogram.from_sample(np.ones((3, 1)))
    with pytest.raises(ValueError, match=r"\$\.statistic: expected one of ks, .* got 'kl'"):
        distances.distance("kl", histogram.counts, histogram.counts, histogram)
