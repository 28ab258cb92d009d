"""Rates over many target models with clustered intervals: the scores of one model rise and fall together.

Scores and membership are (M, N): every one of M models is the target once, on the same pool of N examples. All pairs are
pooled into one ROC. Variances are clustered by model and by example (two ways: Cameron, Gelbach & Miller 2011), because in
leave-one-out all scores of one example rest on the same answers: with membership shuffled, clustering by model alone gave
intervals that covered 0.5 in 78 to 83 % of simulated audits.

``units`` (N,), where it is given: examples with one value are not independent, such as the rows of one person. They are clustered
together, and for their number stands Kish's number of units, N² / Σ size².

Errors: `ValueError` for NaN, shapes that do not fit, one of the two groups missing, or fewer than two models for rates.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hampkit.stats import grouped, metrics
from hampkit.stats.intervals import Interval, clopper_pearson, codes_of, jeffreys, kish, normal_quantile
from hampkit.stats.metrics import Point
from hampkit.stats.roc import Counts, check_scores, count

Array = NDArray[np.float64]


def auc_interval(scores: Any, member: Any, units: Any = None, level: float = 0.95) -> Interval:
    """Pooled AUC with Jeffreys' interval for the size that the clustered variance of its placements leads to (Obuchowski 1997).

    With V the share of the other group below (above) a score and A the AUC, a pair contributes (V − A)/n₁ where the example
    is IN, (V − A)/n₀ where it is OUT. Of one model it is `grouped.auc_interval`.
    """
    s, m = _checked(scores, member, least=1)
    if len(s) == 1:
        return grouped.auc_interval(s[0], m[0], units, level)
    return mean_auc([(s, m)], units, level)


def mean_auc(
    parts: Sequence[tuple[Any, Any]], units: Any = None, level: float = 0.95, correlation: float = 0.0
) -> Interval:
    """The mean pooled AUC of groups of models, (scores, member) each of shape (Mₖ, N), with the clustered interval.

    The scores of two groups need not be of one scale. Models are independent, examples are the same in all groups: what pairs
    contribute, divided by the number of groups, is clustered by model and example over all of them. correlation: see
    `metrics.mean_auc`.
    """
    checked = [_checked(scores, member, least=1) for scores, member in parts]
    placed = [metrics.placements(*check_scores(s.ravel(), m.ravel())) for s, m in checked]
    aucs = [float(of_members.mean()) for of_members, _ in placed]
    share = math.sqrt(1 + correlation) / len(parts)
    rows = (
        row * share for (_, m), both, auc in zip(checked, placed, aucs, strict=True) for row in _centered(*both, auc, m)
    )
    number = sum(len(s) for s, _ in checked)
    return _interval(float(np.mean(aucs)), rows, number, _Units.of(units, checked[0][0].shape[1]), level)


def auc_within(scores: Any, member: Any, units: Any = None, level: float = 0.95) -> Interval:
    """The mean of the AUCs of single models, with its clustered variance and the interval of the pooled AUC.

    A pair contributes (V − Aₘ)/(M n₁) where the example is IN, (V − Aₘ)/(M n₀) where it is OUT, with V and Aₘ those of its own
    model, and each model (Aₘ − A)/M. The mean over models alone would vary less: all rest on the same examples. A model
    without members or without non-members has no AUC and is left out.
    """
    s, m = _checked(scores, member, least=1)
    both = m.any(1) & ~m.all(1)
    s, m = s[both], m[both]
    if not len(s):
        raise ValueError("no model has both members and non-members")
    if len(s) == 1:
        return grouped.auc_interval(s[0], m[0], units, level)
    placed = [metrics.placements(*check_scores(row, inside)) for row, inside in zip(s, m, strict=True)]
    aucs = [float(of_members.mean()) for of_members, _ in placed]
    value = float(np.mean(aucs))

    def row(k: int) -> Array:
        moved, inside = np.empty(s.shape[1]), m[k]
        for rows, shares in zip((inside, ~inside), placed[k], strict=True):
            moved[rows] = (shares - aucs[k]) / len(shares)
        return (moved + (aucs[k] - value) / s.shape[1]) / len(s)

    return _interval(value, (row(k) for k in range(len(s))), len(s), _Units.of(units, s.shape[1]), level)


def _interval(value: float, rows: Iterable[Array], models: int, units: _Units, level: float) -> Interval:
    """Jeffreys' interval of an AUC over M models and N units, from what each pair contributes to its error.

    The size is max(1/(1/M + 1/N), q / (v + u)), with q = A (1 − A), v the clustered variance and u = min(q/N, 2/(5N²)): neither
    models nor examples can vary more than the first, and u stands for examples that were not seen, as in
    `metrics.effective_size`. Where all pairs are in order it leaves N. Student's t comes in as the factor (z/t)² (Korn & Graubard
    1998); its degrees of freedom are those of v + u (Satterthwaite 1946), where v has those of the models that make it up
    (three times Kish's effective number, which is M of normal contributions).
    """
    examples, q = units.effective, value * (1 - value)
    by_model, by_example, effective = _variances(rows, models, units)
    variance, unseen = by_model + by_example, min(q / examples, 2 / (5 * examples**2))
    size, degrees = examples, models - 1.0
    if q > 0:
        size = q / (variance + unseen) if variance > 1e-12 * q / examples else 0.0  # equal scores: nothing is known
        own = max(min(models, 3 * effective) - 1, 1.0)
        degrees = (variance + unseen) ** 2 / (variance**2 / own + unseen**2 / degrees)
    size = max(size, 1 / (1 / models + 1 / examples))
    low, high = jeffreys(value, size * (normal_quantile(level) / _student(degrees + 1, level)) ** 2, level)
    return Interval(value, float(low), float(high))


def tpr_points(
    scores: Any, member: Any, fprs: Sequence[float], strict: bool = False, units: Any = None, level: float = 0.95
) -> list[Point]:
    """Pooled TPR at each FPR: the threshold is that of the pooled ROC, and its own uncertainty is in the interval.

    The variance is that of leaving out two models at a time (the jackknife), or by the delta method, whichever is larger, and
    what examples add to it: there the error of the TPR is the sum of (hit − TPR)/n₁ over IN pairs minus r (error − FPR)/n₀ over
    OUT pairs, with r the slope of the ROC. The interval is Clopper and Pearson's for the number of independent members that
    would have this variance, at most those there are (Korn & Graubard 1998), with Student's t for twice as many pairs of models
    as make up the squares (Kish's effective number): two or three may hold all errors at a low rate. Where there are fewer units
    than that, t is theirs; where units are given, `_Units.unseen` is added to the variance. Of none or all, the interval is that
    of the nearest rate at which some are found and some are not; where there is no such rate, it is for M members, or for the
    number of units where that is smaller. What it covers: `benchmarks.clustered`, `benchmarks.intervals units`.
    """
    s, m = _checked(scores, member)
    return points(s, m, count(s.ravel(), m.ravel()), fprs, strict, units, level)


def tnr_points(
    scores: Any, member: Any, fnrs: Sequence[float], strict: bool = False, units: Any = None, level: float = 0.95
) -> list[Point]:
    """TNR at each FNR: the same with the roles of members and non-members, and the direction of the score, exchanged."""
    s, m = _checked(scores, member)
    return points(s, m, count(s.ravel(), m.ravel()).turned(), fnrs, strict, units, level, turned=True)


def points(
    s: Array,
    m: NDArray[np.bool_],
    counts: Counts,
    rates: Sequence[float],
    strict: bool = False,
    units: Any = None,
    level: float = 0.95,
    turned: bool = False,
) -> list[Point]:
    """`tpr_points` of scores (M, N) that are counted already; ``turned``: `tnr_points`, from the turned counts."""
    found = [metrics.counted_point(counts, rate, strict, level) for rate in rates]
    looked_at = [_seen(counts, rate, strict) for rate in rates]
    wanted = [rate for rate in dict.fromkeys(looked_at) if rate is not None]
    left = _without_each(s, m, counts, wanted, strict, turned)
    kinds = _Units.of(units, s.shape[1])
    worth: dict[float | None, float] = {None: min(len(s), kinds.effective)}
    for k, rate in enumerate(wanted):
        worth[rate] = _worth(s, m, counts, rate, left[:, k], kinds, strict, level, turned)
    ends = (
        clopper_pearson(point.value * worth[rate], worth[rate], level)
        for rate, point in zip(looked_at, found, strict=True)
    )
    return [replace(point, low=low, high=high) for point, (low, high) in zip(found, ends, strict=True)]


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


def _seen(counts: Counts, rate: float, strict: bool) -> float | None:
    """The rate at which to see how much models differ: this one, or the nearest at which some are found and some are not."""
    value = _smooth(counts, rate, strict)
    if 0 < value < 1:
        return rate
    end = 1.0 if value == 0 else 1 / counts.nonmembers
    rate = rate or end / counts.nonmembers / 2  # there is none twice as large as 0
    steps = math.ceil(abs(math.log2(end / rate)))
    # each about twice or half the one before
    others = (rate * (end / rate) ** (k / steps) for k in range(1, steps + 1))
    return next((r for r in others if 0 < _smooth(counts, r, strict) < 1), None)


def _smooth(counts: Counts, rate: float, strict: bool) -> float:
    """The TPR at a rate, with a share of the tied ones that are allowed only in part: the rate itself jumps there."""
    most = metrics.allowed(rate, counts.nonmembers, strict)
    return _hits(lambda k: (int(counts.tp[k]), int(counts.fp[k])), len(counts.fp), most) / counts.members


def _hits(at: Callable[[int], tuple[int, int]], size: int, most: int) -> float:
    """Hits at so many errors, from those of each of the thresholds, which run down."""
    first = bisect_right(range(size), most, key=lambda k: at(k)[1])  # that has more errors
    hits, errors = at(first - 1) if first else (0, 0)
    if first == size:
        return hits
    more, worse = at(first)
    return hits + (more - hits) * (most - errors) / (worse - errors)


def _without_each(
    s: Array, m: NDArray[np.bool_], counts: Counts, rates: Sequence[float], strict: bool, turned: bool
) -> Array:
    """(G, R) the pooled TPR at each rate without a group of models, see `_groups`."""
    found = []
    for group in _groups(m):
        scores, inside = s[group], m[group]
        mine, others = scores[inside], scores[~inside]
        if turned:
            mine, others = -others, -mine
        mine.sort()
        others.sort()
        members, nonmembers = counts.members - len(mine), counts.nonmembers - len(others)

        def left(k: int, mine: Array = mine, others: Array = others) -> tuple[int, int]:
            at = counts.thresholds[k]
            return int(counts.tp[k]) - _above(mine, at), int(counts.fp[k]) - _above(others, at)

        most = (metrics.allowed(rate, nonmembers, strict) for rate in rates)
        found.append([_hits(left, len(counts.fp), n) / max(members, 1) for n in most])  # there may be no others
    return np.array(found).reshape(len(found), len(rates))


def _groups(m: NDArray[np.bool_]) -> list[slice]:
    """Models that are left out together: twins, also where one of others is missing, else neighbours; of few each alone."""
    if len(m) < 4:
        return [slice(k, k + 1) for k in range(len(m))]
    twins = [*(m[:-1] != m[1:]).all(1).tolist(), False, False]
    found, start = [], 0
    while start < len(m):
        size = 1 if twins[start + 1] and not twins[start] else 2
        found.append(slice(start, min(start + size, len(m))))
        start += size
    return found


def _above(ordered: Array, threshold: float) -> int:
    return len(ordered) - int(np.searchsorted(ordered, threshold, "left"))


def _worth(
    s: Array,
    m: NDArray[np.bool_],
    counts: Counts,
    fpr: float,
    left: Array,
    units: _Units,
    strict: bool,
    level: float,
    turned: bool,
) -> float:
    """The number of independent members that would tell as much of the TPR at a rate as these do."""
    point = metrics.counted_point(counts, fpr, strict, level)
    members, others, slope = counts.members, counts.nonmembers, _slope(counts, fpr)
    false = point.errors / others
    of_others = [-slope * (above - false) / others for above in (0, 1)]
    of_members = [(above - point.value) / members for above in (0, 1)]
    parts = np.array(of_others + of_members)

    def row(scores: Array, inside: NDArray[np.bool_]) -> Array:
        said = -scores >= point.threshold if turned else scores >= point.threshold
        return parts[said + 2 * (~inside if turned else inside)]

    by_model, by_example, _ = _variances((row(*both) for both in zip(s, m, strict=True)), len(s), units)
    groups, squares = len(left), (left - left.mean()) ** 2
    variance = max(by_model, (groups - 1) / groups * squares.sum()) + by_example
    if squares.any():
        groups = min(groups, 2 * squares.sum() ** 2 / np.square(squares).sum())
    value = _smooth(counts, fpr, strict)
    q, fewer = value * (1 - value), min(groups, units.effective)
    variance += units.unseen(q)
    n = min(members, q / variance) if variance > 0 else members * units.effective / s.shape[1]
    return max(n * (normal_quantile(level) / _student(fewer, level)) ** 2, 1.0)


def _centered(of_members: Array, of_nonmembers: Array, value: float, m: NDArray[np.bool_]) -> Iterator[Array]:
    """What each pair contributes, model by model."""
    first, second = 0, 0
    for inside in m:
        row, k = np.empty(len(inside)), int(inside.sum())
        row[inside] = (of_members[first : first + k] - value) / len(of_members)
        row[~inside] = (of_nonmembers[second : second + len(row) - k] - value) / len(of_nonmembers)
        first, second = first + k, second + len(row) - k
        yield row


def _slope(counts: Counts, fpr: float) -> float:
    """The slope of the pooled ROC around a false-positive rate, from half of it to twice it."""
    _, tp, fp, members, nonmembers = counts
    ends = (counts.above(metrics.allowed(min(rate, 1.0), nonmembers)) for rate in (fpr / 2, 2 * fpr))
    (tp_a, fp_a), (tp_b, fp_b) = ((int(tp[k - 1]), int(fp[k - 1])) if k else (0, 0) for k in ends)
    return (tp_b - tp_a) / members / ((fp_b - fp_a) / nonmembers) if fp_b > fp_a else 0.0


class _Units(NamedTuple):
    """Which of N examples are not independent."""

    of_example: NDArray[np.int64] | None  # (N,) numbered from 0; None: all are independent
    number: int
    effective: float  # Kish's number

    @classmethod
    def of(cls, units: Any, examples: int) -> _Units:
        codes = codes_of(units, (examples,), "example")
        if codes is None:
            return cls(None, examples, float(examples))
        return cls(codes, int(codes.max()) + 1, kish(codes))

    def unseen(self, q: float) -> float:
        """The variance of a rate p that is due to unseen units: min(q/K, 1/(10 K²)), with q = p (1 − p) and K their number.

        K is Kish's number of units, as in `grouped.size_of_rate`. The variance is 0 if every example is a unit of its own.
        """
        return 0.0 if self.of_example is None else min(q / self.effective, 1 / (10 * self.effective**2))

    def sums(self, row: Array) -> Array:
        """(G,) contributions (N,) summed over each unit."""
        return row if self.of_example is None else np.bincount(self.of_example, row, self.number).astype(np.float64)


def _variances(rows: Iterable[Array], models: int, units: _Units) -> tuple[float, float, float]:
    """The variance of a sum of contributions between models, the variance that units add, and Kish's number of models.

    The contributions (M, N) sum to 0.
    They come row by row: of 128 models and 40,000 examples, every array of all contributions would take 40 MB. Squares are summed
    by NumPy: a scalar product is BLAS's, whose last digits depend on the number of threads.
    """
    of_units, of_models, both = np.zeros(units.number), [], 0.0
    for row in rows:
        of_models.append(float(row.sum()))
        sums = units.sums(row)
        both += float(np.square(sums).sum())
        of_units += sums
    squares = np.square(of_models)
    by_unit = units.number / max(units.number - 1, 1) * float(np.square(of_units).sum())
    fourth = float(np.square(squares).sum())
    effective = squares.sum() ** 2 / fourth if fourth > 0 else float(models)
    return models / (models - 1) * float(squares.sum()), max(by_unit - both, 0.0), float(effective)


def _student(models: float, level: float) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, max(models - 1, 1.0)))


def _checked(scores: Any, member: Any, least: int = 2) -> tuple[Array, NDArray[np.bool_]]:
    s, m = np.asarray(scores, dtype=np.float64), np.asarray(member)
    if s.ndim != 2 or s.shape != m.shape or len(s) < least:
        raise ValueError(f"scores {s.shape} and member {m.shape} must be (M, N) with at least {least} models")
    return s, m.astype(bool)
