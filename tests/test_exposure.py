"""Exposure of records: the slow formula, coverage, nulls, power."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from hampkit.stats import moderated
from hampkit.stats.exposure import FDR, benjamini_hochberg, exposure
from hampkit.stats.permutation import permutation_p


def drawn(mu, models, seed, deviations=1.0, records=None):
    """Signals (M, N) whose means differ by mu (N,) deviations between members and others; paired masks."""
    rng = np.random.default_rng(seed)
    mu = np.broadcast_to(mu, (records or np.size(mu),))
    half = rng.random((models // 2, len(mu))) < 0.5
    members = np.stack([half, ~half], 1).reshape(models, len(mu))
    return (rng.normal(size=members.shape) + mu * members) * deviations, members


def test_each_number_is_that_of_the_formula():
    rng = np.random.default_rng(0)
    signals, members = drawn(rng.normal(size=30), 10, 1, np.exp(rng.normal(size=30)))
    found = exposure(signals, members)
    squares, freedom, gaps = [], [], []
    for k in range(30):
        a, b = signals[members[:, k], k], signals[~members[:, k], k]
        squares.append(((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum())
        freedom.append(len(a) + len(b) - 2)
        gaps.append(a.mean() - b.mean())
    prior = moderated.fit(squares, freedom)
    assert not math.isinf(prior.freedom)
    for k in range(30):
        nu = prior.freedom + freedom[k]
        scale = math.sqrt(float(prior.variances([squares[k]], [freedom[k]])[0]))
        n1, n0 = int(members[:, k].sum()), int((~members[:, k]).sum())
        root = math.sqrt(n1 * n0 / (n1 + n0))
        t = root * gaps[k] / scale
        assert found.mu[k] == pytest.approx((1 - 3 / (4 * nu - 1)) * gaps[k] / scale)
        upper, lower = every_split(signals[:, k], members[:, k])
        assert found.p[k] == pytest.approx(max(stats.t.sf(t, nu), upper))
        if found.low[k] or upper <= 0.025:
            assert stats.nct.cdf(t, nu, root * found.low[k]) == pytest.approx(0.975, abs=1e-6)
        if found.high[k] or lower <= 0.025:
            assert stats.nct.cdf(t, nu, root * found.high[k]) == pytest.approx(0.025, abs=1e-6)
        assert found.low[k] <= 0 or upper <= 0.025
        assert found.high[k] >= 0 or lower <= 0.025
        assert found.low[k] < gaps[k] / scale < found.high[k]


def every_split(signals, members):
    """The p-values of the permutation test, one split of the models at a time."""
    n1, found = int(members.sum()), signals[members].sum()
    sums = [sum(split) for split in itertools.combinations(signals, n1)]
    return np.mean([s >= found - 1e-9 for s in sums]), np.mean([s <= found + 1e-9 for s in sums])


@pytest.mark.parametrize("models", [3, 7, 10])
def test_the_permutation_test_is_that_of_every_split(models):
    """With ties, and other numbers of models with each record."""
    rng = np.random.default_rng(models)
    signals, members = rng.integers(0, 4, (models, 50)).astype(float), rng.random((models, 50)) < 0.5
    upper, lower = permutation_p(signals, members)
    slow = np.array([every_split(signals[:, k], members[:, k]) for k in range(50)])
    assert np.c_[upper, lower] == pytest.approx(slow)


def test_the_normal_form_of_the_permutation_test_is_near_the_exact_one():
    """20 models: 184,756 splits; near the middle by a tenth of p, for the perfect split by a quarter."""
    rng = np.random.default_rng(0)
    signals, members = rng.normal(size=(20, 3)), np.arange(20)[:, None] < np.full((20, 3), 10)
    signals[:, 2] = members[:, 2]
    upper, lower = permutation_p(signals, members)
    slow = np.array([every_split(signals[:, k], members[:, k]) for k in range(3)])
    assert upper == pytest.approx(slow[:, 0], rel=0.25)
    assert lower[:2] == pytest.approx(slow[:2, 1], rel=0.1)


def test_the_wider_ends_are_those_of_bonferroni():
    """All 40 hold together in at least 95 % of 100 repeats, binomial error allowed: so the first of many can be read."""
    missed = 0
    for seed in range(100):
        signals, members = drawn(0.5, 12, seed, records=40)
        found = exposure(signals, members)
        if not seed:
            single = exposure(signals, members, level=1 - 0.05 / 40)
            assert np.array_equal(found.low_all, single.low)
            assert np.array_equal(found.high_all, single.high)
        missed += not ((found.low_all <= 0.5) & (found.high_all >= 0.5)).all()
    assert missed <= stats.binom.ppf(0.99, 100, 0.05)


def test_equal_variances_give_the_normal_distribution():
    signals, members = drawn(np.full(40, 0.7), 8, 3)
    centred = signals - np.where(members, 0.7, 0.0)
    found = exposure(signals, members)
    assert moderated.fit(np.ones(5), np.full(5, 6)).freedom == math.inf
    same = np.sign(centred)  # all deviations are 1: no excess of variance
    flat = exposure(same + 2.0 * members, members)
    root = np.sqrt(flat.inside * flat.outside / (flat.inside + flat.outside))
    if np.allclose(flat.high - flat.mu, flat.mu - flat.low):
        assert flat.high - flat.mu == pytest.approx(stats.norm.ppf(0.975) / root)
    assert found.mu.mean() == pytest.approx(0.7, abs=0.4)


@pytest.mark.parametrize("mu", [-1.0, 0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("models", [4, 16, 64])
def test_the_interval_covers(mu, models):
    """1,000 records of unequal deviations; the 99.9 % binomial end of 95 %."""
    rng = np.random.default_rng(7)
    deviations = 1 / np.sqrt(rng.chisquare(8, 1000) / 8)
    found = exposure(*_scaled(mu, models, deviations))
    covered = (found.low <= mu) & (mu <= found.high)
    assert covered.sum() >= stats.binom.ppf(0.0005, 1000, 0.95)


def _scaled(mu, models, deviations):
    return drawn(np.full(1000, mu), models, 11, deviations)


def votes(rng, models):
    """Shares of the votes of ten trees, as logits: many signals of a record are equal."""
    share = rng.binomial(10, rng.beta(2, 0.4, 60), (models, 60)) / 10
    return np.log(np.clip(share, 0.05, 0.95)) - np.log1p(-np.clip(share, 0.05, 0.95))


def spikes(rng, models):
    """Normal signals, of which a tenth is far below."""
    return rng.normal(size=(models, 60)) * 0.1 - 20.0 * (rng.random((models, 60)) < 0.1)


def unequal(rng, models):
    """Normal signals of unequal deviations."""
    return rng.normal(size=(models, 60)) * np.exp(rng.normal(size=60) / 2)


@pytest.mark.parametrize("models", [4, 32])
@pytest.mark.parametrize("signals", [unequal, votes, spikes], ids=lambda f: f.__name__)
def test_with_shuffled_membership_a_claim_is_rare(signals, models):
    """Null: of 60 audits, at most 5 % claim a record (upper 99 % binomial end), nor has one an interval for all above 0."""
    claims, above = 0, 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        half = rng.random((models // 2, 60)) < 0.5
        found = exposure(signals(rng, models), np.concatenate([half, ~half]))
        claims += bool(found.exposed.any())
        above += bool((found.low_all > 0).any())
    assert max(claims, above) <= stats.binom.ppf(0.99, 60, FDR)


def test_exposed_records_are_found_and_few_others():
    """Positive control: 100 of 500 records have mu = 3, with 32 models."""
    mu = np.r_[np.full(100, 3.0), np.zeros(400)]
    found = exposure(*drawn(mu, 32, 0))
    assert found.exposed[:100].mean() > 0.95
    assert found.exposed[100:].sum() / found.exposed.sum() < 0.12
    assert found.tpr(0.001)[:100].mean() > 0.35


def test_records_without_both_kinds_have_no_number():
    signals, members = drawn(np.full(20, 1.0), 8, 0)
    members[:, 3], members[:, 5] = True, False
    found = exposure(signals, members)
    assert np.isnan(found.mu[[3, 5]]).all()
    assert np.isnan(found.p[[3, 5]]).all()
    assert not found.exposed[[3, 5]].any()
    assert np.isfinite(np.delete(found.mu, [3, 5])).all()
    others = exposure(np.delete(signals, [3, 5], 1), np.delete(members, [3, 5], 1))
    assert np.array_equal(np.delete(found.low, [3, 5]), others.low)


@pytest.mark.parametrize("value", [0.0, 1e-300, 1e150])
def test_extreme_signals_give_numbers(value):
    signals, members = drawn(np.full(30, 1.0), 8, 0)
    found = exposure(signals * value + members * value, members)
    assert np.isfinite(found.low).all()
    assert np.isfinite(found.high).all()
    assert ((found.p >= 0) & (found.p <= 1)).all()


@pytest.mark.parametrize("gap", [1e3, 1e6])
def test_a_record_that_every_model_gives_away_has_finite_ends(gap):
    signals, members = drawn(np.zeros(30), 16, 0)
    found = exposure(signals + gap * members, members)
    assert np.isfinite(found.low).all()
    assert (found.low > gap / 4).all()
    assert (found.high < gap * 4).all()
    assert found.exposed.all()


def test_benjamini_hochberg_is_that_of_scipy():
    p = np.random.default_rng(0).random(200) ** 2
    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p))
    assert len(benjamini_hochberg([])) == 0


@pytest.mark.parametrize(
    ("signals", "members"),
    [
        (np.zeros(4), np.zeros(4)),
        (np.zeros((4, 3)), np.zeros((3, 4))),
        (np.full((4, 3), np.nan), np.eye(4)[:, :3]),
        (np.zeros((4, 3)), np.ones((4, 3))),
        (np.zeros((2, 3)), np.eye(2)[:, [0, 1, 0]]),
    ],
)
def test_what_cannot_be_is_refused(signals, members):
    with pytest.raises(ValueError, match=r".{20,}"):
        exposure(signals, members)
