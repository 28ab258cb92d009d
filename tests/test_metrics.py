"""Metrics against scikit-learn, SciPy and counting by hand; intervals against simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve

from hampkit import metrics

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


def test_auc_interval_covers_the_truth_as_stated():
    """Two normal groups: AUC = Φ(d/√2); 400 repetitions, so the share is known to ± 2.2 % (two standard errors)."""
    rng, truth, hits = np.random.default_rng(0), stats.norm.cdf(0.8 / np.sqrt(2)), 0
    member = np.arange(120) < 60
    for _ in range(400):
        i = metrics.auc_interval(rng.normal(size=120) + 0.8 * member, member)
        hits += i.low <= truth <= i.high
    assert 0.92 <= hits / 400 <= 0.98


def test_auc_interval_of_separated_groups_is_not_empty():
    i = metrics.auc_interval([2, 3, 0, 1], [1, 1, 0, 0])
    assert i.value == 1.0
    assert i.low < 0.5


def test_paired_difference_is_calibrated_and_narrower_than_unpaired():
    rng, hits, widths = np.random.default_rng(1), 0, []
    member = np.arange(160) < 80
    for _ in range(300):
        shared = rng.normal(size=160) + 0.6 * member
        a, b = shared + 0.3 * rng.normal(size=160), shared + 0.3 * rng.normal(size=160)
        d = metrics.auc_difference(a, b, member)
        hits += d.low <= 0 <= d.high
        widths.append((d.high - d.low) / (metrics.auc_interval(a, member).high - metrics.auc_interval(a, member).low))
    assert 0.915 <= hits / 300 <= 0.985
    assert np.mean(widths) < 0.8


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
