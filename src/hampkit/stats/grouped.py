"""AUCs and rates of one model if rows come in groups, such as the rows of one person: only groups are independent.

Each function takes groups (N,): rows with equal values are one group, and no group holds members and non-members. With None,
or with one row in each group, the result is that of `hampkit.stats.metrics`.
Coverage: `benchmarks.intervals groups`, docs/intervals.md.

Raises: `ValueError` for groups of another length, for a group that holds members and non-members, and as in `metrics`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hampkit.stats import metrics
from hampkit.stats.intervals import (
    Interval,
    clopper_pearson,
    codes_of_sides,
    degrees_of_freedom,
    effective_size,
    jeffreys,
    kish,
    mean_rate,
    moments,
    normal_quantile,
    number,
    rate,
    size_of_rate,
    student_factor,
)
from hampkit.stats.metrics import Point
from hampkit.stats.roc import Counts, check_scores, count

__all__ = [
    "auc_difference",
    "auc_interval",
    "balanced_point",
    "kish",
    "mean_auc",
    "moments",
    "number",
    "rate",
    "size_of_rate",
    "tnr_point",
    "tpr_point",
]

Array = NDArray[np.float64]


def auc_interval(scores: Any, member: Any, groups: Any = None, level: float = 0.95) -> Interval:
    """The AUC of scores (N,) with Jeffreys' interval for the `effective_size` of groups.

    DeLong's variance is clustered by group (Obuchowski 1997). The effective size takes Kish's numbers of groups for the numbers
    of members and non-members, and Student's t enters as the factor (z/t)² of that size (Korn & Graubard 1998).
    """
    return mean_auc([(scores, member, groups)], level)


def mean_auc(parts: Sequence[Sequence[Any]], level: float = 0.95, correlation: float = 0.0) -> Interval:
    """The mean AUC of parts that share no group, see `metrics.mean_auc`.

    parts: (scores, member) or (scores, member, groups) of each part, all (Nₖ,).
    """
    checked = [(*check_scores(s, m), codes_of_sides(g[0] if g else None, m)) for s, m, *g in parts]
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
    n_members, n_nonmembers = (sum(both[k].groups for both in sides) for k in (0, 1))
    size = effective_size(value, variance, n_members, n_nonmembers)
    unseen = [1 / (5 * side.groups**2) for side in every]
    total = [side.variance + u for side, u in zip(every, unseen, strict=True)]
    size *= student_factor(degrees_of_freedom(total, every), level)
    low, high = jeffreys(value, size, level)
    return Interval(value, float(low), float(high))


def auc_difference(a: Any, b: Any, member: Any, groups: Any = None, level: float = 0.95) -> Interval:
    """AUC(a) − AUC(b) of scores (N,) of the same examples, as `metrics.auc_difference`, with a variance clustered by group."""
    g = codes_of_sides(groups, member)
    if g is None:
        return metrics.auc_difference(a, b, member, level)
    (s, m), (other, _) = check_scores(a, member), check_scores(b, member)
    (a10, a01), (b10, b01) = metrics.placements(s, m), metrics.placements(other, m)
    value, both = float(a10.mean() - b10.mean()), [moments(a10 - b10, g[m]), moments(a01 - b01, g[~m])]
    smaller = min(side.groups for side in both)
    if smaller < 1 + 1e-9:
        return Interval(value, -1.0, 1.0)
    variances = [side.variance for side in both]
    z = normal_quantile(level) / math.sqrt(student_factor(degrees_of_freedom(variances, both), level))
    half = math.hypot(z * math.sqrt(sum(variances)), 1 - float(jeffreys(1.0, smaller, level)[0]))
    return Interval(value, max(-1.0, value - half), min(1.0, value + half))


def tpr_point(
    scores: Any, member: Any, fpr: float, strict: bool = False, groups: Any = None, level: float = 0.95
) -> tuple[Point, tuple[float, float]]:
    """The TPR at an FPR of scores (N,), and its `metrics.tpr_bounds`.

    The interval of the point takes the threshold as given: Clopper and Pearson's for the `size_of_rate` of the members. The
    bounds are those for a true FPR of ``fpr``, with the `size_of_rate` of false positives in place of the number of non-members.
    """
    g = codes_of_sides(groups, member)
    if g is None:
        return metrics.tpr_point(scores, member, fpr, strict, level), metrics.tpr_bounds(scores, member, fpr, level)
    s, m = check_scores(scores, member)
    return _point(_Grouped(s, m, g, count(s, m)), fpr, strict, level)


def tnr_point(
    scores: Any, member: Any, fnr: float, strict: bool = False, groups: Any = None, level: float = 0.95
) -> tuple[Point, tuple[float, float]]:
    """The TNR at an FNR: `tpr_point` of the negated scores, with members and non-members exchanged."""
    g = codes_of_sides(groups, member)
    if g is None:
        return metrics.tnr_point(scores, member, fnr, strict, level), metrics.tnr_bounds(scores, member, fnr, level)
    s, m = check_scores(scores, member)
    return _point(_Grouped(-s, ~m, g, count(s, m).turned()), fnr, strict, level)


def balanced_point(scores: Any, member: Any, threshold: float, groups: Any = None, level: float = 0.95) -> Interval:
    """The balanced accuracy of score ≥ threshold, as `metrics.balanced_point`, with the `size_of_rate` of both rates."""
    g = codes_of_sides(groups, member)
    if g is None:
        return metrics.balanced_point(scores, member, threshold, level)
    s, m = check_scores(scores, member)
    hits = (s >= threshold) == m
    return mean_rate([rate(hits[side], g[side], level) for side in (m, ~m)])


class _Grouped(NamedTuple):
    """Scores of rows in groups."""

    scores: Array  # (N,)
    member: NDArray[np.bool_]  # (N,)
    groups: NDArray[np.int64]  # (N,)
    counts: Counts


def _point(of: _Grouped, fpr: float, strict: bool, level: float) -> tuple[Point, tuple[float, float]]:
    s, m, g, counts = of
    point = metrics.counted_point(counts, fpr, strict, level)
    above = s >= point.threshold
    of_members = size_of_rate(above[m], g[m], level)
    low, high = clopper_pearson(point.value * of_members, of_members, level)
    ends = metrics.cuts(counts, fpr, size_of_rate(above[~m], g[~m], level), level)
    fewest, most = (rate(cut.of(s[m], counts), g[m], level) for cut in ends)
    assert fewest.low <= most.high, (fewest, most)
    return replace(point, low=low, high=high), (fewest.low, most.high)
