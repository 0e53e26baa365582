"""Laws of the bounds on rates, against scipy's exact binomial tails."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from service.core.inputs.rates import REFERENCE_ERROR, alert_counts, divergence, upper_rates


@settings(deadline=None)
@given(st.integers(1, 2000), st.floats(0, 1), st.sampled_from([0.1, 1e-3, 1e-6]))
def test_the_upper_bound_is_above_the_exact_one_and_its_error_is_kept(total, share, error):
    count = round(total * share)
    bound = upper_rates(np.array([count]), total, error)[0]
    assert count / total <= bound <= 1
    # The chance to see so few events, were the true rate at the bound.
    assert stats.binom.cdf(count, total, bound) <= error * (1 + 1e-6) or bound == 1


@settings(deadline=None)
@given(
    st.integers(100, 2000),
    st.floats(0, 1),
    st.integers(20, 500),
    st.sampled_from([0.01, 0.05, 0.3]),
    st.sampled_from([1e-2, 1e-5]),
)
def test_an_alert_count_is_beyond_the_increase_and_beyond_chance_and_the_least_such(
    total, share, block, increase, error
):
    count = np.array([round(total * share)])
    alert = int(alert_counts(count, total, block, increase=increase, error=error)[0])
    bound = upper_rates(count, total, REFERENCE_ERROR)[0]

    def is_one(k):
        above = k / block > count[0] / total + increase + 1e-12 and k / block > bound
        return above and block * divergence(np.array([k / block]), np.array([bound]))[0] >= -np.log(error)

    assert alert == next((k for k in range(block + 1) if is_one(k)), block + 1)
    assert stats.binom.sf(alert - 1, block, bound) <= error


def test_the_bounds_are_taken_for_many_rates_at_once():
    counts = np.array([[0, 10], [500, 1000]])
    together = alert_counts(counts, 1000, 200, increase=0.05, error=1e-6)
    assert together.shape == (2, 2)
    # 13 of 200 against none in 1,000; a rate of 1 can never be exceeded.
    assert together[0, 0] == 13
    assert together[1, 1] == 201
