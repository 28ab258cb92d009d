"""The noncentral t distribution: which noncentralities agree with a value of t. They are the ends of intervals of an effect."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_DOUBLINGS = 60  # of the distance at which a noncentrality is looked for
_HALVINGS = 32  # of that distance: 2e-10 of it remains
_NODES = 32  # values of t per unit of arsinh t, between which noncentralities are interpolated
_LARGE = 3.0  # |t| from which a sum over 64 values is accurate to 1e-10, for ν up to 20; it grows with √ν
_REACH = 9.0  # deviations of the normal variable that count: 1e-19 lies further out
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(64)


def noncentrality(t: Floats, nu: float, probability: float) -> Floats:
    """The noncentralities (N,) at which P[T ≤ t] = probability, for T with ν degrees of freedom; t: (N,); ν = ∞: normal.

    They are found by bisection. For many t this is done on a grid of arsinh t only, and a spline of the fifth degree through
    noncentrality/√(1 + t²), which is bounded and smooth, gives the others: to 2e-7 of √(1 + t²).
    """
    from scipy.special import ndtri

    if np.isinf(nu) or not len(t):
        return t - ndtri(probability)
    place = np.arcsinh(t)
    grid = np.linspace(place.min(), place.max(), 8 + int(np.ptp(place) * _NODES))
    if len(t) <= len(grid):
        return _bisected(t, nu, probability)
    return _interpolated(place, grid, nu, probability)


def cdf(t: Floats, nu: float, noncentrality: Floats) -> Floats:
    """P[T ≤ t] (N,) of T with ν degrees of freedom and noncentralities (N,).

    With a normal Z and an independent chi variable S with E[S²] = 1, T = (Z + noncentrality)/S. SciPy's series has a number
    of terms that grows with the noncentrality, and is NaN in places from t = 20 on. So for large |t| the probability is an
    integral over x = Z + noncentrality instead, in which P[S ≥ x/t] varies slowly.
    """
    from scipy.special import nctdtr, ndtr

    large = np.abs(t) > _LARGE * max(1.0, np.sqrt(nu / 20))
    found = np.empty(len(t))
    found[~large] = nctdtr(nu, noncentrality[~large], t[~large])
    far = large & (t > 0)
    found[far] = _integral(t[far], nu, noncentrality[far])
    far = large & (t < 0)
    found[far] = 1 - _integral(-t[far], nu, -noncentrality[far])
    # a nearly constant S leaves a normal variable
    return np.where(np.isfinite(found), found, ndtr((t - noncentrality) / np.sqrt(1 + t**2 / (2 * nu))))


def _integral(t: Floats, nu: float, noncentrality: Floats) -> Floats:
    """P[Z + noncentrality ≤ t S] for t > 0: Φ(−noncentrality) + ∫ over x > 0 of φ(x − noncentrality) P[S ≥ x/t]."""
    from scipy.special import gammaincc, ndtr

    start = np.maximum(noncentrality - _REACH, 0.0)
    half = np.maximum(noncentrality + _REACH - start, 0.0)[:, None] / 2
    x = start[:, None] + half * (1 + _POINTS)
    density = np.exp(-((x - noncentrality[:, None]) ** 2) / 2) / np.sqrt(2 * np.pi)
    above = gammaincc(nu / 2, nu / 2 * (x / t[:, None]) ** 2)
    return ndtr(-noncentrality) + (_WEIGHTS * half * density * above).sum(1)


def _interpolated(place: Floats, grid: Floats, nu: float, probability: float) -> Floats:
    from scipy.interpolate import make_interp_spline

    spline = make_interp_spline(grid, _bisected(np.sinh(grid), nu, probability) / np.cosh(grid), k=5)
    return spline(place) * np.cosh(place)


def _bisected(t: Floats, nu: float, probability: float) -> Floats:
    """By bisection: the probability falls as the noncentrality rises."""
    from scipy.special import ndtri

    low, high = t - ndtri(probability) - 1.0, t - ndtri(probability) + 1.0
    for _ in range(_DOUBLINGS):
        too_high, too_low = cdf(t, nu, low) < probability, cdf(t, nu, high) > probability
        if not (too_high.any() or too_low.any()):
            break
        width = high - low
        low, high = np.where(too_high, low - width, low), np.where(too_low, high + width, high)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = cdf(t, nu, middle) > probability
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return (low + high) / 2
