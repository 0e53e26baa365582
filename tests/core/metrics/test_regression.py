"""Metrics of numbers agree with scikit-learn on the same window."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from service.core.metrics import window_metrics
from service.core.metrics.catalogue import metric_names
from tests.core.metrics.outcomes import columns

numbers = st.integers(-1000, 1000).map(lambda n: n / 8) | st.floats(-1e6, 1e6)
weights = st.sampled_from([1.0, 2.0, 2.5, 10.0])


def values_of(actual, predicted, weight=None):
    return window_metrics("regression", "w", columns(actual, predicted, weight=weight)).values


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(numbers, numbers, weights), min_size=1, max_size=40))
def test_regression_metrics_agree_with_scikit_learn(outcomes):
    actual, predicted, weight = (np.array([row[i] for row in outcomes]) for i in range(3))
    got = values_of(actual, predicted, weight)
    args = {"sample_weight": weight}
    assert list(got) == metric_names("regression")
    assert got["mae"] == pytest.approx(sk.mean_absolute_error(actual, predicted, **args))
    assert got["mse"] == pytest.approx(sk.mean_squared_error(actual, predicted, **args))
    assert got["rmse"] == pytest.approx(sk.root_mean_squared_error(actual, predicted, **args))
    assert got["mape"] == pytest.approx(sk.mean_absolute_percentage_error(actual, predicted, **args))
    assert got["bias"] == pytest.approx(np.average(predicted - actual, weights=weight), abs=1e-9)
    if len(outcomes) < 2:
        assert got["r2"] is None
    elif np.ptp(actual) > 1e-3:  # nearly equal labels leave nothing but rounding to divide by
        assert got["r2"] == pytest.approx(sk.r2_score(actual, predicted, **args), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("predicted", "expected"), [([0.1, 0.1, 0.1], 1.0), ([0.1, 0.1, 0.2], 0.0)])
def test_labels_that_do_not_vary_have_r2_one_for_a_perfect_model_and_zero_for_any_other(predicted, expected):
    assert values_of([0.1, 0.1, 0.1], predicted)["r2"] == expected
    assert sk.r2_score([1.0, 1.0, 1.0], [p * 10 for p in predicted]) == expected


def test_an_empty_window_has_no_values():
    assert set(values_of([], []).values()) == {None}


def test_what_overflows_is_null_and_the_rest_stands():
    got = values_of([1e200, 2e200], [-1e200, 2e200])
    assert got["mae"] == 1e200
    assert (got["mse"], got["rmse"], got["r2"]) == (None, None, None)


def test_bias_is_positive_where_the_model_says_too_much():
    assert values_of([1.0, 2.0], [2.0, 4.0])["bias"] == 1.5
