"""Bounds on epsilon and mu: reference values, slow oracles, nulls, power."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hampkit.stats.bounds import (
    SHARES,
    audit_scores,
    clopper_pearson_epsilon,
    clopper_pearson_mu,
    epsilon_of_mu,
    mu_of_epsilon,
    one_run_epsilon,
    one_run_mu,
)

DELTA = 1e-5
EPSILONS = [
    ((100, 100, 75, 0), 0.702214), ((100, 100, 75, 1e-4), 0.699467), ((1000, 100, 75, 1e-4), 0.672985),
    ((1000, 1000, 600, 1e-5), 0.297227), ((1000, 100, 90, 1e-5), 1.626143), ((1000, 100, 100, 0), 3.492965),
    ((1000, 600, 600, 1e-5), 5.270399), ((5000, 500, 450, 1e-5), 1.941420), ((132, 132, 86, 0), 0.312198),
    ((16, 16, 16, 0), 1.580323), ((1000, 1000, 520, 0), 0.0), ((100_000, 1510, 1439, 1e-5), 2.675851),
]  # fmt: skip
MUS = [
    ((1000, 600, 600), 2.083475, 10.514892), ((1000, 1000, 600), 0.163850, 0.583540), ((1000, 100, 90), 0.602504, 2.456405),
    ((1000, 100, 100), 1.225533, 5.549028), ((5000, 500, 450), 0.671522, 2.776066),
]  # fmt: skip


@pytest.mark.parametrize(("counts", "expected"), EPSILONS)
def test_reference_values_of_epsilon(counts, expected):
    assert one_run_epsilon(*counts) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(("counts", "mu", "epsilon"), MUS)
def test_reference_values_of_mu_and_of_its_epsilon(counts, mu, epsilon):
    assert one_run_mu(*counts) == pytest.approx(mu, abs=2e-6)
    assert epsilon_of_mu(one_run_mu(*counts), DELTA) == pytest.approx(epsilon, abs=2e-5)


@pytest.mark.parametrize(("mu", "epsilon"), [(0.5, 1.9931), (1, 4.3772), (2, 9.9973), (4, 24.3816)])
def test_epsilon_and_mu_convert_both_ways(mu, epsilon):
    assert epsilon_of_mu(mu, DELTA) == pytest.approx(epsilon, abs=1e-4)
    assert mu_of_epsilon(epsilon_of_mu(mu, DELTA), DELTA) == pytest.approx(mu, abs=1e-6)


@pytest.mark.parametrize(
    ("counts", "epsilon", "mu"),
    [
        ((500, 500, 0, 500), 4.90558, 4.87931),
        ((160, 16_000, 16, 16_000), 1.65630, 0.55736),
        ((120, 1000, 10, 1000), 1.70244, 0.81120),
    ],
)
def test_reference_values_of_rates(counts, epsilon, mu):
    assert clopper_pearson_epsilon(*counts, DELTA) == pytest.approx(epsilon, abs=2e-5)
    assert clopper_pearson_mu(*counts) == pytest.approx(mu, abs=2e-5)


def slow_p(epsilon, m, r, v, delta):
    """Theorem 5.2 as it is printed, with binomial sums written out."""
    q = math.exp(epsilon) / (1 + math.exp(epsilon))

    def f(least):
        return math.fsum(math.comb(r, j) * q**j * (1 - q) ** (r - j) for j in range(max(least, 0), r + 1))

    steps = [(f(v - i) - f(v)) / i for i in range(1, v + 1)]
    return min(1.0, f(v) + 2 * m * delta * max(steps, default=0.0))


@given(st.integers(1, 40), st.data(), st.sampled_from([0.0, 1e-6, 1e-3]))
@settings(max_examples=60, deadline=None)
def test_the_bound_of_epsilon_is_where_the_slow_probability_meets_the_level(m, data, delta):
    r = data.draw(st.integers(0, m))
    v = data.draw(st.integers(0, r))
    found = one_run_epsilon(m, r, v, delta)
    if found:
        assert slow_p(found - 1e-6, m, r, v, delta) <= 0.05 + 1e-9
    if found < 50:
        assert slow_p(found + 1e-6, m, r, v, delta) >= 0.05 - 1e-9


@given(st.integers(1, 300), st.data())
@settings(max_examples=60, deadline=None)
def test_more_right_guesses_never_lower_a_bound(m, data):
    r = data.draw(st.integers(1, m))
    v = data.draw(st.integers(0, r - 1))
    assert one_run_epsilon(m, r, v, DELTA) <= one_run_epsilon(m, r, v + 1, DELTA) + 1e-6
    assert one_run_mu(m, r, v) <= one_run_mu(m, r, v + 1) + 1e-6
    assert one_run_epsilon(m, r, v, 1e-3) <= one_run_epsilon(m, r, v, 0.0) + 1e-6


@pytest.mark.parametrize("counts", [(10, 0, 0), (10, 10, 0), (1, 1, 0), (1, 1, 1), (10, 10, 5), (1000, 1, 1)])
def test_few_guesses_prove_nothing(counts):
    assert one_run_epsilon(*counts, 0.0) == 0
    assert one_run_mu(*counts) == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda: one_run_epsilon(10, 5, 6),
        lambda: one_run_epsilon(10, 11, 6),
        lambda: one_run_epsilon(0, 0, 0),
        lambda: one_run_epsilon(10, 5, -1),
        lambda: one_run_mu(10, 5, 6),
        lambda: one_run_epsilon(10, 5, 5, -1e-9),
        lambda: one_run_epsilon(10, 5, 5, 1.0),
        lambda: one_run_epsilon(10, 5, 5, 0.0, 1.0),
        lambda: epsilon_of_mu(-1.0, DELTA),
        lambda: epsilon_of_mu(1.0, 0.0),
        lambda: mu_of_epsilon(-1.0, DELTA),
        lambda: clopper_pearson_epsilon(11, 10, 0, 10),
        lambda: clopper_pearson_mu(1, 0, 0, 10),
        lambda: audit_scores([1.0, math.nan], [True, False]),
        lambda: audit_scores([1.0, 2.0], [True]),
        lambda: audit_scores([], []),
        lambda: audit_scores([1.0, 2.0], [0, 2]),
    ],
)
def test_what_cannot_be_is_refused(call):
    with pytest.raises(ValueError, match=r".{20,}"):
        call()


def test_rates_without_a_leak_or_turned_around_prove_nothing():
    for counts in ((0, 100, 0, 100), (50, 100, 50, 100), (0, 100, 100, 100), (10, 1000, 120, 1000)):
        assert clopper_pearson_mu(*counts) == 0
    assert clopper_pearson_epsilon(50, 100, 50, 100) == 0
    assert clopper_pearson_epsilon(100, 100, 100, 100) == 0
    # the mirror image: few false negatives among many true negatives
    assert clopper_pearson_epsilon(1000, 1000, 880, 1000) == pytest.approx(
        clopper_pearson_epsilon(120, 1000, 0, 1000), abs=1e-9
    )


# --- scores --------------------------------------------------------------------------------------------------------


def gaussian(mu, m, seed):
    rng = np.random.default_rng(seed)
    included = rng.random(m) < 0.5
    return rng.normal(size=m) + mu * included, included


def test_the_guesses_are_the_highest_and_the_lowest_scores():
    scores, included = gaussian(1.0, 1000, 0)
    found = audit_scores(scores, included, DELTA)
    order = np.argsort(scores)
    level = 1 - 0.05 / len(SHARES)
    assert [g.guesses for g in found.tried] == [10, 20, 50, 100, 200, 300, 500]
    for guess in found.tried:
        low, high = order[: guess.guesses // 2], order[1000 - (guess.guesses + 1) // 2 :]
        assert guess.correct == included[high].sum() + (~included[low]).sum()
        assert guess.epsilon == one_run_epsilon(1000, guess.guesses, guess.correct, DELTA, level)
        assert guess.mu == one_run_mu(1000, guess.guesses, guess.correct, level)
    assert (found.epsilon, found.mu) == (max(g.epsilon for g in found.tried), max(g.mu for g in found.tried))


def test_an_odd_guess_is_in():
    found = audit_scores([0.0, 1.0, 2.0], [False, True, True], shares=(0.3,))
    assert (found.tried[0].guesses, found.tried[0].correct) == (1, 1)


def test_ties_are_broken_without_a_look_at_the_truth():
    rng = np.random.default_rng(0)
    correct = []
    for seed in range(300):
        included = np.sort(rng.random(200) < 0.5)  # all members last: the order of the rows tells them
        correct.append(audit_scores(np.zeros(200), included, DELTA, seed=seed, shares=(0.5,)).tried[0].correct)
    assert abs(np.mean(correct) - 50) < 4 * 5 / math.sqrt(300)
    again = [audit_scores(np.zeros(200), included, DELTA, seed=7).tried for _ in range(2)]
    assert again[0] == again[1]


def test_scores_turned_around_prove_nothing():
    scores, included = gaussian(2.0, 1000, 1)
    found = audit_scores(-scores, included, DELTA)
    assert (found.epsilon, found.mu, found.epsilon_of_mu) == (0, 0, 0)


@pytest.mark.parametrize(("m", "repeats"), [(100, 300), (1000, 200)])
def test_on_noise_a_bound_above_0_is_rare(m, repeats):
    """Null: at most 5 % of audits, up to the 99.9 % binomial end."""
    most = stats.binom.ppf(0.999, repeats, 0.05)
    found = [audit_scores(*gaussian(0.0, m, seed), DELTA) for seed in range(repeats)]
    assert sum(f.epsilon > 0 for f in found) <= most
    assert sum(f.mu > 0 for f in found) <= most


def test_a_leak_is_found():
    """Positive control: Gaussian scores with mu = 2, m = 1,000."""
    found = [audit_scores(*gaussian(2.0, 1000, seed), DELTA) for seed in range(20)]
    assert np.mean([f.epsilon for f in found]) > 2.7
    assert np.mean([f.epsilon_of_mu for f in found]) > 4.2
    assert max(f.epsilon_of_mu for f in found) < epsilon_of_mu(2.0, DELTA)
