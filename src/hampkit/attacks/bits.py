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
    penalty = np.diag([1e-8, *[RIDGE] * x.shape[2]])
    found = np.zeros((len(x), features.shape[2]))
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-np.einsum("bmr,br->bm", features, found)))
        slope = np.einsum("bm,bmr->br", np.where(used, p - member, 0.0), features) + np.einsum(
            "rs,bs->br", penalty, found
        )
        curve = np.einsum("bm,bmr,bms->brs", np.where(used, p * (1 - p), 0.0), features, features) + penalty
        step = np.linalg.solve(curve, slope[..., None])[..., 0]
        found -= step
        if np.abs(step).max() < TOLERANCE:
            break
    return found
