"""Intervals where rows come in groups, such as those of one person: groups are independent, rows of one group are not.

Each function takes groups (N,), of which none holds members and non-members; None, or groups of one row each, give what
`hampkit.stats.metrics` gives. Errors: `ValueError` for groups of another length or of members and non-members, and as there.
What the intervals cover: `benchmarks.intervals groups`, docs/intervals.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hampkit.stats import metrics
from hampkit.stats.metrics import Interval, Point
from hampkit.stats.roc import Counts, check_scores, count

Array = NDArray[np.float64]


def auc_interval(scores: Any, member: Any, groups: Any = None, level: float = 0.95) -> Interval:
    """AUC with Jeffreys' interval for the `metrics.effective_size` of groups.

    DeLong's variance is clustered by group (Obuchowski 1997), for m members and n non-members stand their `Moments.groups`, and
    Student's t enters as the factor (z/t)² of the size (Korn & Graubard 1998).
    """
    return mean_auc([(scores, member, groups)], level)


def mean_auc(parts: Sequence[Sequence[Any]], level: float = 0.95, correlation: float = 0.0) -> Interval:
    """The mean AUC of parts that share no group, (scores, member) or (scores, member, groups) each: see `metrics.mean_auc`."""
    checked = [(*check_scores(s, m), _codes_of_sides(g[0] if g else None, m)) for s, m, *g in parts]
    if all(g is None for _, _, g in checked):
        return metrics.mean_auc([(s, m) for s, m, _ in checked], level, correlation)
    placed = [metrics.placements(s, m) for s, m, _ in checked]
    value = float(np.mean([of_members.mean() for of_members, _ in placed]))
    codes = [np.arange(len(s)) if g is None else g for s, _, g in checked]
    sides = [(moments(a, g[m]), moments(b, g[~m])) for (a, b), (_, m, _), g in zip(placed, checked, codes, strict=True)]
    every = [side for both in sides for side in both]
    if min(side.groups for side in every) < 1 + 1e-9:
        return Interval(value, 0.0, 1.0)
    variance = (1 + correlation) * sum(side.variance for side in every) / len(parts) ** 2
    members, nonmembers = (sum(both[k].groups for both in sides) for k in (0, 1))
    size = metrics.effective_size(value, variance, members, nonmembers)
    unseen = [1 / (5 * side.groups**2) for side in every]
    size *= _shrunk([side.variance + u for side, u in zip(every, unseen, strict=True)], every, level)
    low, high = metrics.jeffreys(value, size, level)
    return Interval(value, float(low), float(high))


def auc_difference(a: Any, b: Any, member: Any, groups: Any = None, level: float = 0.95) -> Interval:
    """AUC(a) − AUC(b) on the same examples: `metrics.auc_difference` with the variance clustered by group, and Student's t."""
    g = _codes_of_sides(groups, member)
    if g is None:
        return metrics.auc_difference(a, b, member, level)
    (s, m), (other, _) = check_scores(a, member), check_scores(b, member)
    (a10, a01), (b10, b01) = metrics.placements(s, m), metrics.placements(other, m)
    value, both = float(a10.mean() - b10.mean()), [moments(a10 - b10, g[m]), moments(a01 - b01, g[~m])]
    smaller = min(side.groups for side in both)
    if smaller < 1 + 1e-9:
        return Interval(value, -1.0, 1.0)
    variances = [side.variance for side in both]
    z = metrics.normal_quantile(level) / math.sqrt(_shrunk(variances, both, level))
    half = math.hypot(z * math.sqrt(sum(variances)), 1 - float(metrics.jeffreys(1.0, smaller, level)[0]))
    return Interval(value, max(-1.0, value - half), min(1.0, value + half))


def tpr_point(
    scores: Any, member: Any, fpr: float, strict: bool = False, groups: Any = None, level: float = 0.95
) -> tuple[Point, tuple[float, float]]:
    """TPR at FPR, with the interval for the threshold as given, and that for a true FPR of ``fpr``: see `metrics.tpr_bounds`.

    Clopper and Pearson's for the `size_of_rate` of members; the threshold is as uncertain as with as many non-members as the
    `size_of_rate` of false positives. Equal scores count as in `metrics.tpr_bounds`.
    """
    g = _codes_of_sides(groups, member)
    if g is None:
        return metrics.tpr_point(scores, member, fpr, strict, level), metrics.tpr_bounds(scores, member, fpr, level)
    s, m = check_scores(scores, member)
    return _point(s, m, g, count(s, m), fpr, strict, level)


def tnr_point(
    scores: Any, member: Any, fnr: float, strict: bool = False, groups: Any = None, level: float = 0.95
) -> tuple[Point, tuple[float, float]]:
    """TNR at FNR: the same with the roles of members and non-members, and the direction of the score, exchanged."""
    g = _codes_of_sides(groups, member)
    if g is None:
        return metrics.tnr_point(scores, member, fnr, strict, level), metrics.tnr_bounds(scores, member, fnr, level)
    s, m = check_scores(scores, member)
    return _point(-s, ~m, g, count(s, m).turned(), fnr, strict, level)


def balanced_point(scores: Any, member: Any, threshold: float, groups: Any = None, level: float = 0.95) -> Interval:
    """Balanced accuracy: `metrics.balanced_point` with Clopper and Pearson's intervals for the `size_of_rate` of both rates."""
    g = _codes_of_sides(groups, member)
    if g is None:
        return metrics.balanced_point(scores, member, threshold, level)
    s, m = check_scores(scores, member)
    hits = (s >= threshold) == m
    return metrics.mean_rate([rate(hits[side], g[side], level) for side in (m, ~m)])


def rate(hits: Any, groups: Any = None, level: float = 0.95) -> Interval:
    """The share of hits (N,) with Clopper and Pearson's interval for its `size_of_rate`."""
    value, size = float(np.mean(hits)), size_of_rate(hits, groups, level)
    return Interval(value, *metrics.clopper_pearson(value * size, size, level))


def size_of_rate(hits: Any, groups: Any = None, level: float = 0.95) -> float:
    """The number of independent rows that would tell as much of the share of hits (N,) as these do.

    p (1 − p) / (v + u) · (z/t)², with v the variance clustered by group, between Kish's number K of groups and N; where all or
    none are hits, K. u = 1/(10 K²) stands for groups that were not seen: where few groups differ, v is small by chance, and
    without u some intervals covered 80 % (50 uneven groups, in each nearly all hits or none, p = 0.98). Where K is below three
    the number is 1: so few groups do not show how groups differ.
    """
    h = np.asarray(hits, dtype=np.float64)
    g = codes_of(groups, h.shape)
    if g is None:
        return float(len(h))
    found, p = moments(h, g), float(h.mean())
    if found.groups < 3:
        return 1.0
    if not 0 < p < 1 or found.variance <= 0:
        return found.groups
    size = p * (1 - p) / (found.variance + 1 / (10 * found.groups**2)) * _shrunk([found.variance], [found], level)
    return float(np.clip(size, min(found.groups, len(h)), len(h)))


class Moments(NamedTuple):
    """Of numbers (N,) in groups."""

    variance: float  # of their mean, clustered by group
    groups: float  # Kish's number, see `kish`


def moments(values: Array, groups: NDArray[np.int64]) -> Moments:
    """v = G/(G − 1) Σ_g (Σ_{i in g} (x_i − mean))² / N², of G groups; of one group 0."""
    number = int((np.bincount(groups) > 0).sum())
    sums = np.bincount(groups, values - values.mean())
    variance = number / max(number - 1, 1) * float(np.square(sums).sum()) / len(values) ** 2
    return Moments(variance, kish(groups))


def kish(groups: NDArray[np.int64]) -> float:
    """Kish's number of groups numbered from 0 (N,): N² / Σ size², their number where all are of one size."""
    return len(groups) ** 2 / float(np.square(np.bincount(groups), dtype=np.float64).sum())


def number(groups: Any, n: int) -> float:
    """The effective number of groups among n rows: Kish's number for groups (n,), or n if there are no groups."""
    codes = codes_of(groups, (n,))
    return float(n) if codes is None else kish(codes)


def codes_of(groups: Any, shape: tuple[int, ...], each: str = "row") -> NDArray[np.int64] | None:
    """Groups numbered from 0, None where there are none or each has one row. Errors: `ValueError` for another shape."""
    if groups is None:
        return None
    kinds, codes = np.unique(np.asarray(groups), return_inverse=True)
    if codes.shape != shape:
        raise ValueError(f"groups {codes.shape} must be {shape}, one for each {each}")
    return None if len(kinds) == len(codes) else codes.astype(np.int64)


def _shrunk(variances: Sequence[float], sides: Sequence[Moments], level: float) -> float:
    """(z/t)², with Student's degrees of freedom of a sum of variances (Satterthwaite 1946), each with those of its groups."""
    from scipy.stats import t

    squares = sum(v**2 / max(side.groups - 1, 1.0) for v, side in zip(variances, sides, strict=True))
    degrees = sum(variances) ** 2 / squares if squares > 0 else min(side.groups for side in sides) - 1
    return (metrics.normal_quantile(level) / float(t.ppf((1 + level) / 2, max(degrees, 1.0)))) ** 2


def _point(
    s: Array, m: NDArray[np.bool_], g: NDArray[np.int64], counts: Counts, fpr: float, strict: bool, level: float
) -> tuple[Point, tuple[float, float]]:
    point = metrics.counted_point(counts, fpr, strict, level)
    above = s >= point.threshold
    of_members = size_of_rate(above[m], g[m], level)
    low, high = metrics.clopper_pearson(point.value * of_members, of_members, level)
    ends = metrics.cuts(counts, fpr, size_of_rate(above[~m], g[~m], level), level)
    fewest, most = (rate(cut.of(s[m], counts), g[m], level) for cut in ends)
    assert fewest.low <= most.high, (fewest, most)
    return replace(point, low=low, high=high), (fewest.low, most.high)


def _codes_of_sides(groups: Any, member: Any) -> NDArray[np.int64] | None:
    """`codes_of`, each group on one side. Errors: `ValueError` for one that holds members and non-members."""
    m = np.asarray(member, dtype=bool)
    codes = codes_of(groups, m.shape)
    if codes is not None and (mixed := np.intersect1d(codes[m], codes[~m])).size:
        raise ValueError(f"{mixed.size} groups hold members and non-members: keep each on one side of the split")
    return codes
