"""Calibrators and e-BH."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from detectors.e_bh import e_bh, e_bh_logarithms, mixture_calibrator, power_calibrator

e_lists = st.lists(st.floats(0.0, 1e9), min_size=1, max_size=30)


@pytest.mark.parametrize("kappa", [0.1, 0.5, 0.9])
def test_the_power_calibrators_integral_is_one(kappa):
    integral, _ = quad(lambda p: float(power_calibrator(np.array([p]), kappa)[0]), 0.0, 1.0)
    assert integral == pytest.approx(1.0, abs=1e-3)


def test_the_mixture_calibrator_is_the_average_of_the_power_calibrators():
    for p in (1e-6, 0.01, 0.3, 0.9, 0.9998, 0.99995, 1.0):
        average, _ = quad(lambda kappa, p=p: kappa * p ** (kappa - 1.0), 0.0, 1.0)
        assert float(mixture_calibrator(np.array([p]))[0]) == pytest.approx(average, rel=1e-6)
    assert mixture_calibrator(np.array([0.0]))[0] == np.inf


@given(e_lists, st.floats(0.001, 1.0))
def test_e_bh_rejects_the_largest_set_whose_least_e_value_is_large_enough(values, alpha):
    e = np.array(values)
    rejected = e_bh(e, alpha)
    total, count = len(e), int(rejected.sum())
    ordered = np.sort(e)[::-1]
    fits = [
        k for k in range(1, total + 1) if np.log(max(ordered[k - 1], 1e-300)) >= np.log(1 / alpha) + np.log(total / k)
    ]
    assert count == max(fits, default=0)
    if count:
        assert e[rejected].min() >= (e[~rejected].max() if count < total else 0.0)


@given(e_lists, st.floats(0.001, 1.0))
def test_any_rejection_means_that_the_average_reaches_one_over_alpha(values, alpha):
    e = np.array(values)
    if e_bh(e, alpha).any():
        assert e.mean() >= (1 / alpha) * (1 - 1e-9)


def test_false_discoveries_stay_below_alpha_even_when_the_nulls_move_together():
    rng = np.random.default_rng(1)
    alpha, proportions = 0.2, []
    for _ in range(2_000):
        shared = rng.normal()
        null = np.exp(3 * shared - 4.5) * np.ones(15)
        real = np.exp(3 * (rng.normal(size=5) + 3) - 4.5)
        rejected = e_bh(np.concatenate((null, real)), alpha)
        proportions.append(rejected[:15].sum() / max(rejected.sum(), 1))
    assert np.mean(proportions) <= alpha


def test_logarithms_say_what_the_values_say_beyond_the_range_of_a_double():
    assert e_bh_logarithms(np.array([5_000.0, 1.0, 0.0]), 4_000.0).tolist() == [True, False, False]


@pytest.mark.parametrize(
    "make",
    [
        lambda: e_bh(np.array([np.nan]), 0.1),
        lambda: e_bh(np.array([-1.0]), 0.1),
        lambda: e_bh(np.array([1.0]), 0.0),
        lambda: power_calibrator(np.array([1.5])),
        lambda: power_calibrator(np.array([0.5]), kappa=1.0),
        lambda: mixture_calibrator(np.array([np.nan])),
    ],
)
def test_what_is_no_e_value_or_p_value_is_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()
