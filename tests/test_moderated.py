"""Moderated variances: against a slow obvious version, draws from the assumed prior, and at the edges."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats
from scipy.special import digamma, polygamma

from hampkit.stats import moderated
from hampkit.stats.moderated import Prior, fit, logit_cdf, trigamma_inverse


def slow_fit(squares, freedom):
    """The formulas, a sample at a time, with a root finder."""
    kept = [(ss / d, d) for ss, d in zip(squares, freedom, strict=True) if d >= 1]
    floor = max(1e-8 * np.median([s2 for s2, _ in kept]), 1e-12)
    e = [math.log(max(s2, floor)) - digamma(d / 2) + math.log(d / 2) for s2, d in kept]
    mean = sum(e) / len(e)
    excess = sum((x - mean) ** 2 for x in e) / (len(e) - 1) - sum(polygamma(1, d / 2) for _, d in kept) / len(e)
    if excess <= 0:
        return math.inf, math.exp(mean)
    half = optimize.brentq(lambda x: polygamma(1, x) - excess, 1e-6, 1e9, xtol=1e-12, rtol=1e-13)
    return 2 * half, math.exp(mean + digamma(half) - math.log(half))


def drawn(freedom, prior_freedom, prior_variance=2.0, seed=0):
    """Sums of squares of samples whose variances follow the assumed prior."""
    rng = np.random.default_rng(seed)
    true = prior_freedom * prior_variance / rng.chisquare(prior_freedom, len(freedom))
    return np.array([v * rng.chisquare(d) if d else 0.0 for v, d in zip(true, freedom, strict=True)])


def test_the_prior_is_found_again():
    d = np.full(100_000, 7)
    prior = fit(drawn(d, 3), d)
    assert 2.9 <= prior.freedom <= 3.1
    assert 1.95 <= prior.variance <= 2.05


@pytest.mark.parametrize("seed", range(5))
def test_the_fit_is_the_slow_one_also_with_uneven_and_missing_samples(seed):
    d = np.random.default_rng(seed).integers(0, 9, 400)
    squares = drawn(d, 4, seed=seed)
    squares[:3], d[:3] = 0.0, 5  # under the floor
    prior = fit(squares, d)
    assert np.allclose((prior.freedom, prior.variance), slow_fit(squares, d), rtol=1e-8)
    expected = [(prior.freedom * prior.variance + ss) / (prior.freedom + k) for ss, k in zip(squares, d, strict=True)]
    assert np.allclose(prior.variances(squares, d), expected, rtol=1e-12)


def test_a_sample_without_freedom_gets_the_usual_variance_and_has_no_part_in_the_fit():
    d = np.array([3] * 50 + [0] * 20)
    squares = drawn(d, 4)
    prior = fit(squares, d)
    assert prior == fit(squares[:50], d[:50])
    assert np.allclose(prior.variances(squares, d)[50:], prior.variance)
    with pytest.raises(ValueError, match="no sample has two values"):
        fit([0.0, 0.0], [0, 0])


def test_equal_variances_are_one_variance():
    squares = np.random.default_rng(0).chisquare(7, 2000) * 3
    squares = (squares + squares.mean() * 9) / 10  # closer together than chance allows
    prior = fit(squares, np.full(2000, 7))
    assert prior.freedom == np.inf
    assert np.array_equal(prior.variances(squares, np.full(2000, 7)), np.full(2000, prior.variance))
    assert fit([6.0], [3]).freedom == np.inf  # of one sample no spread is seen


def test_variances_far_below_the_median_are_floored():
    d = np.full(200, 7)
    squares = drawn(d, 4)
    one, other = squares.copy(), squares.copy()
    one[0], other[0] = 0.0, np.median(squares) * 1e-9
    assert fit(one, d) == fit(other, d)
    assert fit(one, d).freedom < fit(squares, d).freedom
    none = fit(np.zeros(20), np.full(20, 3))
    assert np.isfinite(none.variance)
    assert none.variance > 0


@pytest.mark.parametrize("value", [1e-9, 1e-3, 0.5, 1.6449340668482264, 40.0, 1e6, 1e12])
def test_trigamma_is_inverted(value):
    assert polygamma(1, trigamma_inverse(value)) == pytest.approx(
        value, rel=1e-6 if value < 1e-6 or value > 1e7 else 1e-10
    )


@pytest.mark.parametrize("nu", [1.0, 3.5, 40.0, 1e6, np.inf])
def test_densities_and_tails_are_those_of_student(nu):
    law = stats.norm if np.isinf(nu) else stats.t(nu)
    z = np.array([-29.0, -3.0, 0.0, 0.5, 12.0])
    assert np.allclose(moderated.log_density(z, nu), law.logpdf(z), rtol=1e-9)
    assert np.allclose(logit_cdf(z, nu), law.logcdf(z) - law.logsf(z), rtol=1e-9, atol=1e-12)
    near, far = logit_cdf(np.array([30 - 1e-9, 30 + 1e-9]), nu)
    assert near < far < near + 1e-5, "no seam where the series begins"


def test_far_tails_are_exact():
    for nu in (1.0, 30.0, 1e6):
        z, law = np.array([30.0, 33.0, 37.0]) + 1e-9, stats.t(nu)
        assert np.allclose(logit_cdf(z, np.full(3, nu)), law.logcdf(z) - law.logsf(z), rtol=1e-11)
    for nu, z in ((5.0, 1e3), (200.0, 60.0)):
        tail, _ = integrate.quad(lambda u, n=nu: stats.t.pdf(u, n), z, np.inf, epsabs=0, limit=500)
        assert logit_cdf(np.array([z]), np.array([nu])) == pytest.approx(-math.log(tail), rel=1e-8)


def test_of_mixed_degrees_of_freedom_each_has_its_own():
    z, nu = np.array([1.0, -40.0, 2.0]), np.array([3.0, 5.0, np.inf])
    assert np.allclose(moderated.log_density(z, nu), [moderated.log_density(a, b) for a, b in zip(z, nu, strict=True)])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 1e-300, 1e-12, 1.0, 1e8, 1e300]), min_size=2, max_size=30),
    st.integers(1, 60),
    st.sampled_from([-1e150, -1e4, -31.0, 0.0, 29.0, 1e8]),
)
def test_extreme_values_give_finite_numbers(squares, d, z):
    freedom = np.full(len(squares), d)
    prior = fit(squares, freedom)
    assert prior.freedom > 0
    assert np.isfinite(prior.variance)
    if np.isfinite(prior.freedom * prior.variance):
        assert np.isfinite(prior.variances(squares, freedom)).all()
    nu = np.full(1, min(prior.freedom, 1e12) + d)
    assert np.isfinite(moderated.log_density(np.array([max(z, -1e100)]), nu)).all()
    assert np.isfinite(logit_cdf(np.array([max(z, -1e100)]), nu)).all()


def test_a_prior_is_what_it_says():
    assert Prior(4.0, 2.0).variances([0.0, 8.0], [4, 4]).tolist() == [1.0, 2.0]
