"""Moderated variances: the variance of each of many small samples, shrunk towards what is usual among them.

With d degrees of freedom each, sample variances are taken as s² ~ σ² χ²_d / d, and the true variances as
1/σ² ~ χ²_ν₀ / (ν₀ σ₀²). Both numbers of the prior are fitted to all samples together. A new value of a sample then follows
Student's distribution with ν₀ + d degrees of freedom.
Source: Smyth 2004, "Linear models and empirical Bayes methods for assessing differential expression", sections 3 and 6.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FLOOR = 1e-8  # of the median variance: equal values of a small sample are a coincidence, not certainty
SMALLEST = 1e-12  # a variance, where the median is 0 too
FAR = 30.0  # standard deviations from which on a series is more exact than 1 − cdf


@dataclass(frozen=True)
class Prior:
    """What the true variances of all samples have in common."""

    freedom: float  # ν₀ degrees of freedom; ∞: all samples have the same variance
    variance: float  # σ₀²

    def variances(self, squares: Any, freedom: Any) -> Floats:
        """v = (ν₀ σ₀² + SS) / (ν₀ + d) of sums of squares SS with d degrees of freedom: (N,), (N,) → (N,)."""
        ss, d = np.asarray(squares, dtype=np.float64), np.asarray(freedom, dtype=np.float64)
        if np.isinf(self.freedom):
            return np.full(ss.shape, self.variance)
        return (self.freedom * self.variance + ss) / (self.freedom + d)


def fit(squares: Any, freedom: Any) -> Prior:
    """The prior of samples with sums of squares SS (N,) and d (N,) ≥ 0 degrees of freedom; those with d = 0 have no part in it.

    e = ln(SS / d) − ψ(d/2) + ln(d/2); T = var(e) − mean ψ′(d/2); ν₀ solves ψ′(ν₀/2) = T, ∞ where T ≤ 0;
    σ₀² = exp(mean e + ψ(ν₀/2) − ln(ν₀/2)), where ψ(ν₀/2) − ln(ν₀/2) → 0 for ν₀ → ∞. The variance of e is taken with N − 1.
    Errors: `ValueError` where no sample has d ≥ 1.
    """
    from scipy.special import digamma, polygamma  # SciPy takes a second to import

    ss, d = np.asarray(squares, dtype=np.float64), np.asarray(freedom)
    if (d < 1).any():
        ss, d = ss[d >= 1], d[d >= 1]
    if not len(d):
        raise ValueError("no sample has two values: there is no variance to fit a prior to")
    s2 = ss / d
    s2 = np.maximum(s2, max(FLOOR * float(np.median(s2)), SMALLEST))
    kinds, of = np.unique(d, return_inverse=True)  # few numbers of degrees of freedom, many samples
    half = kinds / 2
    e = np.log(s2) + (np.log(half) - digamma(half))[of]
    excess = (e.var(ddof=1) if len(e) > 1 else 0.0) - polygamma(1, half)[of].mean()
    if not excess > 0:
        return Prior(np.inf, float(np.exp(e.mean())))
    half = trigamma_inverse(float(excess))
    return Prior(2 * half, float(np.exp(e.mean() + digamma(half) - np.log(half))))


def trigamma_inverse(value: float) -> float:
    """x > 0 with ψ′(x) = value > 0, by Newton's method on 1/ψ′, which is nearly straight.

    >>> round(trigamma_inverse(1.6449340668482264), 9)
    1.0
    """
    from scipy.special import polygamma

    if value > 1e7:
        return value**-0.5
    if value < 1e-6:
        return 1 / value
    x = 0.5 + 1 / value
    for _ in range(50):
        at = float(polygamma(1, x))
        step = at * (1 - at / value) / float(polygamma(2, x))
        x += step
        if abs(step) < 1e-12 * x:
            break
    return x


def log_density(z: Any, freedom: Any) -> Floats:
    """ln of Student's density at z, without the scale: add −ln(scale). freedom: a number or (N,), ∞ for the normal.

    −½ ln ν − ln B(½, ν/2) − ½ (ν + 1) ln(1 + z²/ν)
    """
    from scipy.special import betaln

    z, nu = np.asarray(z, dtype=np.float64), np.asarray(freedom, dtype=np.float64)
    normal = -(z**2) / 2 - np.log(2 * np.pi) / 2
    if np.isinf(nu).all():
        return normal
    finite = np.where(np.isinf(nu), 1.0, nu)
    student = -np.log(finite) / 2 - betaln(0.5, finite / 2) - (finite + 1) / 2 * np.log1p(z**2 / finite)
    return np.where(np.isinf(nu), normal, student)


def logit_cdf(z: Any, freedom: Any) -> Floats:
    """ln F(z) − ln(1 − F(z)) of Student's distribution function, finite however far z lies out."""
    from scipy.special import log_ndtr, stdtr

    z, nu = np.asarray(z, dtype=np.float64), np.asarray(freedom, dtype=np.float64)
    distance = np.abs(z)
    if np.isinf(nu).all():
        tail = log_ndtr(-distance)
    else:
        nu = np.broadcast_to(nu, z.shape)
        tail = np.log(stdtr(nu, -np.minimum(distance, FAR)))
        far = distance > FAR
        tail[far] = _log_tail(distance[far], nu[far])
    return np.sign(z) * (np.log1p(-np.exp(tail)) - tail)


def _log_tail(z: Floats, nu: Floats) -> Floats:
    """ln(1 − F(z)) for z ≥ FAR, by parts: with I_k = ∫ f(u) u^(−2k) du from z on,

    (ν + 2k) I_k = f(z) (ν + z²) z^(−2k−1) − (2k + 1) ν I_(k+1). Eight terms are exact to 1e-15 there.
    """
    series = np.ones_like(z)
    for k in range(8, 0, -1):
        series = 1 - (2 * k - 1) * nu / (nu + 2 * k) / z**2 * series
    return log_density(z, nu) + np.log(nu + z**2) - np.log(nu) - np.log(z) + np.log(series)
