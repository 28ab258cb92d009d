"""A logistic regression for each example, from R bits of an answer to membership, fitted on shadow models.

Axes: N examples, M models, R bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]

RIDGE = 1.0  # weight of the squared coefficients, as scikit-learn's default C = 1
STEPS = 25  # of Newton's method at most
TOLERANCE = 1e-10  # of a step, in coefficients
BLOCK = 256  # examples at once


def bit_scores(bits: Any, members: Any, counted: Any, target: Any) -> Scores:
    """The log-odds (N,) of membership of the target's bits (N, R) under a ridge logistic regression for each example.

    bits: (M, N, R). members: (M, N) bool. counted: (M, N) bool, which models are used; None: all. Minimised is
    Σ_m ln(1 + exp(−s_m (b + w·x_m))) + RIDGE/2 · |w|², with s_m = 1 for an IN model and −1 for an OUT model; b is not penalised.
    """
    m = np.asarray(members, dtype=bool)
    used = np.ones(m.shape, dtype=bool) if counted is None else np.asarray(counted, dtype=bool)
    scores = np.empty(m.shape[1])
    for start in range(0, m.shape[1], BLOCK):
        rows = slice(start, start + BLOCK)
        x = np.moveaxis(np.asarray(bits[:, rows], dtype=np.float64), 0, 1)  # (B, M, R)
        coefficients = _fitted(x, m[:, rows].T, used[:, rows].T)
        here = np.asarray(target[rows], dtype=np.float64)
        scores[rows] = coefficients[:, 0] + (here * coefficients[:, 1:]).sum(-1)
    return scores


def _fitted(x: Scores, member: NDArray[np.bool_], used: NDArray[np.bool_]) -> Scores:
    """Intercept and coefficients (B, 1 + R) by Newton's method; (B, M, R), (B, M) bool, (B, M) bool."""
    features = np.concatenate([np.ones((*x.shape[:2], 1)), x], axis=2)
    penalty = np.array([1e-8, *[RIDGE] * x.shape[2]])
    found = np.zeros((len(x), features.shape[2]))
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-_times(features, found)))
        slope = _transposed(features, np.where(used, p - member, 0.0)) + penalty * found
        step = _solved(features, np.where(used, p * (1 - p), 0.0), penalty, slope)
        found -= step
        if np.abs(step).max() < TOLERANCE:
            break
    return found


def _solved(features: Scores, weights: Scores, penalty: Scores, slope: Scores) -> Scores:
    """(Fᵀ W F + penalty)⁻¹ slope for each example, by conjugate gradients: sums alone, which no number of threads changes."""

    def curved(v: Scores) -> Scores:
        return _transposed(features, weights * _times(features, v)) + penalty * v

    found, rest = np.zeros_like(slope), slope.copy()
    direction, size = rest.copy(), (rest * rest).sum(1, keepdims=True)
    enough = 1e-24 * size + 1e-300
    for _ in range(4 * slope.shape[1]):
        if (size <= enough).all():
            break
        image = curved(direction)
        step = np.where(size > enough, size / np.maximum((direction * image).sum(1, keepdims=True), 1e-300), 0.0)
        found += step * direction
        rest -= step * image
        before, size = size, (rest * rest).sum(1, keepdims=True)
        direction = rest + np.where(before > enough, size / np.maximum(before, 1e-300), 0.0) * direction
    return found


def _times(features: Scores, v: Scores) -> Scores:
    """F v: (B, M, R), (B, R) → (B, M)."""
    return (features * v[:, None, :]).sum(2)


def _transposed(features: Scores, v: Scores) -> Scores:
    """Fᵀ v: (B, M, R), (B, M) → (B, R)."""
    return (features * v[:, :, None]).sum(1)
