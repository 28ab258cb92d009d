"""The exposure of single records: how far a model's answer about a record depends on whether the record was trained on.

Each record has signals of n₁ models that were trained on it and of n₀ models that were not. The exposure μ is the distance of
the two means in standard deviations: an attacker who knows both distributions reaches the TPR Φ(μ − z_{1−α}) at the FPR α. The
standard deviation is moderated, see `hampkit.stats.moderated`, because a record has few signals.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hampkit.stats import moderated
from hampkit.stats.intervals import bonferroni_level
from hampkit.stats.noncentral import noncentrality
from hampkit.stats.permutation import permutation_p

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

FDR = 0.05  # share of false claims among the records that are shown to be exposed


@dataclass(frozen=True)
class Exposure:
    """N records; NaN for a record without a model of one kind."""

    mu: Floats  # (N,) the exposure
    low: Floats  # (N,) its interval
    high: Floats  # (N,)
    low_all: Floats  # (N,) its interval at the level of Bonferroni: those of all N records hold together
    high_all: Floats  # (N,)
    p: Floats  # (N,) one-sided, of the hypothesis μ ≤ 0
    adjusted: Floats  # (N,) p after Benjamini and Hochberg, over all records
    inside: NDArray[np.int64]  # (N,) numbers of models
    outside: NDArray[np.int64]

    @staticmethod
    def none(members: Bools) -> Exposure:
        """NaN for each of N records; members: (M, N) whether a model was trained on it."""
        nan = np.full(members.shape[1], np.nan)
        return Exposure(nan, nan, nan, nan, nan, nan, nan, members.sum(0), (~members).sum(0))

    @property
    def exposed(self) -> Bools:
        """(N,) the records that are shown to be exposed: of these, 5 % are false in expectation."""
        return self.adjusted <= FDR

    def take(self, rows: Any) -> Exposure:
        """The exposure of these records, in this order; `adjusted` stays as it is."""
        return Exposure(*(getattr(self, f.name)[rows] for f in fields(self)))

    def tpr(self, fpr: float) -> Floats:
        """(N,) the TPR that an attacker reaches at an FPR, Φ(μ − z_{1−FPR}).

        >>> made = Exposure(*(np.array([2.0]),) * 7, np.array([4]), np.array([4]))
        >>> round(float(made.tpr(0.01)[0]), 3)
        0.372
        """
        from scipy.special import ndtr, ndtri

        return ndtr(self.mu - ndtri(1 - fpr))


def exposure(signals: Any, members: Any, level: float = 0.95) -> Exposure:
    """The exposure of N records from the signals (M, N) of M models; members: (M, N) whether a model was trained on a record.

    With means m₁, m₀, the moderated variance v of both sides together, d = n₁ + n₀ − 2, ν = ν₀ + d and
    k = √(n₁n₀/(n₁ + n₀)): t = k(m₁ − m₀)/√v has a noncentral t distribution with ν degrees of freedom and noncentrality kμ.
    μ̂ = (1 − 3/(4ν − 1))(m₁ − m₀)/√v (Hedges 1981). The ends of the interval are the noncentralities at which t has the
    probabilities (1 ± level)/2, divided by k; the wider interval is at the level 1 − (1 − level)/N. For ν = ∞ all is normal.

    With few models the t distribution is wrong far out if signals have ties, as the votes of a forest, or two modes. So p is the
    larger one of t's and `permutation_p`, and an end of an interval is only on the far side of 0 if that test allows it too.

    Raises: `ValueError` for other shapes, signals that are not finite, a level outside (0, 1), or no record with three models
    of which both kinds are some.
    """
    values, inside = np.asarray(signals, dtype=np.float64), np.asarray(members, dtype=bool)
    if values.ndim != 2 or values.shape != inside.shape:
        raise ValueError(
            f"signals {values.shape} and members {inside.shape} must both have the shape (models, records)"
        )
    if not np.isfinite(values).all() or not 0 < level < 1:
        raise ValueError(f"signals must be finite, and level={level} between 0 and 1")
    n1, n0 = inside.sum(0), (~inside).sum(0)
    usable = (n1 > 0) & (n0 > 0)
    if not (usable & (n1 + n0 > 2)).any():
        raise ValueError("no record has three models, some trained on it and some not: there is no variance to measure")
    gap, squares = _gaps(values[:, usable], inside[:, usable])
    freedom = np.full(len(gap), len(values) - 2)
    prior = moderated.fit(squares, freedom)
    nu = float(prior.freedom + len(values) - 2)
    scale = np.sqrt(prior.variances(squares, freedom))
    k = np.sqrt(n1 * n0 / np.maximum(n1 + n0, 1))[usable]
    t = k * gap / scale
    far = permutation_p(values[:, usable], inside[:, usable])
    levels = (level, bonferroni_level(1 - level, len(t)))
    ends = [end / k for each in levels for end in _ends(t, nu, each, far)]
    p = np.maximum(_upper_tail(t, nu), far[0])
    numbers = ((1 - 3 / (4 * nu - 1)) * gap / scale, *ends, p, benjamini_hochberg(p))
    mu, low, high, low_all, high_all, p, adjusted = (_spread(each, usable) for each in numbers)
    return Exposure(mu, low, high, low_all, high_all, p, adjusted, n1, n0)


def benjamini_hochberg(p: Any) -> Floats:
    """Adjusted p-values (N,): the lowest false discovery rate at which each is claimed (Benjamini & Hochberg 1995).

    >>> benjamini_hochberg([0.01, 0.04, 0.03, 0.5]).round(4).tolist()
    [0.04, 0.0533, 0.0533, 0.5]
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values)[::-1]
    ranks = np.arange(len(values), 0, -1)
    adjusted = np.minimum(1.0, np.minimum.accumulate(values[order] * len(values) / ranks))
    found = np.empty_like(values)
    found[order] = adjusted
    return found


def _ends(t: Floats, nu: float, level: float, far: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """The ends (N,) of the interval of t's noncentrality. far: p-values that an end on the far side of 0 must agree with."""
    error = (1 - level) / 2
    low, high = noncentrality(t, nu, 1 - error), noncentrality(t, nu, error)
    return np.where(far[0] > error, np.minimum(low, 0), low), np.where(far[1] > error, np.maximum(high, 0), high)


def _gaps(values: Floats, inside: Bools) -> tuple[Floats, Floats]:
    """The difference of the means, and the sum of squares around both means: (N,) each."""
    means = [np.where(side, values, 0.0).sum(0) / side.sum(0) for side in (inside, ~inside)]
    centred = values - np.where(inside, *means)
    return means[0] - means[1], (centred**2).sum(0)


def _upper_tail(t: Floats, nu: float) -> Floats:
    """P[T ≥ t] of Student's distribution (N,); ν = ∞ is the normal distribution."""
    from scipy.special import ndtr, stdtr

    return ndtr(-t) if np.isinf(nu) else stdtr(nu, -t)


def _spread(values: Floats, usable: Bools) -> Floats:
    """The values of the usable records in the places of all records, NaN elsewhere."""
    full = np.full(len(usable), np.nan)
    full[usable] = values
    return full
