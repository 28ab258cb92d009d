"""Intervals of rates, and the effective sizes that they are computed for.

The effective size of dependent examples is the number of independent examples that would have the same variance, and the
interval is computed for that number (Korn & Graubard 1998). Rows are dependent if they come in groups, such as the rows of one
person.
Coverage: `benchmarks.intervals`, docs/intervals.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval."""

    value: float
    low: float
    high: float


def clopper_pearson(k: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """The exact binomial interval of a rate with k hits among n (Clopper & Pearson 1934).

    k and n need not be whole numbers: n may be an effective size.
    Raises: `ValueError` for a level outside (0, 1).

    >>> tuple(round(v, 4) for v in clopper_pearson(0, 10))
    (0.0, 0.3085)
    """
    assert 0 <= k <= n != 0, (k, n)
    from scipy.stats import beta  # SciPy takes a second to import

    tail = _tail(level)
    low = 0.0 if k == 0 else float(beta.ppf(tail, k, n - k + 1))
    high = 1.0 if k == n else float(beta.ppf(1 - tail, k + 1, n - k))
    return min(low, k / n), max(high, k / n)


def jeffreys(rate: Any, n: Any, level: float = 0.95) -> tuple[Any, Any]:
    """Jeffreys' interval of a rate among n independent cases; n need not be a whole number. Also for arrays.

    With k = rate · n hits and e = n − k errors, the lower bound is the quantile (1 − level)/2 of Beta(k + min(½, k/4), e + ½).
    The upper bound exchanges hits and errors (Brown, Cai & DasGupta 2001, section 4.1, with min(½, k/4) in place of ½). With ½
    the upper bound would be below 1 by at least a fixed multiple of 1/n, however close to 1 the rate is.
    Raises: `ValueError` for a level outside (0, 1).

    >>> [round(float(end), 4) for end in jeffreys(1.0, 10)]
    [0.7828, 1.0]
    """
    rate, n = np.asarray(rate, dtype=np.float64), np.asarray(n, dtype=np.float64)
    hits, errors = rate * n, (1 - rate) * n
    return np.minimum(_lower(hits, errors, level), rate), np.maximum(1 - _lower(errors, hits, level), rate)


def mean_rate(parts: Sequence[Interval], independent: bool = True) -> Interval:
    """The mean of K rates with an interval from their own intervals (Zou & Donner 2008, the MOVER).

    The distances dₖ from the values to the ends become √(Σ dₖ²)/K. For rates that are not independent they become Σ dₖ/K, the
    largest value possible.
    Raises: `ValueError` for no rates.
    """
    if not parts:
        raise ValueError("the mean of no rates: give at least one interval")
    together = math.hypot if independent else (lambda *distances: sum(distances))
    value = sum(p.value for p in parts) / len(parts)
    below = together(*(p.value - p.low for p in parts)) / len(parts)
    above = together(*(p.high - p.value for p in parts)) / len(parts)
    return Interval(value, max(0.0, value - below), min(1.0, value + above))


def mean_of_seeds(found: Sequence[Interval], overlap: float = 0.0) -> Interval:
    """The mean of a rate over S seeds with Student's interval, within [0, 1]; of one seed its own interval.

    found: the rate of each seed with its interval. overlap: o, the share of a seed's examples that another seed judges too. The
    interval of the mean is no narrower than the mean half-width of the seeds' own intervals times √((1 + (S − 1) o) / S): seeds
    that agree by chance have no spread. With two seeds Student's factor is 12.7, with five 2.8.
    """
    if len(found) == 1:
        return found[0]
    from scipy.stats import t  # SciPy takes a second to import

    values, seeds = np.array([f.value for f in found]), len(found)
    mean, share = float(values.mean()), math.sqrt((1 + (seeds - 1) * overlap) / seeds)
    by = float(t.ppf(0.975, seeds - 1) * values.std(ddof=1) / math.sqrt(seeds))
    below, above = (
        float(np.mean([abs(f.value - end) for f, end in zip(found, ends, strict=True)])) * share
        for ends in ([f.low for f in found], [f.high for f in found])
    )
    return Interval(mean, max(0.0, mean - max(by, below)), min(1.0, mean + max(by, above)))


def bonferroni_level(error: float, n_tests: int) -> float:
    """The level of each of n intervals at which all of them hold with probability 1 − error: 1 − error / n.

    >>> bonferroni_level(0.05, 10)
    0.995
    """
    return 1 - error / max(n_tests, 1)


def effective_size(value: Any, variance: Any, n_members: float, n_nonmembers: float) -> Any:
    """The number of independent yes-or-no answers that would give an AUC this variance. Also for arrays.

    max(min(m, n), A (1 − A) / (v + 1/(5m²) + 1/(5n²))), with A the AUC, v DeLong's variance (DeLong et al. 1988), m members and
    n non-members. No two distributions make the variance larger than A (1 − A) / min(m, n) (Birnbaum & Klose 1957). The terms
    beside v stand for unseen examples, because v may be 0 by chance. With 1/6 in place of 1/5 the lower bound could fall by more
    than a third of the interval's width when the last non-member above a member moves below it. Larger fractions give wider
    intervals.
    """
    unseen = 1 / (5 * n_members**2) + 1 / (5 * n_nonmembers**2)
    return np.maximum(min(n_members, n_nonmembers), value * (1 - value) / (variance + unseen))


def rate(hits: Any, groups: Any = None, level: float = 0.95) -> Interval:
    """The share of hits (N,) with Clopper and Pearson's interval for its `size_of_rate`; groups: (N,) or None.

    Raises: `ValueError` as `codes_of`, and for a level outside (0, 1).
    """
    value, size = float(np.mean(hits)), size_of_rate(hits, groups, level)
    return Interval(value, *clopper_pearson(value * size, size, level))


def size_of_rate(hits: Any, groups: Any = None, level: float = 0.95) -> float:
    """The number of independent rows that would give the share p of hits (N,) the same variance; groups: (N,) or None.

    p (1 − p) / (v + u) · (z/t)², with v the variance clustered by group, clipped to [K, N], with K Kish's number of groups. If
    all or no rows are hits, it is K. u = 1/(10 K²) stands for unseen groups: among few groups v is small by chance, and without
    u some intervals covered 80 % (50 uneven groups, in each nearly all rows hits or none, p = 0.98). If K is below three, the
    size is 1, because so few groups do not show how groups differ.
    Raises: `ValueError` as `codes_of`, and for a level outside (0, 1).
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
    factor = student_factor(degrees_of_freedom([found.variance], [found]), level)
    size = p * (1 - p) / (found.variance + 1 / (10 * found.groups**2)) * factor
    return float(np.clip(size, min(found.groups, len(h)), len(h)))


class Moments(NamedTuple):
    """The variance of the mean of numbers (N,) in groups."""

    variance: float  # of the mean, clustered by group
    groups: float  # Kish's number, see `kish`


def moments(values: Array, groups: Ints) -> Moments:
    """The `Moments` of values (N,) in groups (N,): v = G/(G − 1) Σ_g (Σ_{i in g} (x_i − mean))² / N² for G groups, 0 for one."""
    n_groups = int((np.bincount(groups) > 0).sum())
    sums = np.bincount(groups, values - values.mean())
    variance = n_groups / max(n_groups - 1, 1) * float(np.square(sums).sum()) / len(values) ** 2
    return Moments(variance, kish(groups))


def kish(groups: Ints) -> float:
    """Kish's number of groups (N,) numbered from 0: N² / Σ size², which is the number of groups if all have the same size."""
    return kish_of_sizes(np.bincount(groups))


def kish_of_sizes(sizes: Any) -> float:
    """Kish's number of groups of these sizes (G,): (Σ size)² / Σ size²."""
    return int(np.sum(sizes)) ** 2 / float(np.square(sizes, dtype=np.float64).sum())


def number(groups: Any, n: int) -> float:
    """The effective number of groups among n rows: Kish's number for groups (n,), or n without groups.

    Raises: `ValueError` as `codes_of`.
    """
    codes = codes_of(groups, (n,))
    return float(n) if codes is None else kish(codes)


def codes_of(groups: Any, shape: tuple[int, ...], each: str = "row") -> Ints | None:
    """Groups (N,) numbered from 0, (N,) int64; None if there are no groups, or if each has one row.

    shape: the expected one. each: the noun for one of N in the message.
    Raises: `ValueError` for groups of another shape.
    """
    if groups is None:
        return None
    kinds, codes = np.unique(np.asarray(groups), return_inverse=True)
    if codes.shape != shape:
        raise ValueError(f"groups {codes.shape} must be {shape}, one for each {each}")
    return None if len(kinds) == len(codes) else codes.astype(np.int64)


def codes_of_sides(groups: Any, member: Any) -> Ints | None:
    """`codes_of` groups (N,), each with members only or with non-members only; member: (N,).

    Raises: `ValueError` for a group that holds both, and as `codes_of`.
    """
    m = np.asarray(member, dtype=bool)
    codes = codes_of(groups, m.shape)
    if codes is not None and (mixed := np.intersect1d(codes[m], codes[~m])).size:
        raise ValueError(f"{mixed.size} groups hold members and non-members: keep each on one side of the split")
    return codes


def degrees_of_freedom(variances: Sequence[float], sides: Sequence[Moments]) -> float:
    """The degrees of freedom of a sum of variances, each with those of its groups (Satterthwaite 1946)."""
    squares = sum(v**2 / max(side.groups - 1, 1.0) for v, side in zip(variances, sides, strict=True))
    return sum(variances) ** 2 / squares if squares > 0 else min(side.groups for side in sides) - 1


def student_factor(degrees: float, level: float) -> float:
    """(z/t)², by which an effective size is multiplied to allow for Student's t with these degrees of freedom, at least 1.

    Raises: `ValueError` for a level outside (0, 1).
    """
    from scipy.stats import t

    return (normal_quantile(level) / float(t.ppf((1 + level) / 2, max(degrees, 1.0)))) ** 2


def normal_quantile(level: float) -> float:
    """z with P(|Z| ≤ z) = level for a standard normal Z.

    Raises: `ValueError` for a level outside (0, 1).
    """
    from statistics import NormalDist

    return NormalDist().inv_cdf(1 - _tail(level))


def _lower(hits: Array, errors: Array, level: float) -> Array:
    from scipy.stats import beta  # SciPy takes a second to import

    seen = hits > 1e-6  # below that the bound is 0 in floating point
    bound = beta.ppf(_tail(level), np.where(seen, hits + np.minimum(0.5, hits / 4), 1.0), errors + 0.5)
    return np.where(seen, bound, 0.0)


def _tail(level: float) -> float:
    """The probability on either side of an interval.

    Raises: `ValueError` for a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level={level} must lie between 0 and 1, such as 0.95")
    return (1 - level) / 2
