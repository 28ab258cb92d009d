"""Sweeping a threshold over scores: the counting that metrics and threshold attacks share. NumPy only, no statistics."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Counts(NamedTuple):
    """Distinct scores from high to low, and how many members and non-members lie at or above each."""

    thresholds: NDArray[np.float64]
    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    members: int
    nonmembers: int


def check_scores(scores: Any, member: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores and membership as arrays. Errors: `ValueError` for NaN, other lengths, or only one of the two groups."""
    s, m = np.asarray(scores, dtype=np.float64), np.asarray(member)
    if s.ndim != 1 or s.shape != m.shape:
        raise ValueError(f"scores {s.shape} and member {m.shape} must be two lists of the same length")
    if np.isnan(s).any():
        raise ValueError(f"{int(np.isnan(s).sum())} of {len(s)} scores are NaN")
    if not np.isin(m, (0, 1)).all():
        raise ValueError("member must hold only 0/1 or False/True")
    m = m.astype(bool)
    if m.all() or not m.any():
        raise ValueError(f"both members and non-members are needed, got {int(m.sum())} members of {len(m)}")
    return s, m


def count(scores: Any, member: Any) -> Counts:
    s, m = check_scores(scores, member)
    order = np.argsort(-s, kind="stable")
    s, m = s[order], m[order]
    last = np.r_[s[1:] != s[:-1], True]  # the last row of every group of equal scores
    tp, fp = (np.cumsum(side, dtype=np.int64)[last] for side in (m, ~m))
    return Counts(s[last], tp, fp, int(tp[-1]), int(fp[-1]))


def best_threshold(scores: Any, member: Any) -> float:
    """The threshold of the rule score ≥ threshold with the highest ½ (TPR + TNR); +∞ where no rule beats chance.

    >>> best_threshold([0.9, 0.8, 0.1], [True, True, False])
    0.8
    """
    thresholds, tp, fp, members, nonmembers = count(scores, member)
    gain = tp / members - fp / nonmembers
    k = int(np.argmax(gain))
    return float(thresholds[k]) if gain[k] > 0 else math.inf
