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
from hampkit.stats.intervals import Interval, mean_of_seeds, number
from hampkit.stats.metrics import Point, allowed
from hampkit.stats.roc import Counts, count
from hampkit.stats.units import Units

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
    # (T, N), with one target (N,): pairs with one number are of one row, or of rows that are not independent; of one target,
    # all of them are members or none is
    rows: Any = None
    strict: bool = False  # error rates stay below their targets, instead of not exceeding them
    judged: NDArray[np.bool_] | None = None  # (T, N) if they differ between the targets; else all are

    @staticmethod
    def of(scores: Any, membership: Any, judged: Any = None, rows: Any = None, strict: bool = False) -> Pairs:
        """The pairs that are judged. One target may have arrays (N,).

        judged: (T, N) bool; default: all. rows: (T, N) or (N,): pairs with one number are of one row of the data set, or of rows
        that are not independent; default: column n is one row for every target. Raises: `ValueError` for other shapes.
        """
        s, m = np.atleast_2d(np.asarray(scores, dtype=np.float64)), np.atleast_2d(np.asarray(membership, dtype=bool))
        shapes = [np.shape(v) for v in (m, *(() if judged is None else (np.atleast_2d(judged),)))]
        if s.ndim != 2 or any(shape != s.shape for shape in shapes):
            raise ValueError(f"scores {s.shape}, membership and judged {shapes} must have the same shape (T, N)")
        given = rows if rows is None or len(s) > 1 else np.asarray(rows).reshape(-1)
        if judged is None:
            return Pairs(s, m, given, strict)
        kept = np.atleast_2d(np.asarray(judged, dtype=bool))
        targets, columns = kept.any(1) if len(s) > 1 else [True], kept.any(0)  # a target without judged pairs is none
        s, m, kept = s[targets][:, columns], m[targets][:, columns], kept[targets][:, columns]
        if given is not None:
            given = np.asarray(given)[..., columns]
            given = given[targets] if given.ndim == 2 else given
        if len(s) == 1:
            return Pairs(s, m, None if given is None else given.reshape(-1), strict)
        return Pairs(s, m, given, strict, None if kept.all() else kept)

    @staticmethod
    def joined(targets: Sequence[Pairs]) -> Pairs:
        """The pairs of several targets, or groups of targets, as those of one group.

        The targets may have different numbers of examples; equal rows are the same example.
        Raises: `ValueError` for no targets, and for targets without rows.
        """
        if not targets or any(part.rows is None for part in targets):
            raise ValueError(
                "pairs of several targets are joined by their rows: give at least one target, each with rows"
            )
        width = max(part.scores.shape[1] for part in targets)

        def padded(values: Any, of: Pairs) -> NDArray[Any]:
            whole = np.broadcast_to(values, of.scores.shape)
            return np.pad(whole, ((0, 0), (0, width - whole.shape[1])))

        scores, members, rows, judged = (
            np.concatenate([padded(values, part) for values, part in zip(each, targets, strict=True)])
            for each in (
                [part.scores for part in targets],
                [part.membership for part in targets],
                [part.rows for part in targets],
                [True if part.judged is None else part.judged for part in targets],
            )
        )
        return Pairs.of(scores, members, judged, rows, any(part.strict for part in targets))

    def __len__(self) -> int:
        """T."""
        return len(self.scores)

    def auc(self, level: float = 0.95) -> Interval:
        """The AUC over all pairs."""
        if len(self) == 1:
            return grouped.auc_interval(self.scores[0], self.membership[0], self.rows, level)
        return clustered.auc_interval(self.scores, self.membership, self.rows, level, self.judged)

    def auc_within(self, level: float = 0.95) -> Interval:
        """The mean of the AUCs of single targets."""
        if len(self) == 1:
            return self.auc(level)
        return clustered.auc_within(self.scores, self.membership, self.rows, level, self.judged)

    def rates(self, at: Sequence[float]) -> Rates:
        """The TPR at target FPRs and the TNR at target FNRs, and whether equal scores cost one of them at the first rate.

        All pairs are sorted once: there may be millions.
        """
        if len(self) == 1:
            scores, member, rows = self.scores[0], self.membership[0], self.rows
            tpr = [grouped.tpr_point(scores, member, rate, self.strict, rows) for rate in at]
            tnr = [grouped.tnr_point(scores, member, rate, self.strict, rows) for rate in at]
            return Rates(tpr, tnr, tied(count(scores, member), at[0], self.strict))
        pooled = clustered.Pooled.of(self.scores, self.membership, self.rows, self.strict, judged=self.judged)
        tpr, cost = clustered.points(pooled, at), _tied_at(pooled.counts, at[0], self.strict)
        pooled = pooled.exchanged()
        tnr, cost = clustered.points(pooled, at), cost or _tied_at(pooled.counts, at[0], self.strict)
        return Rates([(p, (p.low, p.high)) for p in tpr], [(p, (p.low, p.high)) for p in tnr], cost)

    def alone(self, t: int) -> Pairs:
        """The pairs of one target. Its members and non-members with the same row count as two."""
        judged = slice(None) if self.judged is None else self.judged[t]
        member = self.membership[t][judged]
        rows = None if self.rows is None else np.broadcast_to(self.rows, self.scores.shape)[t][judged]
        rows = None if rows is None else 2 * np.unique(rows, return_inverse=True)[1] + member
        return Pairs(self.scores[t][judged][None], member[None], rows, self.strict)

    def each_alone(self) -> list[Pairs]:
        """The pairs of each target."""
        return [self.alone(t) for t in range(len(self))]

    def of_means(self, at: Sequence[float], overlap: float = 0.0) -> tuple[Rates, tuple[float, float]]:
        """The means over targets of their rates, and the smallest `independent` numbers of any target.

        Each target has a threshold of its own; that of the mean is NaN. overlap: see `intervals.mean_of_seeds`.
        """
        alone = self.each_alone()
        each = [pairs.rates(at) for pairs in alone]
        tpr = [_mean(points, overlap) for points in zip(*(rates.tpr for rates in each), strict=True)]
        tnr = [_mean(points, overlap) for points in zip(*(rates.tnr for rates in each), strict=True)]
        members, nonmembers = map(min, zip(*(pairs.independent() for pairs in alone), strict=True))
        return Rates(tpr, tnr, any(rates.tied for rates in each)), (members, nonmembers)

    def sides(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(T, N) bool each: the judged pairs of members, and those of non-members."""
        if self.judged is None:
            return self.membership, ~self.membership
        return self.membership & self.judged, ~self.membership & self.judged

    def flat(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """(P,) scores and membership of the P judged pairs."""
        if self.judged is None:
            return self.scores.ravel(), self.membership.ravel()
        return self.scores[self.judged], self.membership[self.judged]

    def independent(self) -> tuple[float, float]:
        """The effective numbers of independent pairs with members and with non-members."""
        if len(self) > 1:
            share = Units.of(self.rows, self.scores.shape if self.judged is None else self.judged).share
            members, nonmembers = (share * int(side.sum()) for side in self.sides())
            return members, nonmembers
        of_sides = [None if self.rows is None else np.asarray(self.rows)[side[0]] for side in self.sides()]
        members, nonmembers = (number(u, int(side.sum())) for u, side in zip(of_sides, self.sides(), strict=True))
        return members, nonmembers

    def balanced_accuracy(self, threshold: float) -> Interval:
        """½ (TPR + TNR) of the rule score ≥ threshold. Raises: `ValueError` for several targets."""
        if len(self) != 1:
            raise ValueError(f"a balanced accuracy is of one target, not of {len(self)}")
        return grouped.balanced_point(self.scores[0], self.membership[0], threshold, self.rows)


def _mean(points: Sequence[tuple[Point, Outer]], overlap: float) -> tuple[Point, Outer]:
    """The mean of one rate of several targets, with its interval for the target rate exactly; counts are sums."""
    mean = mean_of_seeds([Interval(p.value, *outer) for p, outer in points], overlap)
    hits, of, errors = (sum(getattr(p, name) for p, _ in points) for name in ("hits", "of", "errors"))
    return Point(mean.value, mean.low, mean.high, hits, of, errors, float("nan")), (mean.low, mean.high)


def mean_auc(parts: Sequence[Pairs], level: float = 0.95, correlation: float = 0.0) -> Interval:
    """The mean AUC of two parts: halves of one target's examples, or halves of the targets.

    correlation: of their errors, beyond what they share as pairs of the same example; 0 if there is no more.
    """
    if all(len(part) == 1 for part in parts):
        given = [(p.scores[0], p.membership[0], p.rows) for p in parts]
        return grouped.mean_auc(given, level, correlation)
    assert all(part.judged is None for part in parts), "parts of targets with splits of their own"
    return clustered.mean_auc([(p.scores, p.membership) for p in parts], parts[0].rows, level, correlation)


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
