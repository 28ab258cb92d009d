"""Metrics against scikit-learn, SciPy and counting by hand; intervals against simulation."""

import numpy as np
import pytest
from benchmarks import auc_designs
from benchmarks.auc_single import cell, falls, jeffreys, one_pair, path
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve

from hampkit.stats import metrics

GROUPS = st.tuples(
    st.lists(st.integers(-5, 5), min_size=1, max_size=40), st.lists(st.integers(-5, 5), min_size=1, max_size=40)
)


def joined(groups):
    members, others = groups
    return np.array(members + others, dtype=float), np.array([True] * len(members) + [False] * len(others))


@given(GROUPS)
def test_roc_and_auc_equal_scikit_learn(groups):
    scores, member = joined(groups)
    fpr, tpr, _ = roc_curve(member, scores, drop_intermediate=False)
    ours = metrics.roc(scores, member)
    assert np.allclose(ours.fpr, fpr)
    assert np.allclose(ours.tpr, tpr)
    assert metrics.auc(scores, member) == pytest.approx(roc_auc_score(member, scores))


@given(GROUPS, st.sampled_from([0.0, 0.01, 0.1, 0.25, 0.5, 1.0]), st.booleans())
def test_operating_points_equal_counting(groups, rate, strict):
    scores, member = joined(groups)
    best_tpr = best_tnr = 0.0
    for threshold in [*np.unique(scores), np.inf]:
        said = scores >= threshold
        fpr, tpr = (said & ~member).sum() / (~member).sum(), (said & member).sum() / member.sum()
        if fpr < rate if strict else fpr <= rate + 1e-12:
            best_tpr = max(best_tpr, tpr)
        if 1 - tpr < rate - 1e-12 if strict else 1 - tpr <= rate + 1e-12:
            best_tnr = max(best_tnr, 1 - fpr)
    assert metrics.tpr_at_fpr(scores, member, rate, strict) == pytest.approx(best_tpr)
    assert metrics.tnr_at_fnr(scores, member, rate, strict) == pytest.approx(best_tnr)


@pytest.mark.parametrize(("n", "strict", "loose"), [(18_000, 17, 18), (1_350, 1, 1), (675, 0, 0), (1_000, 0, 1)])
def test_published_numbers_of_false_positives(n, strict, loose):
    assert metrics.allowed(0.001, n, strict=True) == strict
    assert metrics.allowed(0.001, n) == loose


def test_point_counts_and_threshold():
    scores, member = [5, 4, 3, 2, 1, 0], [1, 1, 0, 1, 0, 0]
    point = metrics.tpr_point(scores, member, 1 / 3)
    assert (point.hits, point.of, point.errors, point.threshold) == (3, 3, 1, 2.0)
    assert (point.low, point.high) == metrics.clopper_pearson(3, 3)


@pytest.mark.parametrize("n", [1, 7, 1000])
def test_clopper_pearson_equals_scipy(n):
    for k in {0, 1, n // 2, n}:
        exact = stats.binomtest(k, n).proportion_ci(0.95, "exact")
        assert metrics.clopper_pearson(k, n) == pytest.approx((exact.low, exact.high), abs=1e-12)


def delong_variance(scores, member):
    """DeLong, DeLong & Clarke-Pearson 1988, pair by pair: the variance of the AUC from its structural components."""
    mine, others = scores[member], scores[~member]
    won = [[1.0 if x > y else 0.5 if x == y else 0.0 for y in others] for x in mine]
    of_members = [sum(row) / len(others) for row in won]
    of_nonmembers = [sum(row[j] for row in won) / len(mine) for j in range(len(others))]
    parts = 0.0
    for part in (of_members, of_nonmembers):
        mean = sum(part) / len(part)
        parts += sum((v - mean) ** 2 for v in part) / (len(part) - 1) / len(part)
    return parts


@given(GROUPS)
def test_auc_interval_is_jeffreys_for_the_size_that_delongs_variance_leads_to(groups):
    scores, member = joined(groups)
    m, n = int(member.sum()), int((~member).sum())
    i = metrics.auc_interval(scores, member)
    if min(m, n) < 2:
        assert (i.low, i.high) == (0.0, 1.0)
        return
    spread = delong_variance(scores, member) + 0.2 / m**2 + 0.2 / n**2
    size = max(min(m, n), i.value * (1 - i.value) / spread)
    hits, errors = size * i.value, size * (1 - i.value)
    low = stats.beta.ppf(0.025, hits + min(0.5, hits / 4), errors + 0.5) if i.value > 0 else 0.0
    high = stats.beta.ppf(0.975, hits + 0.5, errors + min(0.5, errors / 4)) if i.value < 1 else 1.0
    assert (i.low, i.high) == pytest.approx((min(low, i.value), max(high, i.value)), abs=1e-9)


HARD = st.lists(
    st.sampled_from([-np.inf, -1e308, -1.0, 0.0, 5e-324, 1.0, 1 + 1e-15, 1e308, np.inf]), min_size=1, max_size=30
)


@given(st.tuples(HARD, HARD), st.sampled_from([0.5, 0.95, 0.999, 1 - 1e-9]))
@pytest.mark.filterwarnings("error")
def test_auc_interval_never_fails_and_holds_its_value_whatever_the_scores(groups, level):
    scores, member = joined(groups)
    i, turned = metrics.auc_interval(scores, member, level), metrics.auc_interval(-scores, member, level)
    exchanged = metrics.auc_interval(-scores, ~member, level)
    assert 0 <= i.low <= i.value <= i.high <= 1
    assert i.low < i.high
    assert (1 - turned.high, 1 - turned.low) == pytest.approx((i.low, i.high), abs=1e-9)
    assert (exchanged.low, exchanged.high) == pytest.approx((i.low, i.high), abs=1e-9)


@pytest.mark.parametrize(
    ("design", "auc", "m", "n", "widest"),
    [
        ("normal", 0.75, 50, 50, 0.22),
        ("wider", 0.9, 162, 648, 0.085),
        ("wider", 0.99, 162, 648, 0.03),
        ("normal", 0.999, 162, 648, 0.02),
        ("unexposed", 0.99, 162, 648, 0.035),
        ("binary", 0.99, 50, 50, 0.08),
        ("ties", 0.999, 1_000, 1_000, 0.005),
        ("below", 0.9, 50, 50, 0.19),
    ],
)
def test_auc_interval_covers_the_truth_and_is_no_wider_than_it_must_be(design, auc, m, n, widest):
    """600 audits: a coverage of 95 % is found within ± 2.7 % (three standard errors)."""
    found = cell(design, auc, m, n, 600)
    assert found.covered >= 0.92
    assert found.covered <= 0.985 or min(m, n) * (1 - auc) < 5
    assert found.width <= widest


@given(GROUPS)
def test_the_benchmark_computes_what_the_tool_does(groups):
    scores, member = joined(groups)
    m, n = int(member.sum()), int((~member).sum())
    if min(m, n) < 2:
        return
    of = [[[int((scores[side] == level).sum()) for level in range(-5, 6)]] for side in (member, ~member)]
    found = [auc_designs.of_counts(*np.array(of))]
    if len(set(scores)) == len(scores):
        found.append(auc_designs.of_scores(np.r_[scores[member], scores[~member]][None], m))
    i = metrics.auc_interval(scores, member)
    for value, variance in found:
        low, high = jeffreys(value, variance, m, n)
        assert (value[0], low[0], high[0]) == pytest.approx((i.value, i.low, i.high), abs=1e-9)


@pytest.mark.parametrize("order", ["top", "bottom", "random"])
@pytest.mark.parametrize("design", ["normal", "wider", "unexposed"])
@pytest.mark.parametrize(("m", "n", "auc"), [(50, 50, 0.75), (162, 648, 0.99)])
def test_repairing_inverted_pairs_does_not_take_the_lower_bound_away(design, m, n, auc, order):
    once, ever = falls(*path(design, auc, m, n, order, 0), m, n)
    assert once <= 0.1
    assert ever <= 1 / 3


def test_a_path_of_repairs_is_one_pair_at_a_time():
    rng = np.random.default_rng(0)
    member = rng.random(40) < 0.5
    pairs = int(member.sum() * (~member).sum())
    for order in ("top", "bottom", "random"):
        value, variance = auc_designs.repaired(rng, member, order)
        assert np.diff(value) * pairs == pytest.approx(np.ones(len(value) - 1))
        assert value[0] == pytest.approx(metrics.auc(-np.arange(40), member))
        assert variance[0] == pytest.approx(delong_variance(-np.arange(40.0), member))
        assert (value[-1], variance[-1]) == (1, 0)


@pytest.mark.parametrize(("m", "n"), auc_designs.SIZES)
def test_one_inverted_pair_is_nearly_complete_separation(m, n):
    assert 0 < one_pair(m, n) < 0.1


@pytest.mark.parametrize(("m", "n"), [(2, 2), (162, 648), (40_000, 40_000)])
def test_auc_interval_of_separated_groups_is_that_of_the_smaller_one_without_an_error(m, n):
    """0.025 < P(no error in so many) for a rate at the bound, as Jeffreys' bound is closer than the exact one."""
    i = metrics.auc_interval(np.r_[np.ones(m), np.zeros(n)], np.arange(m + n) < m)
    assert (i.value, i.high) == (1.0, 1.0)
    assert metrics.clopper_pearson(m, m)[0] < i.low < 1
    assert 0.04 < i.low**m < 0.12


def test_groups_of_one_value_are_no_certainty():
    """All members score 1: that group has no variance of its own. Equal scores have none at all."""
    label = metrics.auc_interval(np.r_[np.ones(20), np.ones(10), np.zeros(10)], np.arange(40) < 20)
    assert label.low < 0.65
    assert label.high > 0.82
    equal = metrics.auc_interval(np.zeros(40), np.arange(40) < 20)
    assert equal.low < 0.47
    assert equal.high > 0.53


@settings(max_examples=50)
@given(st.floats(1, 1e13), st.floats(0, 1), st.sampled_from([0.5, 0.95, 1 - 1e-9]))
def test_jeffreys_interval_holds_its_rate_and_mirrors(n, rate, level):
    low, high = metrics.jeffreys(rate, n, level)
    assert 0 <= low <= rate <= high <= 1
    assert (1 - high, 1 - low) == pytest.approx(metrics.jeffreys(1 - rate, n, level), abs=1e-9)


@pytest.mark.parametrize(("hits", "n"), [(2, 4), (7, 50), (2, 1000), (500, 1000)])
def test_jeffreys_interval_away_from_its_ends_is_that_of_the_textbook(hits, n):
    expected = stats.beta.ppf([0.025, 0.975], hits + 0.5, n - hits + 0.5)
    assert metrics.jeffreys(hits / n, n) == pytest.approx(tuple(expected))


def test_paired_difference_is_calibrated_and_narrower_than_unpaired():
    rng, hits, widths = np.random.default_rng(1), 0, []
    member = np.arange(800) < 400
    for _ in range(300):
        shared = rng.normal(size=800) + 0.6 * member
        a, b = shared + 0.3 * rng.normal(size=800), shared + 0.3 * rng.normal(size=800)
        d = metrics.auc_difference(a, b, member)
        hits += d.low <= 0 <= d.high
        widths.append((d.high - d.low) / (metrics.auc_interval(a, member).high - metrics.auc_interval(a, member).low))
    assert 0.92 <= hits / 300 <= 0.985
    assert np.mean(widths) < 0.8


@pytest.mark.parametrize("share", [0.01, 0.03, 0.06])
def test_paired_difference_covers_where_few_examples_make_it(share):
    """b is a, but for a share of the members that lie below all: where none of 50 does, the plain variance is 0."""
    rng, member, hits = np.random.default_rng(2), np.arange(100) < 50, 0
    for _ in range(400):
        a = rng.normal(size=100) + 100 * member
        b = np.where((rng.random(100) < share) & member, a - 200, a)
        d = metrics.auc_difference(a, b, member)
        hits += d.low <= share <= d.high
    assert hits / 400 >= 0.9


@given(st.tuples(HARD, HARD), st.randoms(use_true_random=False))
@pytest.mark.filterwarnings("error")
def test_paired_difference_never_fails_and_is_never_certain(groups, random):
    scores, member = joined(groups)
    mixed = np.array(random.sample(list(scores), len(scores)))
    for other in (scores, mixed, -scores):
        d, turned = metrics.auc_difference(scores, other, member), metrics.auc_difference(other, scores, member)
        assert -1 <= d.low <= d.value <= d.high <= 1
        assert d.low < d.high
        assert (d.value, d.low, d.high) == pytest.approx((-turned.value, -turned.high, -turned.low))
    smaller = min(member.sum(), (~member).sum())
    assert metrics.auc_difference(scores, scores, member).high >= 1 / smaller


@given(GROUPS)
def test_balanced_accuracy(groups):
    scores, member = joined(groups)
    for threshold in (-1.0, 2.0):
        expected = balanced_accuracy_score(member, scores >= threshold)
        assert metrics.balanced_accuracy(scores, member, threshold) == pytest.approx(expected)
    every = [metrics.balanced_accuracy(scores, member, t) for t in [*np.unique(scores), np.inf]]
    assert metrics.balanced_accuracy(scores, member) == pytest.approx(max(every))


@settings(max_examples=30)
@given(GROUPS)
def test_balanced_interval_holds_its_value(groups):
    scores, member = joined(groups)
    i = metrics.balanced_point(scores, member, 0.0)
    assert 0 <= i.low <= i.value <= i.high <= 1


@pytest.mark.parametrize(
    ("scores", "member", "said"),
    [
        ([1.0, np.nan], [1, 0], "NaN"),
        ([1.0, 2.0], [1, 1], "non-members"),
        ([1.0], [1, 0], "same length"),
        ([1.0, 2.0], [1, 2], "0/1"),
    ],
)
def test_bad_input_is_refused(scores, member, said):
    with pytest.raises(ValueError, match=said):
        metrics.auc(scores, member)


# --- means of parts -------------------------------------------------------------------------------------------------


def test_the_mean_of_one_part_is_that_part():
    rng = np.random.default_rng(0)
    member = np.arange(120) < 50
    scores = rng.normal(size=120) + member
    assert metrics.mean_auc([(scores, member)]) == metrics.auc_interval(scores, member)
    one = metrics.Interval(0.3, 0.2, 0.5)
    assert vars(metrics.mean_rate([one])) == pytest.approx(vars(one))


def test_the_mean_auc_of_two_parts_has_the_variance_of_a_mean():
    """With scores of unlike scales; of as many examples again the width is that of one part over the root of two."""
    rng = np.random.default_rng(1)
    parts = []
    for scale in (1.0, 1000.0):
        member = np.arange(4000) < 2000
        parts.append((scale * (rng.normal(size=4000) + 0.5 * member), member))
    both, first = metrics.mean_auc(parts), metrics.auc_interval(*parts[0])
    assert both.value == pytest.approx(np.mean([metrics.auc(*part) for part in parts]), abs=1e-12)
    assert both.high - both.low == pytest.approx((first.high - first.low) / 2**0.5, rel=0.03)
    wider = metrics.mean_auc(parts, correlation=0.44)
    assert wider.high - wider.low == pytest.approx(1.2 * (both.high - both.low), rel=0.01)


def test_the_mean_rate_is_wider_where_its_parts_are_not_independent():
    parts = [metrics.Interval(0.2, 0.1, 0.4), metrics.Interval(0.4, 0.2, 0.5)]
    apart, together = metrics.mean_rate(parts), metrics.mean_rate(parts, independent=False)
    assert vars(together) == pytest.approx({"value": 0.3, "low": 0.15, "high": 0.45})
    assert vars(apart) == pytest.approx({"value": 0.3, "low": 0.3 - 0.05**0.5 / 2, "high": 0.3 + 0.05**0.5 / 2})


@given(st.integers(0, 2**32 - 1))
def test_the_mean_auc_lies_in_its_interval_and_in_the_unit_interval(seed):
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(2):
        member = rng.permuted(np.arange(int(rng.integers(2, 30))) % 2 == 0)
        parts.append(
            (rng.integers(0, int(rng.integers(1, 5)), len(member)).astype(float) + 3 * member * rng.integers(2), member)
        )
    found = metrics.mean_auc(parts)
    assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize("level", [0, 1, 95, -0.5, float("nan")])
def test_a_level_that_is_no_probability_is_refused(level):
    scores, member = np.arange(40.0), np.arange(40) % 2 == 0
    for call in (
        lambda: metrics.auc_interval(scores, member, level),
        lambda: metrics.auc_difference(scores, -scores, member, level),
        lambda: metrics.tpr_point(scores, member, 0.1, level=level),
        lambda: metrics.clopper_pearson(1, 10, level),
        lambda: metrics.jeffreys(0.5, 10, level),
    ):
        with pytest.raises(ValueError, match="must lie between 0 and 1"):
            call()


def test_a_mean_of_nothing_is_refused():
    for mean in (metrics.mean_auc, metrics.mean_rate):
        with pytest.raises(ValueError, match="give at least one"):
            mean([])


def test_an_interval_of_a_share_that_is_no_count_holds_it():
    for n in (1.0, 1.7, 12.3):
        for rate in np.linspace(0, 1, 41):
            low, high = metrics.clopper_pearson(rate * n, n)
            assert 0 <= low <= rate <= high <= 1


def test_the_former_name_offers_what_it_did():
    """Also what lies in other modules of stats now."""
    import hampkit

    names = """Counts Cut Interval Point Roc allowed auc auc_difference auc_interval balanced_accuracy balanced_point
    best_threshold clopper_pearson count cuts effective_size jeffreys mean_auc mean_rate roc tnr_at_fnr tnr_bounds tnr_point
    tpr_at_fpr tpr_bounds tpr_point"""
    assert [n for n in names.split() if getattr(hampkit.metrics, n, None) is not getattr(metrics, n)] == []
    assert set(names.split()) == set(metrics.__all__)
