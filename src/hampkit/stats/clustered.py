"""AUCs and rates over many target models, with intervals that are clustered by model and by example.

Scores and membership are (M, N): each of M models is the target once, on N examples. A pair is one model and one example.
Variances are clustered two ways (Cameron, Gelbach & Miller 2011): the scores of one model rise and fall together, and in
leave-one-out all scores of one example rest on the same answers. With shuffled membership, clustering by model alone gave
intervals that covered 0.5 in only 78 to 83 % of simulated audits.

``judged`` (M, N), bool: the pairs that count; default: all.
``units`` (N,) or (M, N): pairs with one number are of one example, or of examples that are not independent, such as the rows of
one person. Default: column n is the same example for every model. With units, variances are clustered by unit instead of by
example, and N is replaced by Kish's effective number of units, (Σ size)² / Σ size², where size is the number of pairs of a unit.

Raises: `ValueError` for NaN, for shapes that do not fit, if members or non-members are missing, and for rates of fewer than two
models.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hampkit.stats import grouped, metrics
from hampkit.stats.intervals import Interval, clopper_pearson, jeffreys, student_factor
from hampkit.stats.metrics import Point
from hampkit.stats.roc import Counts, check_scores, count
from hampkit.stats.units import Units, Variances, variances

FEW = 4  # models

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]


def auc_interval(scores: Any, member: Any, units: Any = None, level: float = 0.95, judged: Any = None) -> Interval:
    """The pooled AUC with Jeffreys' interval for the size that follows from the clustered variance (Obuchowski 1997).

    Let A be the AUC and V the share of non-members below a member's score, or of members above a non-member's. A pair
    contributes (V − A)/n₁ if the example is IN and (V − A)/n₀ if it is OUT, with n₁ IN pairs and n₀ OUT pairs. For one model
    this is `grouped.auc_interval`.
    """
    sides = _Sides.of(scores, member, judged, units, least=1)
    return sides.alone(level) if len(sides) == 1 else _mean_auc([sides], sides.clusters(), level)


def mean_auc(
    parts: Sequence[tuple[Any, Any]], units: Any = None, level: float = 0.95, correlation: float = 0.0
) -> Interval:
    """The mean of the pooled AUCs of K groups of models, with a clustered interval.

    parts: (scores, member) of each group, both (Mₖ, N). The groups share the N examples, not the scale of their scores.
    The contributions of `auc_interval`, divided by K, are clustered by model and by example over all groups.
    correlation: of the errors of two groups, beyond what they share as pairs of the same examples; see `metrics.mean_auc`.
    """
    sides = [_Sides.of(scores, member, least=1) for scores, member in parts]
    n_models, n_examples = sum(map(len, sides)), sides[0].scores.shape[1]
    return _mean_auc(sides, Units.of(units, (n_models, n_examples)), level, correlation)


def _mean_auc(parts: Sequence[_Sides], units: Units, level: float, correlation: float = 0.0) -> Interval:
    placed = [metrics.placements(*part.flat()) for part in parts]
    aucs = [float(of_members.mean()) for of_members, _ in placed]
    share = math.sqrt(1 + correlation) / len(parts)
    rows = (
        row * share for part, both, auc in zip(parts, placed, aucs, strict=True) for row in _centered(*both, auc, part)
    )
    return _interval(float(np.mean(aucs)), variances(rows, sum(map(len, parts)), units), level)


def auc_within(scores: Any, member: Any, units: Any = None, level: float = 0.95, judged: Any = None) -> Interval:
    """The mean of the AUCs of single models, with its clustered variance and the interval of the pooled AUC.

    Let A be the mean, and V and Aₘ the share and the AUC within the pair's own model. A pair contributes (V − Aₘ)/(M n₁) if the
    example is IN and (V − Aₘ)/(M n₀) if it is OUT; a model contributes (Aₘ − A)/M. The spread of the Aₘ alone would be too
    small a variance: all models rest on the same examples. Models without members or without non-members are left out.
    """
    sides = _Sides.of(scores, member, judged, units, least=1).of_models_with_both()
    n_models = len(sides)
    if n_models == 1:
        return sides.alone(level)
    placed = [metrics.placements(*sides.of_model(m).flat()) for m in range(n_models)]
    aucs = [float(of_members.mean()) for of_members, _ in placed]
    value = float(np.mean(aucs))

    def row(m: int) -> Array:
        inside, outside = sides.inside[m], sides.outside[m]
        moved, either = np.zeros(len(inside)), inside | outside
        for rows, shares in zip((inside, outside), placed[m], strict=True):
            moved[rows] = (shares - aucs[m]) / len(shares)
        return (moved + either * ((aucs[m] - value) / either.sum())) / n_models

    return _interval(value, variances(map(row, range(n_models)), n_models, sides.clusters()), level)


def _interval(value: float, found: Variances, level: float) -> Interval:
    """Jeffreys' interval of an AUC over M models and N units.

    The size is max(1/(1/M + 1/N), q / (v + u)), with q = A (1 − A), v the clustered variance and u = min(q/N, 2/(5N²)).
    The first bound holds because neither models nor examples can vary more; u stands for unseen examples, as in
    `intervals.effective_size`. If all pairs are in order, the size is N. Student's t enters as the factor (z/t)² of the size
    (Korn & Graubard 1998). Its degrees of freedom are those of v + u (Satterthwaite 1946), and v has those of the models that
    dominate it: three times Kish's number, which is about M for normal contributions. Two or three models have those of v alone:
    v is then often small by chance, and two models at the level for the best of eight attacks found a leak in 11 % of 400 nulls.
    """
    examples, models, q = found.units.effective, found.n_models, value * (1 - value)
    variance, unseen = found.by_model + found.by_unit, min(q / examples, 2 / (5 * examples**2))
    size, independent = examples, float(models)
    if q > 0:
        size = q / (variance + unseen) if variance > 1e-12 * q / examples else 0.0  # all scores are equal
        own = max(min(models, 3 * found.effective_models) - 1, 1.0)
        independent = 1 + (variance + unseen) ** 2 / (variance**2 / own + unseen**2 / (models - 1.0))
        if models < FEW:
            independent = 1 + own
    size = max(size, 1 / (1 / models + 1 / examples))
    low, high = jeffreys(value, size * student_factor(independent - 1, level), level)
    return Interval(value, float(low), float(high))


def tpr_points(
    scores: Any, member: Any, fprs: Sequence[float], strict: bool = False, units: Any = None, level: float = 0.95
) -> list[Point]:
    """The pooled TPR at each FPR; the interval includes the uncertainty of the threshold, which is that of the pooled ROC.

    The variance is that between models plus that which examples add. Between models it is the larger of the jackknife's, which
    leaves out two models at a time, and the delta method's. For examples the error of the TPR is the sum of (hit − TPR)/n₁ over
    IN pairs minus r (false positive − FPR)/n₀ over OUT pairs, with r the slope of the ROC. With units, `Units.unseen` is added.

    The interval is Clopper and Pearson's for the number of independent members that has this variance, at most all members
    (Korn & Graubard 1998). Student's t enters with twice Kish's number of pairs of models, because two or three models may hold
    all errors at a low rate, or with the number of units if that is smaller. A TPR of 0 or 1 takes its size from the nearest
    rate at which some members are found and others are not, or, without such a rate, from M or the number of units. If the
    threshold falls into equal scores, the upper end is that of the rate with these scores in random order.

    Coverage: `benchmarks.clustered` and `benchmarks.intervals units`.
    """
    return points(Pooled.of(scores, member, units, strict, level), fprs)


def tnr_points(
    scores: Any, member: Any, fnrs: Sequence[float], strict: bool = False, units: Any = None, level: float = 0.95
) -> list[Point]:
    """The pooled TNR at each FNR: `tpr_points` of the negated scores, with members and non-members exchanged."""
    return points(Pooled.of(scores, member, units, strict, level).exchanged(), fnrs)


def tpr_point(
    scores: Any, member: Any, fpr: float, strict: bool = False, units: Any = None, level: float = 0.95
) -> Point:
    """`tpr_points` for one rate."""
    return tpr_points(scores, member, [fpr], strict, units, level)[0]


def tnr_point(
    scores: Any, member: Any, fnr: float, strict: bool = False, units: Any = None, level: float = 0.95
) -> Point:
    """`tnr_points` for one rate."""
    return tnr_points(scores, member, [fnr], strict, units, level)[0]


@dataclass(frozen=True)
class Pooled:
    """The judged pairs of M target models and N examples in one ROC. Made by `Pooled.of`."""

    sides: _Sides
    counts: Counts  # of all pairs, exchanged if `turned`
    units: Units
    strict: bool  # the error rate stays below the target rate
    level: float  # of the intervals
    turned: bool = False  # members and non-members are exchanged, and scores are negated: TNR at FNR

    @classmethod
    def of(
        cls, scores: Any, member: Any, units: Any = None, strict: bool = False, level: float = 0.95, judged: Any = None
    ) -> Pooled:
        """The ROC of scores and membership (M, N); units, judged: see the module."""
        sides = _Sides.of(scores, member, judged, units)
        return cls(sides, count(*sides.flat()), sides.clusters(), strict, level)

    def exchanged(self) -> Pooled:
        """The ROC for TNR at FNR. It takes over the arrays of `counts`: this object cannot be used any more."""
        return replace(self, counts=self.counts.turned(), turned=not self.turned)

    def rows(self) -> Iterator[tuple[Array, Bools, Bools]]:
        """(N,) for each model the scores, and which pairs are members' and non-members', as the counts have them."""
        rows = zip(self.sides.scores, self.sides.inside, self.sides.outside, strict=True)
        return ((-s, outside, inside) for s, inside, outside in rows) if self.turned else rows

    def point(self, rate: float) -> Point:
        """The TPR at a rate, with the interval that takes all pairs as independent."""
        return metrics.counted_point(self.counts, rate, self.strict, self.level)


def points(pooled: Pooled, rates: Sequence[float]) -> list[Point]:
    """`tpr_points` of a pooled ROC, or `tnr_points` if it is exchanged."""
    nearest = [_informative(pooled, rate) for rate in rates]
    wanted = [rate for rate in dict.fromkeys(nearest) if rate is not None]
    left = _without_each(pooled, wanted)
    sizes: dict[float | None, float] = {None: min(len(pooled.sides), pooled.units.effective)}
    for k, rate in enumerate(wanted):
        sizes[rate] = _effective_members(pooled, rate, left[:, k])
    found = []
    for rate, size in zip(rates, (sizes[rate] for rate in nearest), strict=True):
        point = pooled.point(rate)
        # at the target rate exactly, equal scores count as if ordered at random: the rate lies between these two
        fewest, most = point.value, max(point.value, _smooth(pooled, rate))
        low, high = (clopper_pearson(value * size, size, pooled.level)[end] for end, value in enumerate((fewest, most)))
        found.append(replace(point, low=low, high=high))
    return found


def _informative(pooled: Pooled, rate: float) -> float | None:
    """This rate if some members are found there and others are not, else the nearest such rate, else None."""
    value, counts = _smooth(pooled, rate), pooled.counts
    if 0 < value < 1:
        return rate
    end = 1.0 if value == 0 else 1 / counts.n_nonmembers
    rate = rate or end / counts.n_nonmembers / 2  # 0 cannot be doubled
    steps = math.ceil(abs(math.log2(end / rate)))
    # each about twice or half the one before
    others = (rate * (end / rate) ** (k / steps) for k in range(1, steps + 1))
    return next((r for r in others if 0 < _smooth(pooled, r) < 1), None)


def _smooth(pooled: Pooled, rate: float) -> float:
    """The TPR at a rate, interpolated within tied scores: the TPR itself jumps there."""
    counts = pooled.counts
    most = metrics.allowed(rate, counts.n_nonmembers, pooled.strict)
    return _hits(lambda k: (int(counts.tp[k]), int(counts.fp[k])), len(counts.fp), most) / counts.n_members


def _hits(at: Callable[[int], tuple[int, int]], size: int, most: int) -> float:
    """Hits at ``most`` errors, interpolated; at(k): hits and errors at the k-th of ``size`` falling thresholds."""
    first = bisect_right(range(size), most, key=lambda k: at(k)[1])  # the first with more errors
    hits, errors = at(first - 1) if first else (0, 0)
    if first == size:
        return hits
    more, worse = at(first)
    return hits + (more - hits) * (most - errors) / (worse - errors)


def _without_each(pooled: Pooled, rates: Sequence[float]) -> Array:
    """(G, R) the pooled TPR at each of R rates without each of G groups of models, see `_groups`."""
    counts, found = pooled.counts, []
    for group in _groups(pooled.sides.inside, pooled.sides.outside):
        mine, others = _sides(pooled, group)
        n_members, n_nonmembers = counts.n_members - len(mine), counts.n_nonmembers - len(others)

        def left(k: int, mine: Array = mine, others: Array = others) -> tuple[int, int]:
            at = counts.thresholds[k]
            return int(counts.tp[k]) - _above(mine, at), int(counts.fp[k]) - _above(others, at)

        most = (metrics.allowed(rate, n_nonmembers, pooled.strict) for rate in rates)
        found.append([_hits(left, len(counts.fp), n) / max(n_members, 1) for n in most])  # no members may be left
    return np.array(found).reshape(len(found), len(rates))


def _sides(pooled: Pooled, group: slice) -> tuple[Array, Array]:
    """The sorted scores of the members and of the non-members of some models, as the counts have them."""
    sides = pooled.sides
    mine, others = (sides.scores[group][side[group]] for side in (sides.inside, sides.outside))
    if pooled.turned:
        mine, others = -others, -mine
    mine.sort()
    others.sort()
    return mine, others


def _groups(inside: Bools, outside: Bools) -> list[slice]:
    """The models that are left out together: twins, also if some lack theirs, else neighbours; of fewer than four each alone."""
    n_models = len(inside)
    if n_models < 4:
        return [slice(k, k + 1) for k in range(n_models)]
    twins = [*(inside[:-1] == outside[1:]).all(1).tolist(), False, False]
    found, start = [], 0
    while start < n_models:
        size = 1 if twins[start + 1] and not twins[start] else 2
        found.append(slice(start, min(start + size, n_models)))
        start += size
    return found


def _above(ordered: Array, threshold: float) -> int:
    return len(ordered) - int(np.searchsorted(ordered, threshold, "left"))


def _effective_members(pooled: Pooled, rate: float, left: Array) -> float:
    """The number of independent members that would give the TPR at a rate the same variance; left: (G,), see `_without_each`."""
    found = variances(_contributions(pooled, rate), len(pooled.sides), pooled.units)
    groups, squares = len(left), (left - left.mean()) ** 2
    variance = max(found.by_model, (groups - 1) / groups * squares.sum()) + found.by_unit
    if squares.any():
        groups = min(groups, 2 * squares.sum() ** 2 / np.square(squares).sum())
    value = _smooth(pooled, rate)
    q, fewer = value * (1 - value), min(groups, pooled.units.effective)
    variance += pooled.units.unseen(q)
    n_members = pooled.counts.n_members
    n = min(n_members, q / variance) if variance > 0 else n_members * pooled.units.share
    return max(n * student_factor(fewer - 1, pooled.level), 1.0)


def _contributions(pooled: Pooled, rate: float) -> Iterator[Array]:
    """(N,) for each model what its pairs contribute to the error of the TPR at a rate, by the delta method."""
    point, counts, slope = pooled.point(rate), pooled.counts, _slope(pooled.counts, rate)
    n_members, n_nonmembers = counts.n_members, counts.n_nonmembers
    fpr = point.errors / n_nonmembers
    of_others = [-slope * (above - fpr) / n_nonmembers for above in (0, 1)]
    of_members = [(above - point.value) / n_members for above in (0, 1)]
    parts = np.array(of_others + of_members)
    return (
        parts[(scores >= point.threshold) + 2 * inside] * (inside | outside)
        for scores, inside, outside in pooled.rows()
    )


def _centered(of_members: Array, of_nonmembers: Array, value: float, sides: _Sides) -> Iterator[Array]:
    """(N,) for each model what its pairs contribute to the error of the pooled AUC."""
    first, second = 0, 0
    for inside, outside in zip(sides.inside, sides.outside, strict=True):
        row, k, n = np.zeros(len(inside)), int(inside.sum()), int(outside.sum())
        row[inside] = (of_members[first : first + k] - value) / len(of_members)
        row[outside] = (of_nonmembers[second : second + n] - value) / len(of_nonmembers)
        first, second = first + k, second + n
        yield row


def _slope(counts: Counts, fpr: float) -> float:
    """The slope of the pooled ROC around a false-positive rate, from half of it to twice it."""
    _, tp, fp, n_members, n_nonmembers = counts
    ends = (counts.above(metrics.allowed(min(rate, 1.0), n_nonmembers)) for rate in (fpr / 2, 2 * fpr))
    (tp_a, fp_a), (tp_b, fp_b) = ((int(tp[k - 1]), int(fp[k - 1])) if k else (0, 0) for k in ends)
    return (tp_b - tp_a) / n_members / ((fp_b - fp_a) / n_nonmembers) if fp_b > fp_a else 0.0


@dataclass(frozen=True)
class _Sides:
    """The judged pairs of M models and N examples, those of members and those of non-members."""

    scores: Array  # (M, N); those of pairs that are not judged are never read
    inside: Bools  # (M, N)
    outside: Bools  # (M, N)
    units: Any = None  # (N,) or (M, N)

    @classmethod
    def of(cls, scores: Any, member: Any, judged: Any = None, units: Any = None, least: int = 2) -> _Sides:
        s, m = np.asarray(scores, dtype=np.float64), np.asarray(member)
        if s.ndim != 2 or s.shape != m.shape or len(s) < least:
            raise ValueError(f"scores {s.shape} and member {m.shape} must both be (M, N), with M of at least {least}")
        inside = m.astype(bool)
        if judged is None:
            return cls(s, inside, ~inside, units)
        kept = np.asarray(judged, dtype=bool)
        if kept.shape != s.shape:
            raise ValueError(f"judged {kept.shape} must have the shape of scores, {s.shape}")
        return cls(s, inside & kept, ~inside & kept, units)

    def __len__(self) -> int:
        """M."""
        return len(self.scores)

    def judged(self) -> Bools:
        """(M, N)."""
        return self.inside | self.outside

    def flat(self) -> tuple[Array, Bools]:
        """(P,) scores and membership of the P judged pairs. Raises: `ValueError` as `roc.check_scores`."""
        judged = self.judged()
        if judged.all():
            return check_scores(self.scores.ravel(), self.inside.ravel())
        return check_scores(self.scores[judged], self.inside[judged])

    def clusters(self) -> Units:
        judged = self.judged()
        return Units.of(self.units, self.scores.shape if judged.all() else judged)

    def of_model(self, m: Any) -> _Sides:
        """The pairs of one model, or of those that are chosen by an array."""
        chosen = [m] if isinstance(m, int) else m
        units = self.units if self.units is None or np.ndim(self.units) == 1 else np.asarray(self.units)[chosen]
        return _Sides(self.scores[chosen], self.inside[chosen], self.outside[chosen], units)

    def of_models_with_both(self) -> _Sides:
        """Without models that lack members or non-members. Raises: `ValueError` if none is left."""
        both = self.inside.any(1) & self.outside.any(1)
        if not both.any():
            raise ValueError("no model has both members and non-members")
        return self if both.all() else self.of_model(both)

    def alone(self, level: float) -> Interval:
        """The AUC of the only model."""
        judged = self.judged()[0]
        units = None if self.units is None else np.asarray(self.units).reshape(-1)[judged]
        # members and non-members of one unit count as two, as in `hampkit.judging.case`
        units = None if units is None else 2 * np.unique(units, return_inverse=True)[1] + self.inside[0][judged]
        return grouped.auc_interval(self.scores[0][judged], self.inside[0][judged], units, level)
