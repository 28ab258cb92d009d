"""The numbers of scores of pairs, each of one of T targets and one of N examples, with the intervals that fit.

With one target, the examples (or their groups) are independent of each other: DeLong's variance, see `hampkit.stats.grouped`.
With several, pairs of one target and pairs of one example are not: the variance is clustered by both, see
`hampkit.stats.clustered`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hampkit.stats import clustered, grouped
from hampkit.stats.intervals import Interval, number
from hampkit.stats.metrics import Point, allowed
from hampkit.stats.roc import Counts, count

Outer = tuple[float, float]  # the interval of a rate for the target FPR or FNR exactly


class Rates(NamedTuple):
    """Operating points, each with its interval for the target rate exactly."""

    tpr: list[tuple[Point, Outer]]
    tnr: list[tuple[Point, Outer]]
    tied: bool  # equal scores cost the TPR or the TNR at the first target rate


@dataclass(frozen=True)
class Pairs:
    """Scores and membership of T targets."""

    scores: NDArray[np.float64]  # (T, N)
    membership: NDArray[np.bool_]  # (T, N): example n is a member of target t
    # (N,) examples with the same number are not independent; with one target, all of them are members, or none is
    units: Any = None
    strict: bool = False  # error rates stay below their targets, instead of not exceeding them

    @staticmethod
    def of(scores: Any, membership: Any, judged: Any = None, units: Any = None, strict: bool = False) -> Pairs:
        """The pairs that are judged. One target may have arrays (N,).

        judged: (T, N) bool, the same for every target; default: all. Raises: `ValueError` for judged pairs that differ by target.
        """
        s, m = np.atleast_2d(np.asarray(scores, dtype=np.float64)), np.atleast_2d(np.asarray(membership, dtype=bool))
        if judged is not None:
            kept = np.atleast_2d(np.asarray(judged, dtype=bool))
            if (kept.any(0) != kept.all(0)).any():
                raise ValueError("the judged examples must be the same for every target")
            columns = kept.all(0)
            s, m, units = s[:, columns], m[:, columns], None if units is None else np.asarray(units)[columns]
        return Pairs(s, m, units, strict)

    def __len__(self) -> int:
        """T."""
        return len(self.scores)

    def auc(self, level: float = 0.95) -> Interval:
        """The AUC over all pairs."""
        if len(self) == 1:
            return grouped.auc_interval(self.scores[0], self.membership[0], self.units, level)
        return clustered.auc_interval(self.scores, self.membership, self.units, level)

    def auc_within(self) -> Interval | None:
        """The mean of the AUCs of single targets; None with one target."""
        return None if len(self) == 1 else clustered.auc_within(self.scores, self.membership, self.units)

    def rates(self, at: Sequence[float]) -> Rates:
        """The TPR at target FPRs and the TNR at target FNRs, and whether equal scores cost one of them at the first rate.

        All pairs are sorted once: there may be millions.
        """
        if len(self) == 1:
            scores, member, units = self.scores[0], self.membership[0], self.units
            tpr = [grouped.tpr_point(scores, member, rate, self.strict, units) for rate in at]
            tnr = [grouped.tnr_point(scores, member, rate, self.strict, units) for rate in at]
            return Rates(tpr, tnr, tied(count(scores, member), at[0], self.strict))
        pooled = clustered.Pooled.of(self.scores, self.membership, self.units, self.strict)
        tpr, cost = clustered.points(pooled, at), _tied_at(pooled.counts, at[0], self.strict)
        pooled = pooled.exchanged()
        tnr, cost = clustered.points(pooled, at), cost or _tied_at(pooled.counts, at[0], self.strict)
        return Rates([(p, (p.low, p.high)) for p in tpr], [(p, (p.low, p.high)) for p in tnr], cost)

    def independent(self) -> tuple[float, float]:
        """The effective numbers of independent pairs with members and with non-members."""
        sides = self.membership, ~self.membership
        if len(self) > 1:
            each = number(self.units, self.scores.shape[1]) / self.scores.shape[1]
            members, nonmembers = (each * int(side.sum()) for side in sides)
            return members, nonmembers
        units = [None if self.units is None else np.asarray(self.units)[side[0]] for side in sides]
        members, nonmembers = (number(u, int(side.sum())) for u, side in zip(units, sides, strict=True))
        return members, nonmembers

    def balanced_accuracy(self, threshold: float) -> Interval:
        """½ (TPR + TNR) of the rule score ≥ threshold. Raises: `ValueError` for several targets."""
        if len(self) != 1:
            raise ValueError(f"a balanced accuracy is of one target, not of {len(self)}")
        return grouped.balanced_point(self.scores[0], self.membership[0], threshold, self.units)


def mean_auc(parts: Sequence[Pairs], level: float = 0.95, correlation: float = 0.0) -> Interval:
    """The mean AUC of two parts: halves of one target's examples, or halves of the targets.

    correlation: of their errors, apart from what they share as pairs of the same example.
    """
    if all(len(part) == 1 for part in parts):
        given = [(p.scores[0], p.membership[0], p.units) for p in parts]
        return grouped.mean_auc(given, level, correlation)
    return clustered.mean_auc([(p.scores, p.membership) for p in parts], parts[0].units, level, correlation)


def tied(counts: Counts, rate: float, strict: bool = False) -> bool:
    """Whether equal scores cost the TPR or the TNR at a target rate. It takes over the arrays of the counts."""
    return _tied_at(counts, rate, strict) or _tied_at(counts.turned(), rate, strict)


def _tied_at(counts: Counts, rate: float, strict: bool) -> bool:
    """Whether the highest scores below the threshold of the TPR at this rate are shared by members and non-members."""
    k = counts.above(allowed(rate, counts.n_nonmembers, strict))
    if k >= len(counts.thresholds):
        return False
    members, nonmembers = (int(side[k]) - (int(side[k - 1]) if k else 0) for side in (counts.tp, counts.fp))
    return members > 0 and nonmembers > 0
