"""From scores and membership to rates with intervals. Member = 1, a higher score predicts membership, rates are fractions.

Operating points are counted in whole examples and never interpolated: at a false-positive rate α with n non-members at
most ⌊αn⌋ of them may lie above the threshold (``strict=True``: fewer than αn, the published rule).

Errors: `ValueError` for scores that are NaN, lengths that differ, a missing group, or a level outside (0, 1).
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
    """A receiver operating curve from (0, 0) to (1, 1), a point per distinct score."""

    fpr: Array
    tpr: Array


@dataclass(frozen=True)
class Point(Interval):
    """An operating point: the rate (``hits`` of ``of``) at ``errors`` false positives, of a TNR false negatives."""

    hits: int
    of: int
    errors: int
    threshold: float  # predict by score ≥ threshold


def roc(scores: Any, member: Any) -> Roc:
    """The ROC; tied scores move together.

    >>> roc([0.9, 0.1], [True, False]).tpr.tolist()
    [0.0, 1.0, 1.0]
    """
    _, tp, fp, members, nonmembers = count(scores, member)
    return Roc(np.r_[0, fp] / nonmembers, np.r_[0, tp] / members)


def auc(scores: Any, member: Any) -> float:
    """Area under the ROC: the chance that a member scores above a non-member, ties counting half.

    >>> auc([0.9, 0.5, 0.1], [True, False, False])
    1.0
    """
    return float(placements(*check_scores(scores, member))[0].mean())


def auc_interval(scores: Any, member: Any, level: float = 0.95) -> Interval:
    """AUC with Jeffreys' interval of a rate, for the `effective_size` that DeLong's variance leads to.

    It holds the value and lies inside [0, 1]. With a single member or non-member it is all of [0, 1]: one example does not
    show how much others would differ. What it covers: `benchmarks.intervals`, docs/intervals.md.
    """
    return mean_auc([(scores, member)], level)


def mean_auc(parts: Sequence[tuple[Any, Any]], level: float = 0.95, correlation: float = 0.0) -> Interval:
    """The mean AUC of parts that share no example, (scores, member) each, with the interval of `auc_interval`.

    The scores of two parts need not be of one scale. Of K parts the variance is (1 + ρ) Σ v_k / K², with v_k DeLong's and ρ the
    correlation of two parts; the size is that of all members and non-members.
    """
    if not parts:
        raise ValueError("the mean AUC of no parts: give at least one pair (scores, member)")
    placed = [placements(*check_scores(scores, member)) for scores, member in parts]
    value = float(np.mean([of_members.mean() for of_members, _ in placed]))
    if min(len(group) for both in placed for group in both) < 2:
        return Interval(value, 0.0, 1.0)
    variance = sum(_variance_of_mean(group) for both in placed for group in both) / len(placed) ** 2
    variance *= 1 + correlation
    members, nonmembers = (sum(len(both[k]) for both in placed) for k in (0, 1))
    low, high = jeffreys(value, effective_size(value, variance, members, nonmembers), level)
    return Interval(value, float(low), float(high))


def auc_difference(a: Any, b: Any, member: Any, level: float = 0.95) -> Interval:
    """AUC(a) − AUC(b) on the same examples, within [−1, 1], by DeLong's paired variance v and what no sample can rule out.

    Half the width is √(z² v + r²), with r the distance from 1 to the lower bound of an attack that separates min(members,
    non-members) of each: where two scores order all examples alike v is 0, and yet others may be ordered differently.
    """
    (a10, a01), (b10, b01) = placements(*check_scores(a, member)), placements(*check_scores(b, member))
    value, smaller = float(a10.mean() - b10.mean()), min(len(a10), len(a01))
    if smaller < 2:
        return Interval(value, -1.0, 1.0)
    variance = _variance_of_mean(a10 - b10) + _variance_of_mean(a01 - b01)
    half = math.hypot(normal_quantile(level) * math.sqrt(variance), 1 - float(jeffreys(1.0, smaller, level)[0]))
    return Interval(value, max(-1.0, value - half), min(1.0, value + half))


def tpr_at_fpr(scores: Any, member: Any, fpr: float, strict: bool = False) -> float:
    """The highest true-positive rate whose false-positive rate does not exceed ``fpr`` (``strict``: stays below it)."""
    return tpr_point(scores, member, fpr, strict).value


def tnr_at_fnr(scores: Any, member: Any, fnr: float, strict: bool = False) -> float:
    """The highest true-negative rate whose false-negative rate does not exceed ``fnr`` (``strict``: stays below it)."""
    return tnr_point(scores, member, fnr, strict).value


def tpr_point(scores: Any, member: Any, fpr: float, strict: bool = False, level: float = 0.95) -> Point:
    """TPR at FPR with its counts and the exact binomial interval of the rate, the threshold taken as given."""
    return counted_point(count(scores, member), fpr, strict, level)


def counted_point(counts: Counts, fpr: float, strict: bool = False, level: float = 0.95) -> Point:
    """`tpr_point` of scores that are counted already: several rates need one sort."""
    thresholds, tp, fp, members, nonmembers = counts
    k = counts.above(allowed(fpr, nonmembers, strict))
    hits, errors = (int(tp[k - 1]), int(fp[k - 1])) if k else (0, 0)
    low, high = clopper_pearson(hits, members, level)
    return Point(hits / members, low, high, hits, members, errors, float(thresholds[k - 1]) if k else math.inf)


def tpr_bounds(scores: Any, member: Any, fpr: float, level: float = 0.95) -> tuple[float, float]:
    """An interval for the TPR at a true FPR of exactly ``fpr``: the threshold's own uncertainty is in it.

    `tpr_point` takes its threshold from the same non-members; its exact interval holds for that threshold, whose true FPR is
    another one. Of n non-members, a binomial number (n, fpr) lies above the threshold that is meant; between the quantiles of
    that number the members are counted, and their lowest and highest rate get exact bounds. Equal scores count as if they were
    ordered at random, see `Cut`: no threshold splits them. Coverage is above the level.
    """
    return counted_bounds(count(scores, member), fpr, level)


def counted_bounds(counts: Counts, fpr: float, level: float = 0.95) -> tuple[float, float]:
    """`tpr_bounds` of scores that are counted already."""
    fewest, most = (cut.hits(counts) for cut in cuts(counts, fpr, counts.nonmembers, level))
    low, high = clopper_pearson(fewest, counts.members, level)[0], clopper_pearson(most, counts.members, level)[1]
    assert low <= high, (low, high)
    return low, high


def cuts(counts: Counts, fpr: float, size: float, level: float = 0.95) -> tuple[Cut, Cut]:
    """The strictest and the most lenient threshold that may have this true FPR.

    size: the effective number of non-members, at most their number n. A binomial number (size, fpr) of them lies above the
    threshold; its two quantiles, times n/size, are the numbers of non-members above the two thresholds.
    """
    from scipy.stats import binom

    tail, scale = (1 - level) / 2, counts.nonmembers / size
    fewest, most = (scale * float(binom.ppf(q, max(int(size), 1), fpr)) for q in (tail, 1 - tail))
    return Cut.before(counts, math.ceil(fewest)), Cut.before(counts, math.floor(most) + 1)


class Cut(NamedTuple):
    """A place in the order of the scores, from high to low, that may lie within a group of equal ones."""

    at: int  # number of a threshold: all scores above it count
    share: float  # of the members at the threshold that count

    @staticmethod
    def before(counts: Counts, k: int) -> Cut:
        """The place of the k-th non-member: the top for k = 0, the end if there are fewer than k.

        Among b non-members of one score in random order, the j-th has j/(b + 1) of the members with that score before it, on
        average.
        """
        if k <= 0 or k > counts.nonmembers:
            return Cut(0, 0.0) if k <= 0 else Cut(len(counts.fp) - 1, 1.0)
        index = counts.above(k - 1)
        before = int(counts.fp[index - 1]) if index else 0
        return Cut(index, (k - before) / (int(counts.fp[index]) - before + 1))

    def hits(self, counts: Counts) -> float:
        """How many members lie before this place."""
        above = int(counts.tp[self.at - 1]) if self.at else 0
        return above + self.share * (int(counts.tp[self.at]) - above)

    def of(self, scores: Array, counts: Counts) -> Array:
        """(N,) for each score whether it lies before this place: 1, 0, or at the threshold the share."""
        threshold = counts.thresholds[self.at]
        return (scores > threshold) + self.share * (scores == threshold)


def tnr_bounds(scores: Any, member: Any, fnr: float, level: float = 0.95) -> tuple[float, float]:
    """The same for the TNR at a true FNR."""
    return counted_bounds(count(scores, member).turned(), fnr, level)


def tnr_point(scores: Any, member: Any, fnr: float, strict: bool = False, level: float = 0.95) -> Point:
    """TNR at FNR: the same with the roles of members and non-members, and the direction of the score, exchanged."""
    return counted_point(count(scores, member).turned(), fnr, strict, level)


def allowed(rate: float, n: float, strict: bool = False) -> int:
    """How many of n may be wrong at this rate: ⌊rate·n⌋, or the largest whole number below rate·n.

    >>> allowed(0.001, 18_000), allowed(0.001, 18_000, strict=True), allowed(0.001, 675, strict=True)
    (18, 17, 0)
    """
    exact = rate * n
    nearest = round(exact)
    if abs(exact - nearest) < 1e-9 * max(1.0, exact):  # 0.001 · 18,000 is 18, whatever the floats say
        return nearest - 1 if strict else nearest
    return math.floor(exact)


def balanced_accuracy(scores: Any, member: Any, threshold: float | None = None) -> float:
    """½ (TPR + TNR) of the rule score ≥ threshold; without a threshold that of the best one, which flatters the attack."""
    return balanced_point(scores, member, best_threshold(scores, member) if threshold is None else threshold).value


def balanced_point(scores: Any, member: Any, threshold: float, level: float = 0.95) -> Interval:
    """Balanced accuracy with an interval from the exact intervals of TPR and TNR (Zou & Donner 2008, the MOVER)."""
    s, m = check_scores(scores, member)
    said = s >= threshold
    parts = [(int((said & m).sum()), int(m.sum())), (int((~said & ~m).sum()), int((~m).sum()))]
    rates = [k / n for k, n in parts]
    bounds = [clopper_pearson(k, n, level) for k, n in parts]
    value = sum(rates) / 2
    below = math.sqrt(sum((p - low) ** 2 for p, (low, _) in zip(rates, bounds, strict=True))) / 2
    above = math.sqrt(sum((high - p) ** 2 for p, (_, high) in zip(rates, bounds, strict=True))) / 2
    return Interval(value, max(0.0, value - below), min(1.0, value + above))


def placements(s: Array, m: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Per member the share of non-members below it, per non-member the share of members above it; ties count half."""
    pos, neg = s[m], s[~m]
    of_nonmembers = _share_below(neg, pos)
    return _share_below(pos, neg), np.subtract(1, of_nonmembers, out=of_nonmembers)


def _variance_of_mean(shares: Array) -> float:
    return float(shares.var(ddof=1)) / len(shares)


def _share_below(values: Array, others: Array) -> Array:
    ordered, shares = np.sort(others), np.empty(len(values))
    for start in range(0, len(values), 1 << 20):  # of millions of scores, every array that is kept counts
        part = values[start : start + (1 << 20)]
        both = np.searchsorted(ordered, part, "left") + np.searchsorted(ordered, part, "right")
        shares[start : start + len(part)] = both / (2 * len(others))
    return shares
