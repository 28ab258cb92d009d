"""The interval for a true FPR of exactly so much, where many scores are equal: no threshold splits them."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from hampkit.stats import grouped, metrics


def label_only(rng, members=200, others=200):
    """A release that is right about 95 % of the members and 85 % of the others."""
    member = np.arange(members + others) < members
    return (rng.random(len(member)) < np.where(member, 0.95, 0.85)).astype(float), member


def before_by_hand(scores, member, k):
    """How many members lie before the k-th non-member, averaged over all orders of equal scores."""
    ties = [np.flatnonzero(scores == score) for score in sorted(set(scores), reverse=True)]
    found = []
    for orders in product(*(permutations(tie) for tie in ties)):
        inside = member[np.concatenate(orders)]
        found.append(int(inside[: np.flatnonzero(~inside)[k - 1]].sum()))
    return np.mean(found)


@pytest.mark.parametrize("seed", range(12))
def test_a_place_among_equal_scores_is_the_mean_over_all_their_orders(seed):
    rng = np.random.default_rng(seed)
    scores, member = rng.integers(0, 3, 8).astype(float), rng.permutation(np.arange(8) < 4)
    counts = metrics.count(scores, member)
    for k in range(1, 5):
        cut = metrics.Cut.before(counts, k)
        assert cut.hits(counts) == pytest.approx(before_by_hand(scores, member, k))
        assert cut.of(scores, counts)[member].sum() == pytest.approx(cut.hits(counts))
    assert metrics.Cut.before(counts, 0).hits(counts) == 0
    assert metrics.Cut.before(counts, 5).hits(counts) == 4


@pytest.mark.parametrize("fpr", [0.001, 0.01, 0.1])
def test_where_no_scores_are_equal_members_are_counted_between_the_quantiles(fpr):
    rng = np.random.default_rng(0)
    member = rng.permutation(np.arange(700) < 300)
    scores = rng.standard_normal(700) + member
    fewest, most = (int(binom.ppf(q, 400, fpr)) for q in (0.025, 0.975))
    others = np.sort(scores[~member])[::-1]
    least = int((scores[member] > others[fewest - 1]).sum()) if fewest else 0
    largest = int((scores[member] > others[most]).sum())
    wanted = metrics.clopper_pearson(least, 300)[0], metrics.clopper_pearson(largest, 300)[1]
    assert metrics.tpr_bounds(scores, member, fpr) == wanted


@pytest.mark.parametrize("size", [1, 2])
def test_scores_of_two_values_cover_the_rate_that_chance_reaches(size):
    """At 10 % FPR, of the right answers 0.1/0.85 are taken at random: TPR 11.2 %. The ends used to be reversed."""
    rng, held, truth = np.random.default_rng(0), 0, 0.95 * 0.1 / 0.85
    for _ in range(200):
        scores, member = label_only(rng)
        group = np.arange(400) // size if size > 1 else None
        low, high = grouped.tpr_point(scores, member, 0.1, groups=group)[1]
        held += low <= truth <= high
        assert high < 0.5, "few of the equal scores are allowed, and so few are found"
    assert held >= 190


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(2, 60),
    st.integers(2, 60),
    st.integers(1, 4),
    st.sampled_from([0.001, 0.05, 0.1, 0.5]),
)
def test_the_ends_are_never_reversed(seed, members, others, values, rate):
    rng = np.random.default_rng(seed)
    member = np.arange(members + others) < members
    scores = rng.integers(0, values, len(member)) + 0.5 * (rng.random(len(member)) < 0.1 * member)
    group = np.where(member, 0, 1000) + np.arange(len(member)) // 3
    for groups in (None, group):
        for of in (grouped.tpr_point, grouped.tnr_point):
            low, high = of(scores, member, rate, groups=groups)[1]
            assert 0 <= low <= high <= 1
