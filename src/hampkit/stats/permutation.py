"""Permutation tests of single records: how often a random choice of models separates their signals as well as the true one."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MOST_MODELS = 16  # whose 12,870 ways to choose 8 are enumerated
_CELLS = 4_000_000  # records × splits that are held at once


def permutation_p(signals: Floats, members: Bools) -> tuple[Floats, Floats]:
    """One-sided p-values (N,): that the models with a record have higher signals, and that they have lower ones.

    signals, members: (M, N); each record has n₁ models with it and n₀ without. p is the share of the ways to choose n₁ of the M
    models in which the sum of their signals is at least (at most) the one that was found. With up to `MOST_MODELS` all ways are
    enumerated; otherwise the sum is taken as normal with the variance n₁n₀S²/M, S² the sample variance of all M signals. Nothing
    is assumed about the distribution of the signals, so that no p is below one over the number of ways.

    >>> permutation_p(np.array([[3.0], [2.0], [1.0], [0.0]]), np.array([[True], [True], [False], [False]]))[0].round(3)
    array([0.167])
    """
    upper, lower = np.ones(signals.shape[1]), np.ones(signals.shape[1])
    centred = signals - signals.mean(0)
    counts = members.sum(0)
    for n1 in np.unique(counts):
        rows = np.flatnonzero(counts == n1)
        test = _enumerated if len(signals) <= MOST_MODELS else _normal
        upper[rows], lower[rows] = test(centred[:, rows], members[:, rows])
    return upper, lower


def least_p(models: int) -> float:
    """The smallest p of a record that half of the models were trained on: one over the number of ways to choose them.

    >>> round(least_p(4), 3), round(least_p(8), 4)
    (0.167, 0.0143)
    """
    return 1 / math.comb(models, models // 2)


def _enumerated(centred: Floats, members: Bools) -> tuple[Floats, Floats]:
    """All sums of n₁ of the M signals are a sum over some of the first half of the models plus one over some of the others."""
    models, n1 = len(centred), int(members[:, 0].sum())
    first, second = (_size(half) for half in (models // 2, models - models // 2))
    one, other = np.nonzero(first[:, None] + second == n1)
    found = np.where(members, centred, 0.0).sum(0)
    rounding = 1e-9 * np.abs(centred).max(0) * models  # of equal sums, added in another order
    upper, lower = np.empty_like(found), np.empty_like(found)
    step = max(1, _CELLS // len(one))
    for start in range(0, len(found), step):
        part = slice(start, start + step)
        sums = _sums(centred[: models // 2, part])[one] + _sums(centred[models // 2 :, part])[other]
        upper[part] = (sums >= found[part] - rounding[part]).mean(0)
        lower[part] = (sums <= found[part] + rounding[part]).mean(0)
    return upper, lower


def _sums(values: Floats) -> Floats:
    """The sums (2ⁿ, N) over every choice among n rows (n, N)."""
    sums = np.zeros((1, values.shape[1]))
    for row in values:
        sums = np.concatenate([sums, sums + row])
    return sums


def _size(n: int) -> NDArray[np.int64]:
    """(2ⁿ,) the number of rows in each choice of `_sums`."""
    return _sums(np.ones((n, 1)))[:, 0].astype(np.int64)


def _normal(centred: Floats, members: Bools) -> tuple[Floats, Floats]:
    from scipy.special import ndtr

    models, n1 = len(centred), int(members[:, 0].sum())
    spread = np.sqrt(n1 * (models - n1) / models * (centred**2).sum(0) / (models - 1))
    found = np.where(members, centred, 0.0).sum(0)
    z = np.divide(found, spread, out=np.zeros_like(found), where=spread > 0)
    return ndtr(-z), ndtr(z)
