"""AUC and rates of one model, with intervals. A higher score predicts membership; rates are fractions.

``scores`` and ``member`` are (N,), with member = 1. Operating points are counted in whole examples and never interpolated: at
a false-positive rate α with n non-members at most ⌊αn⌋ of them may lie above the threshold (``strict=True``: fewer than αn,
the published rule).

Raises: `ValueError` for scores that are NaN, for lengths that differ, if members or non-members are missing, and for a level
outside (0, 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hampkit.stats.intervals import (
    Interval,
    clopper_pearson,
    effective_size,
    jeffreys,
    mean_rate,
    normal_quantile,
)
from hampkit.stats.roc import Counts, best_threshold, check_scores, count
from hampkit.stats.roc import auc as roc_auc

__all__ = [
    "Counts",
    "Cut",
    "Interval",
    "Point",
    "Roc",
    "allowed",
    "auc",
    "auc_difference",
    "auc_interval",
    "balanced_accuracy",
    "balanced_point",
    "best_threshold",
    "clopper_pearson",
    "count",
    "cuts",
    "effective_size",
    "jeffreys",
    "mean_auc",
    "mean_rate",
    "roc",
    "tnr_at_fnr",
    "tnr_bounds",
    "tnr_point",
    "tpr_at_fpr",
    "tpr_bounds",
    "tpr_point",
]

Array = NDArray[np.float64]


class Roc(NamedTuple):
    """A receiver operating curve from (0, 0) to (1, 1), one point for each of K distinct scores."""

    fpr: Array  # (K + 1,)
    tpr: Array  # (K + 1,)


@dataclass(frozen=True)
class Point(Interval):
    """An operating point of the ROC: the TPR at a target FPR, or the TNR at a target FNR."""

    hits: int  # true positives; for a TNR true negatives
    of: int  # members; for a TNR non-members
    errors: int  # false positives; for a TNR false negatives
    threshold: float  # the prediction is score ≥ threshold


def roc(scores: Any, member: Any) -> Roc:
    """The ROC of scores (N,); tied scores are one point.

    >>> roc([0.9, 0.1], [True, False]).tpr.tolist()
    [0.0, 1.0, 1.0]
    """
    _, tp, fp, n_members, n_nonmembers = count(scores, member)
    return Roc(np.r_[0, fp] / n_nonmembers, np.r_[0, tp] / n_members)


def auc(scores: Any, member: Any) -> float:
    """The area under the ROC of scores (N,): the probability that a member's score exceeds a non-member's; ties count half.

    >>> auc([0.9, 0.5, 0.1], [True, False, False])
    1.0
    """
    s, m = check_scores(scores, member)
    return roc_auc(s[m], s[~m])


def auc_interval(scores: Any, member: Any, level: float = 0.95) -> Interval:
    """The AUC of scores (N,) with Jeffreys' interval for the `effective_size` that follows from DeLong's variance.

    The interval contains the value and lies within [0, 1]. With a single member or non-member it is [0, 1]: one example does
    not show how much others would differ. Coverage: `benchmarks.intervals`, docs/intervals.md.
    """
    return mean_auc([(scores, member)], level)


def mean_auc(parts: Sequence[tuple[Any, Any]], level: float = 0.95, correlation: float = 0.0) -> Interval:
    """The mean AUC of K parts that share no example, with the interval of `auc_interval`.

    parts: (scores, member) of each part, both (Nₖ,); the parts need not share a scale. The variance is (1 + ρ) Σ vₖ / K², with
    vₖ DeLong's variance and ρ (``correlation``) that of the errors of two parts, 0 if they are independent. The effective size
    is that of all members and non-members.
    """
    if not parts:
        raise ValueError("the mean AUC of no parts: give at least one pair (scores, member)")
    placed = [placements(*check_scores(scores, member)) for scores, member in parts]
    value = float(np.mean([of_members.mean() for of_members, _ in placed]))
    if min(len(group) for both in placed for group in both) < 2:
        return Interval(value, 0.0, 1.0)
    variance = sum(_variance_of_mean(group) for both in placed for group in both) / len(placed) ** 2
    variance *= 1 + correlation
    n_members, n_nonmembers = (sum(len(both[k]) for both in placed) for k in (0, 1))
    low, high = jeffreys(value, effective_size(value, variance, n_members, n_nonmembers), level)
    return Interval(value, float(low), float(high))


def auc_difference(a: Any, b: Any, member: Any, level: float = 0.95) -> Interval:
    """AUC(a) − AUC(b) of scores (N,) of the same examples, with an interval within [−1, 1].

    Half the width is √(z² v + r²), with v DeLong's paired variance. r is 1 minus the lower bound of a perfect AUC with
    min(members, non-members) of each. It is needed because v is 0 if both scores order all examples alike, while other
    examples may be ordered differently.
    """
    (a10, a01), (b10, b01) = placements(*check_scores(a, member)), placements(*check_scores(b, member))
    value, smaller = float(a10.mean() - b10.mean()), min(len(a10), len(a01))
    if smaller < 2:
        return Interval(value, -1.0, 1.0)
    variance = _variance_of_mean(a10 - b10) + _variance_of_mean(a01 - b01)
    half = math.hypot(normal_quantile(level) * math.sqrt(variance), 1 - float(jeffreys(1.0, smaller, level)[0]))
    return Interval(value, max(-1.0, value - half), min(1.0, value + half))


def tpr_at_fpr(scores: Any, member: Any, fpr: float, strict: bool = False) -> float:
    """The highest true-positive rate with a false-positive rate of at most ``fpr`` (``strict``: below it)."""
    return tpr_point(scores, member, fpr, strict).value


def tnr_at_fnr(scores: Any, member: Any, fnr: float, strict: bool = False) -> float:
    """The highest true-negative rate with a false-negative rate of at most ``fnr`` (``strict``: below it)."""
    return tnr_point(scores, member, fnr, strict).value


def tpr_point(scores: Any, member: Any, fpr: float, strict: bool = False, level: float = 0.95) -> Point:
    """The TPR at an FPR with its counts and the exact binomial interval, which takes the threshold as given."""
    return counted_point(count(scores, member), fpr, strict, level)


def counted_point(counts: Counts, fpr: float, strict: bool = False, level: float = 0.95) -> Point:
    """`tpr_point` of counted scores, so that several rates need one sort."""
    thresholds, tp, fp, n_members, n_nonmembers = counts
    k = counts.above(allowed(fpr, n_nonmembers, strict))
    hits, errors = (int(tp[k - 1]), int(fp[k - 1])) if k else (0, 0)
    low, high = clopper_pearson(hits, n_members, level)
    return Point(hits / n_members, low, high, hits, n_members, errors, float(thresholds[k - 1]) if k else math.inf)


def tpr_bounds(scores: Any, member: Any, fpr: float, level: float = 0.95) -> tuple[float, float]:
    """An interval for the TPR at a true FPR of ``fpr``, which includes the uncertainty of the threshold.

    The interval of `tpr_point` holds for its threshold, which is estimated from the same non-members and has another true FPR.
    Above the threshold with a true FPR of ``fpr`` lie Binomial(n, fpr) of n non-members; let a ≤ b be two quantiles of this
    distribution. The lower end is the lower exact bound of the share of members above the a-th highest non-member, the upper
    end the upper exact bound of the share above the b-th. Equal scores count as if they were in random order, see `Cut`.
    Coverage is above the level.
    """
    return counted_bounds(count(scores, member), fpr, level)


def counted_bounds(counts: Counts, fpr: float, level: float = 0.95) -> tuple[float, float]:
    """`tpr_bounds` of counted scores."""
    fewest, most = (cut.hits(counts) for cut in cuts(counts, fpr, counts.n_nonmembers, level))
    low, high = clopper_pearson(fewest, counts.n_members, level)[0], clopper_pearson(most, counts.n_members, level)[1]
    assert low <= high, (low, high)
    return low, high


def cuts(counts: Counts, fpr: float, size: float, level: float = 0.95) -> tuple[Cut, Cut]:
    """The highest and the lowest threshold that may have this true FPR.

    size: the effective number of non-members, at most their number n. The quantiles of Binomial(size, fpr), times n/size, are
    the numbers of non-members above the two thresholds.
    """
    from scipy.stats import binom

    tail, scale = (1 - level) / 2, counts.n_nonmembers / size
    fewest, most = (scale * float(binom.ppf(q, max(int(size), 1), fpr)) for q in (tail, 1 - tail))
    return Cut.before(counts, math.ceil(fewest)), Cut.before(counts, math.floor(most) + 1)


class Cut(NamedTuple):
    """A place in the order of the scores, from high to low, which may lie within a group of equal scores."""

    at: int  # index of a threshold; all scores above it lie before this place
    share: float  # of the members at the threshold that lie before this place

    @staticmethod
    def before(counts: Counts, k: int) -> Cut:
        """The place of the k-th non-member: the top for k = 0, the end if there are fewer than k.

        Among b non-members with one score in random order, the j-th has on average j/(b + 1) of the members with that score
        before it.
        """
        if k <= 0 or k > counts.n_nonmembers:
            return Cut(0, 0.0) if k <= 0 else Cut(len(counts.fp) - 1, 1.0)
        index = counts.above(k - 1)
        before = int(counts.fp[index - 1]) if index else 0
        return Cut(index, (k - before) / (int(counts.fp[index]) - before + 1))

    def hits(self, counts: Counts) -> float:
        """The number of members before this place."""
        above = int(counts.tp[self.at - 1]) if self.at else 0
        return above + self.share * (int(counts.tp[self.at]) - above)

    def of(self, scores: Array, counts: Counts) -> Array:
        """(N,) for each of the scores (N,) 1 if it lies before this place and 0 if not; at the threshold the share."""
        threshold = counts.thresholds[self.at]
        return (scores > threshold) + self.share * (scores == threshold)


def tnr_bounds(scores: Any, member: Any, fnr: float, level: float = 0.95) -> tuple[float, float]:
    """An interval for the TNR at a true FNR: `tpr_bounds` of the negated scores, with members and non-members exchanged."""
    return counted_bounds(count(scores, member).turned(), fnr, level)


def tnr_point(scores: Any, member: Any, fnr: float, strict: bool = False, level: float = 0.95) -> Point:
    """The TNR at an FNR: `tpr_point` of the negated scores, with members and non-members exchanged."""
    return counted_point(count(scores, member).turned(), fnr, strict, level)


def allowed(rate: float, n: float, strict: bool = False) -> int:
    """The number of errors among n that a target rate allows: ⌊rate·n⌋; ``strict``: the largest whole number below rate·n.

    >>> allowed(0.001, 18_000), allowed(0.001, 18_000, strict=True), allowed(0.001, 675, strict=True)
    (18, 17, 0)

    Raises: `ValueError` for a rate outside [0, 1].
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"target rate {rate} must lie between 0 and 1, such as 0.001")
    exact = rate * n
    nearest = round(exact)
    if abs(exact - nearest) < 1e-9 * max(1.0, exact):  # rounding must not make 0.001 · 18,000 less than 18
        return nearest - 1 if strict else nearest
    return math.floor(exact)


def balanced_accuracy(scores: Any, member: Any, threshold: float | None = None) -> float:
    """½ (TPR + TNR) of the rule score ≥ threshold. Without a threshold the best one is taken, which is optimistic."""
    return balanced_point(scores, member, best_threshold(scores, member) if threshold is None else threshold).value


def balanced_point(scores: Any, member: Any, threshold: float, level: float = 0.95) -> Interval:
    """The balanced accuracy of score ≥ threshold, with an interval from those of TPR and TNR (Zou & Donner 2008, the MOVER)."""
    s, m = check_scores(scores, member)
    positive = s >= threshold
    parts = [(int((positive & m).sum()), int(m.sum())), (int((~positive & ~m).sum()), int((~m).sum()))]
    rates = [k / n for k, n in parts]
    bounds = [clopper_pearson(k, n, level) for k, n in parts]
    value = sum(rates) / 2
    below = math.sqrt(sum((p - low) ** 2 for p, (low, _) in zip(rates, bounds, strict=True))) / 2
    above = math.sqrt(sum((high - p) ** 2 for p, (_, high) in zip(rates, bounds, strict=True))) / 2
    return Interval(value, max(0.0, value - below), min(1.0, value + above))


def placements(s: Array, m: NDArray[np.bool_]) -> tuple[Array, Array]:
    """For each of m members the share of non-members below it, for each of n non-members the share of members above it.

    Scores (N,), membership (N,) → (m,), (n,); ties count half. The mean of either is the AUC.
    """
    pos, neg = s[m], s[~m]
    of_nonmembers = _share_below(neg, pos)
    return _share_below(pos, neg), np.subtract(1, of_nonmembers, out=of_nonmembers)


def _variance_of_mean(shares: Array) -> float:
    return float(shares.var(ddof=1)) / len(shares)


def _share_below(values: Array, others: Array) -> Array:
    ordered, shares = np.sort(others), np.empty(len(values))
    for start in range(0, len(values), 1 << 20):  # with millions of scores, every array in memory counts
        part = values[start : start + (1 << 20)]
        both = np.searchsorted(ordered, part, "left") + np.searchsorted(ordered, part, "right")
        shares[start : start + len(part)] = both / (2 * len(others))
    return shares
