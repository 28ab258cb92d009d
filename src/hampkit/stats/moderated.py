"""Moderated variances: the variance of each of many small samples, shrunk towards a common value.

The model of a sample variance with d degrees of freedom is s² ~ σ² χ²_d / d, that of the true variance 1/σ² ~ χ²_ν₀ / (ν₀ σ₀²).
ν₀ and σ₀² are fitted to all samples together. A new value of a sample then follows Student's distribution with ν₀ + d degrees
of freedom.
Source: Smyth 2004, "Linear models and empirical Bayes methods for assessing differential expression", sections 3 and 6.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FLOOR = 1e-8  # lowest variance relative to the median: equal values in a small sample are a coincidence
SMALLEST = 1e-12  # lowest variance if the median is 0
FAR = 30.0  # standard deviations beyond which a series is more exact than 1 − cdf


@dataclass(frozen=True)
class Prior:
    """The distribution of the true variances of all samples."""

    freedom: float  # ν₀ degrees of freedom; ∞: all samples have the same variance
    variance: float  # σ₀²

    def variances(self, squares: Any, freedom: Any) -> Floats:
        """The moderated variances (ν₀ σ₀² + SS) / (ν₀ + d) of sums of squares SS (N,) with d (N,) degrees of freedom: (N,)."""
        ss, d = np.asarray(squares, dtype=np.float64), np.asarray(freedom, dtype=np.float64)
        if np.isinf(self.freedom):
            return np.full(ss.shape, self.variance)
        return (self.freedom * self.variance + ss) / (self.freedom + d)


def fit(squares: Any, freedom: Any) -> Prior:
    """The prior of N samples with sums of squares SS (N,) and d (N,) ≥ 0 degrees of freedom; samples with d = 0 are left out.

    e = ln(SS / d) − ψ(d/2) + ln(d/2); T = var(e) − mean ψ′(d/2); ν₀ solves ψ′(ν₀/2) = T and is ∞ if T ≤ 0;
    σ₀² = exp(mean e + ψ(ν₀/2) − ln(ν₀/2)), where ψ(ν₀/2) − ln(ν₀/2) → 0 for ν₀ → ∞. var(e) is divided by N − 1.
    Raises: `ValueError` if no sample has d ≥ 1.
    """
    from scipy.special import digamma, polygamma  # SciPy takes a second to import

    ss, d = np.asarray(squares, dtype=np.float64), np.asarray(freedom)
    if (d < 1).any():
        ss, d = ss[d >= 1], d[d >= 1]
    if not len(d):
        raise ValueError("no sample has two values: there is no variance to fit a prior to")
    s2 = ss / d
    s2 = np.maximum(s2, max(FLOOR * float(np.median(s2)), SMALLEST))
    kinds, of = np.unique(d, return_inverse=True)  # many samples share a few values of d
    half = kinds / 2
    e = np.log(s2) + (np.log(half) - digamma(half))[of]
    excess = (e.var(ddof=1) if len(e) > 1 else 0.0) - polygamma(1, half)[of].mean()
    if not excess > 0:
        return Prior(np.inf, float(np.exp(e.mean())))
    half = trigamma_inverse(float(excess))
    return Prior(2 * half, float(np.exp(e.mean() + digamma(half) - np.log(half))))


def trigamma_inverse(value: float) -> float:
    """x > 0 with ψ′(x) = value > 0, by Newton's method on 1/ψ′, which is nearly linear.

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
    """ln of Student's density at standardised values z (N,); subtract ln(scale) for other scales.

    −½ ln ν − ln B(½, ν/2) − ½ (ν + 1) ln(1 + z²/ν). freedom: ν, a number or (N,); ∞ is the normal distribution.
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
    """ln F(z) − ln(1 − F(z)) of Student's distribution function at z (N,), finite for every z. freedom: as in `log_density`."""
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
    """ln(1 − F(z)) for z ≥ FAR, integrated by parts.

    With I_k = ∫_z^∞ f(u) u^(−2k) du, (ν + 2k) I_k = f(z) (ν + z²) z^(−2k−1) − (2k + 1) ν I_(k+1). Eight terms give 1e-15.
    """
    series = np.ones_like(z)
    for k in range(8, 0, -1):
        series = 1 - (2 * k - 1) * nu / (nu + 2 * k) / z**2 * series
    return log_density(z, nu) + np.log(nu + z**2) - np.log(nu) - np.log(z) + np.log(series)
