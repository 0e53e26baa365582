"""Thresholds hold the error rate that they promise, whatever the sample sizes."""

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from detectors.calibration import FIXED, p_values, thresholds
from detectors.distances import STATISTICS, distance
from detectors.histogram import ReferenceHistogram


def exceedances(name, n, m, alpha, n_bins, runs=20, features=20):
    """Share of exceedances without drift, over runs * features windows; and whether p-values say the same."""
    rng = np.random.default_rng(17)
    exceeded = agreeing = 0
    for _ in range(runs):
        histogram = ReferenceHistogram.from_sample(rng.normal(size=(n, features)), n_bins=n_bins)
        current = histogram.count(rng.normal(size=(m, features)))
        values = distance(name, histogram.counts, current, histogram)
        over = values >= thresholds(name, histogram.counts, current, histogram, alpha)
        small = p_values(name, values, histogram.counts, current, histogram) <= alpha
        exceeded += int(over.sum())
        agreeing += int((over == small).sum())
    return exceeded / (runs * features), agreeing / (runs * features)


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize(
    ("n", "m", "n_bins"), [(1_000, 1_000, 20), (1_000, 200, 20), (3_000, 1_000, 50), (500, 300, 5), (1_000, 200, 50)]
)
def test_without_drift_a_distance_exceeds_its_threshold_no_more_often_than_alpha(name, n, m, n_bins):
    share, agreement = exceedances(name, n, m, 0.05, n_bins)
    # 400 windows at 5 %: a standard error is 1.1 points, and the worst simulated with 2,000 windows is 7.2 %.
    assert share <= 0.05 + 0.04
    assert agreement == 1.0


@pytest.mark.parametrize("name", ["psi", "js", "hellinger", "chi_square", "ks"])
def test_the_thresholds_are_not_idle(name):
    share, _ = exceedances(name, 1_000, 1_000, 0.2, 20)
    assert share >= 0.1


@pytest.mark.parametrize("name", STATISTICS)
def test_a_shift_of_a_third_of_a_deviation_is_above_every_threshold(name):
    rng = np.random.default_rng(3)
    histogram = ReferenceHistogram.from_sample(rng.normal(size=(2_000, 1)))
    current = histogram.count(rng.normal(size=(2_000, 1)) + 0.35)
    value = distance(name, histogram.counts, current, histogram)
    assert value[0] > thresholds(name, histogram.counts, current, histogram, 0.001)[0]
    assert p_values(name, value, histogram.counts, current, histogram)[0] < 0.001


def test_the_customary_limit_of_psi_is_below_its_mean_without_drift():
    # (20 - 1)(1/1,000 + 1/200) = .114: the reason for this module.
    rng = np.random.default_rng(4)
    histogram = ReferenceHistogram.from_sample(rng.normal(size=(1_000, 50)))
    current = histogram.count(rng.normal(size=(200, 50)))
    values = distance("psi", histogram.counts, current, histogram)
    assert np.mean(values) == pytest.approx(0.114, rel=0.15)
    assert np.mean(values > FIXED["psi"][0]) > 0.4
    assert np.mean(values > thresholds("psi", histogram.counts, current, histogram, 0.01)) < 0.05


def test_the_p_value_of_chi_square_is_scipys():
    rng = np.random.default_rng(5)
    histogram = ReferenceHistogram.from_sample(rng.normal(size=(800, 3)), n_bins=10)
    current = histogram.count(rng.normal(size=(400, 3)) + 0.1)
    values = distance("chi_square", histogram.counts, current, histogram)
    ours = p_values("chi_square", values, histogram.counts, current, histogram)
    for f in range(3):
        table = np.stack((histogram.counts[f], current[f]))
        table = table[:, table.sum(axis=0) > 0]
        assert ours[f] == pytest.approx(chi2_contingency(table, correction=False).pvalue, rel=1e-6)


def test_without_data_nothing_is_above_its_threshold():
    histogram = ReferenceHistogram.from_sample(np.random.default_rng(1).normal(size=(100, 2)))
    nothing = np.zeros_like(histogram.counts)
    for name in STATISTICS:
        assert np.isinf(thresholds(name, histogram.counts, nothing, histogram, 0.01)).all()
        assert p_values(name, np.zeros(2), histogram.counts, nothing, histogram).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0, float("nan")])
def test_an_alpha_that_is_no_probability_is_refused(alpha):
    histogram = ReferenceHistogram.from_sample(np.ones((3, 1)))
    with pytest.raises(ValueError, match=r"\$\.alpha"):
        thresholds("ks", histogram.counts, histogram.counts, histogram, alpha)
