"""From scores and membership to rates with intervals. Member = 1, a higher score says member, rates are fractions.

Operating points are counted in whole examples and never interpolated: at a false-positive rate α with n non-members at
most ⌊αn⌋ of them may lie above the threshold (``strict=True``: fewer than αn, the published rule).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hampkit.ranking import Counts, best_threshold, check_scores, count

__all__ = [
    "Counts",
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
class Interval:
    """An estimate with its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Point(Interval):
    """An operating point: the rate that was achieved (``hits`` of ``of``) at the price of ``errors`` wrong ones."""

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
    """AUC with DeLong's variance (DeLong et al. 1988), on the logit scale so that the interval stays inside [0, 1].

    Each group's variance gets two pseudo-observations, one at 0 and one at 1 (as Agresti & Coull do for a proportion):
    where a score has few values, one group may show no variance at all, and the plain formula would claim certainty.
    Where the two groups are wholly separated the variance is 0 and says nothing; then the bound is the exact one for
    min(members, non-members) successes without a failure.
    """
    s, m = check_scores(scores, member)
    of_members, of_nonmembers = placements(s, m)
    value = float(of_members.mean())
    if min(len(of_members), len(of_nonmembers)) < 2:
        return Interval(value, 0.0, 1.0)
    if value in (0.0, 1.0):
        n = min(len(of_members), len(of_nonmembers))
        low, high = clopper_pearson(n if value == 1.0 else 0, n, level)
        return Interval(value, low, high)
    variance = _variance_of_mean(of_members) + _variance_of_mean(of_nonmembers)
    return logit_interval(value, normal_quantile(level) * math.sqrt(variance))


def logit_interval(value: float, half: float) -> Interval:
    """value ± half, with half taken to the logit scale (by the delta method) so that the interval stays inside (0, 1)."""
    half, center = half / (value * (1 - value)), math.log(value / (1 - value))
    return Interval(value, 1 / (1 + math.exp(half - center)), 1 / (1 + math.exp(-half - center)))


def auc_difference(a: Any, b: Any, member: Any, level: float = 0.95) -> Interval:
    """AUC(a) − AUC(b) on the same examples, with DeLong's paired variance."""
    (a10, a01), (b10, b01) = placements(*check_scores(a, member)), placements(*check_scores(b, member))
    value = float(a10.mean() - b10.mean())
    variance = (a10 - b10).var(ddof=1) / len(a10) + (a01 - b01).var(ddof=1) / len(a01)
    half = normal_quantile(level) * math.sqrt(variance)
    return Interval(value, value - half, value + half)


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
    that number the members are counted, and their lowest and highest rate get exact bounds. Coverage is above the level.
    """
    return counted_bounds(count(scores, member), fpr, level)


def counted_bounds(counts: Counts, fpr: float, level: float = 0.95) -> tuple[float, float]:
    """`tpr_bounds` of scores that are counted already."""
    from scipy.stats import binom

    _, tp, _fp, members, nonmembers = counts
    tail = (1 - level) / 2
    fewest, most = (int(binom.ppf(q, nonmembers, fpr)) for q in (tail, 1 - tail))
    # thresholds run down from +∞: the first that reaches the fewest, the last before more than the most
    first, last = counts.above(fewest - 1), counts.above(most)
    low = int(tp[first]) if fewest > 0 else 0
    high = int(tp[last - 1]) if last else 0
    return clopper_pearson(low, members, level)[0], clopper_pearson(high, members, level)[1]


def tnr_bounds(scores: Any, member: Any, fnr: float, level: float = 0.95) -> tuple[float, float]:
    """The same for the TNR at a true FNR."""
    return counted_bounds(count(scores, member).turned(), fnr, level)


def tnr_point(scores: Any, member: Any, fnr: float, strict: bool = False, level: float = 0.95) -> Point:
    """TNR at FNR: the same with the roles of members and non-members, and the direction of the score, exchanged."""
    return counted_point(count(scores, member).turned(), fnr, strict, level)


def allowed(rate: float, n: int, strict: bool = False) -> int:
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


def clopper_pearson(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The exact binomial interval of a rate of which k of n were seen (Clopper & Pearson 1934).

    >>> tuple(round(v, 4) for v in clopper_pearson(0, 10))
    (0.0, 0.3085)
    """
    assert 0 <= k <= n != 0, (k, n)
    from scipy.stats import beta  # SciPy takes a second to import

    tail = (1 - level) / 2
    low = 0.0 if k == 0 else float(beta.ppf(tail, k, n - k + 1))
    high = 1.0 if k == n else float(beta.ppf(1 - tail, k + 1, n - k))
    return low, high


def placements(s: Array, m: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Per member the share of non-members below it, per non-member the share of members above it; ties count half."""
    pos, neg = s[m], s[~m]
    of_nonmembers = _share_below(neg, pos)
    return _share_below(pos, neg), np.subtract(1, of_nonmembers, out=of_nonmembers)


def _variance_of_mean(shares: Array) -> float:
    mean, n = shares.mean(), len(shares)
    return float((((shares - mean) ** 2).sum() + mean**2 + (1 - mean) ** 2) / (n + 1) / n)


def _share_below(values: Array, others: Array) -> Array:
    ordered, shares = np.sort(others), np.empty(len(values))
    for start in range(0, len(values), 1 << 20):  # of millions of scores, every array that is kept counts
        part = values[start : start + (1 << 20)]
        both = np.searchsorted(ordered, part, "left") + np.searchsorted(ordered, part, "right")
        shares[start : start + len(part)] = both / (2 * len(others))
    return shares


def normal_quantile(level: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf((1 + level) / 2)
