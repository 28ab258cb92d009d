"""Counts over all thresholds of a score, shared by metrics and attacks. NumPy only, no intervals."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ALIKE = 0.999  # rank correlation from which two attacks count as one
_BLOCK = 1 << 20  # thresholds whose gain is in memory at once


class Counts(NamedTuple):
    """K distinct scores from high to low, with the numbers of members and non-members at or above each."""

    thresholds: NDArray[np.float64]  # (K,)
    tp: NDArray[np.signedinteger[Any]]  # (K,)
    fp: NDArray[np.signedinteger[Any]]  # (K,)
    n_members: int
    n_nonmembers: int

    def above(self, most: int) -> int:
        """The number of thresholds with at most this number of non-members at or above them."""
        # np.searchsorted would first copy millions of counts to another type
        return bisect_right(range(len(self.fp)), most, key=self.fp.__getitem__)

    def turned(self) -> Counts:
        """The counts of the negated scores with members and non-members exchanged, without another sort.

        The new counts take over the arrays, of which there may be millions of entries: these counts cannot be used any more.
        """
        for side, of in ((self.tp, self.n_members), (self.fp, self.n_nonmembers)):
            side[1:], side[0] = side[:-1].copy(), 0
            np.subtract(of, side, out=side)  # at or below a threshold = not above it
        np.negative(self.thresholds, out=self.thresholds)
        return Counts(self.thresholds[::-1], self.fp[::-1], self.tp[::-1], self.n_nonmembers, self.n_members)


def check_scores(scores: Any, member: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores (N,) and membership (N,) as arrays.

    Raises: `ValueError` for NaN, for lengths that differ, and if members or non-members are missing.
    """
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
    """The counts of scores (N,) and membership (N,).

    Raises: `ValueError` as `check_scores`.
    """
    s, m = check_scores(scores, member)
    order = np.argsort(s, kind="stable")[::-1]
    s, m = s[order], m[order]
    del order  # with millions of scores, every array in memory counts
    last = np.append(s[1:] != s[:-1], True)  # the last row of every group of equal scores
    size = np.int32 if len(s) < 2**31 else np.int64
    tp, fp = (np.cumsum(side, dtype=size)[last] for side in (m, ~m))
    return Counts(s if last.all() else s[last], tp, fp, int(tp[-1]), int(fp[-1]))


def auc(of_members: Any, of_nonmembers: Any) -> float:
    """The share of pairs in which the member has the higher score, from (m,) and (n,) scores; ties count half.

    >>> auc([0.9, 0.5], [0.5])
    0.75
    """
    high, low = np.sort(of_members), np.sort(of_nonmembers)
    below = np.searchsorted(low, high)
    tied = low[np.minimum(below, len(low) - 1)] == high
    ties = np.searchsorted(low, high[tied], side="right") - below[tied]
    return float((below.sum() + ties.sum() / 2) / len(high) / len(low))


def same_order(scores: Mapping[str, Any]) -> dict[str, str]:
    """For each attack the first attack in the mapping that orders the examples alike; attacks with one order are one attack.

    scores: attack → (N,). Two orders are alike if their rank correlation (Spearman's, of mid-ranks) is at least `ALIKE`. The
    loss has the order of the confidence, and so has the share of a population below the confidence, except for ties.

    >>> same_order({"confidence": [0.9, 0.5, 0.1], "loss": [-0.1, -0.7, -2.3], "correctness": [1, 1, 0]})
    {'confidence': 'confidence', 'loss': 'confidence', 'correctness': 'correctness'}
    """
    ranks = {name: _centered_ranks(np.asarray(s, dtype=np.float64)) for name, s in scores.items()}
    found: dict[str, str] = {}
    for name, mine in ranks.items():
        first = (other for other in dict.fromkeys(found.values()) if _alike(mine, ranks[other]))
        found[name] = next(first, name)
    return found


def _centered_ranks(s: NDArray[np.float64]) -> NDArray[np.float64]:
    _, of, counts = np.unique(s, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - counts / 2)[of] - len(s) / 2


def _alike(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    squares = float(np.square(a).sum()), float(np.square(b).sum())
    if 0.0 in squares:  # all scores are equal
        return squares[0] == squares[1]
    return float((a * b).sum()) >= ALIKE * math.sqrt(squares[0] * squares[1])


def best_threshold(scores: Any, member: Any) -> float:
    """The threshold of the rule score ≥ threshold with the highest ½ (TPR + TNR) of scores (N,); +∞ if none beats chance.

    Raises: `ValueError` as `check_scores`.

    >>> best_threshold([0.9, 0.8, 0.1], [True, True, False])
    0.8
    """
    thresholds, tp, fp, n_members, n_nonmembers = count(scores, member)
    best, found = 0.0, math.inf
    for start in range(0, len(tp), _BLOCK):
        gain = tp[start : start + _BLOCK] / n_members - fp[start : start + _BLOCK] / n_nonmembers
        k = int(np.argmax(gain))
        if gain[k] > best:
            best, found = float(gain[k]), float(thresholds[start + k])
    return found
