"""The noncentral t distribution: a slow integral as oracle, and the inversion."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.special import ndtr

from hampkit.stats.noncentral import cdf, noncentrality


def slow_cdf(t, nu, shift):
    """P[T ≤ t] as the mean of Φ(t S − shift) over the chi variable S, in pieces around its step."""

    def density(s):
        return ndtr(t * s - shift) * stats.chi.pdf(s * np.sqrt(nu), nu) * np.sqrt(nu)

    step = shift / t
    cuts = [0.0, *sorted(c for c in (step - 10 / abs(t), step, step + 10 / abs(t), 1.0) if 0 < c < 10), 20.0]
    return sum(integrate.quad(density, *piece, epsabs=1e-13, limit=200)[0] for piece in pairwise(cuts))


@pytest.mark.parametrize("nu", [1.0, 2.7, 30.0, 400.0])
def test_the_probability_is_that_of_the_slow_integral(nu):
    """From small t to t so large that SciPy's own function takes milliseconds, or is NaN (t = 19.8, ν = 2)."""
    values = (-1e5, -300, -20, -3.1, -0.5, 0.5, 2.9, 3.1, 6, 19.77, 60, 300, 1e5)
    for t in values:
        for share in (-0.6, 0.01, 0.5, 1.0, 1.5):
            found = cdf(np.array([t]), nu, np.array([t * share]))[0]
            assert found == pytest.approx(slow_cdf(t, nu, t * share), abs=1e-8), (t, share)


@pytest.mark.parametrize("nu", [1.0, 2.0, 2.7, 14.0, 1000.0])
@pytest.mark.parametrize("probability", [1 - 1e-6, 0.975, 0.025, 1e-6])
def test_many_values_get_what_each_would_get_alone(nu, probability):
    """With many values of t the noncentralities are interpolated; both are inverted to the probability asked for."""
    t = np.sinh(np.random.default_rng(0).uniform(-3, 9, 3000))
    together = noncentrality(t, nu, probability)
    alone = np.concatenate([noncentrality(each[None], nu, probability) for each in t[:40]])
    assert together[:40] == pytest.approx(alone, abs=1e-6 * np.sqrt(1 + t[:40].max() ** 2), rel=1e-6)
    assert np.abs(cdf(t[:40], nu, alone) - probability).max() < 1e-9
    assert np.abs(cdf(t, nu, together) - probability).max() < 1e-5 * min(1.0, 1e3 * (1 - probability))


@settings(max_examples=60, deadline=None)
@given(t=st.floats(-1e6, 1e6), nu=st.floats(1, 1e6), probability=st.sampled_from([1e-7, 0.025, 0.5, 0.975]))
def test_the_noncentrality_is_finite_and_falls_with_the_probability(t, nu, probability):
    value = noncentrality(np.array([t]), nu, probability)[0]
    assert np.isfinite(value)
    assert value >= noncentrality(np.array([t]), nu, probability + 1e-8)[0] - 1e-6 * (1 + abs(t))


def test_without_a_variance_to_estimate_it_is_the_normal_quantile():
    assert noncentrality(np.array([2.0]), np.inf, 0.025)[0] == pytest.approx(2 + stats.norm.ppf(0.975))
    assert noncentrality(np.array([]), 3.0, 0.025).shape == (0,)
