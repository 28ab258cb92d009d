"""The attacks of Ye et al. 2022, with a threshold from a population (P) or from shadow models per example (R)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hampkit.attacks.base import Scores, Shadows, ShadowScores, SignalAttack
from hampkit.attacks.held_out import blocks, sides
from hampkit.errors import UserError

YE = "https://arxiv.org/abs/2111.09679"


def attack_r_scores(shadows: ShadowScores, target_scores: Any) -> Scores:
    """The share of OUT models whose score of an example is at most the target's (N,): (N,).

    Any signal that increases with the probability of the true label gives the same result.
    Raises: `UserError` for an example without an OUT model.
    """
    s, t = np.asarray(shadows.scores), np.asarray(target_scores)
    _, outside = sides(shadows.members, shadows.counts)
    counts = outside.sum(0)
    _check_counts(counts, len(s))
    return ((s <= t) & outside).sum(0) / counts


def _check_counts(counts: Any, n_models: int) -> None:
    if counts.min(initial=1) < 1:
        raise UserError(
            f"{int((counts < 1).sum())} of {len(counts)} examples have no OUT model among {n_models} shadow models; take more"
            " (--shadows)"
        )


def _no_higher(s: Any, outside: Any) -> NDArray[np.int16]:
    """The number of OUT models of an example whose score is at most that of each model: (M, N), (M, N) bool → (M, N)."""
    found = np.empty(s.shape, dtype=np.int16)
    for rows in blocks(s.shape[1], 512):
        order = np.argsort(s[:, rows], axis=0)
        part, counted = (np.take_along_axis(a[:, rows], order, axis=0) for a in (s, outside))
        below = np.cumsum(counted, axis=0, dtype=np.int16)
        below[:-1][part[:-1] == part[1:]] = np.iinfo(np.int16).max  # equal scores all get the count of the last
        below = np.minimum.accumulate(below[::-1], axis=0)[::-1]
        np.put_along_axis(found[:, rows], order, below, axis=0)
    return found


def attack_p_scores(target_scores: Any, target_population: Any) -> Scores:
    """The share of the population with at most the score of the example: (N,), (Z,) → (N,).

    Raises: `UserError` for an empty population.
    """
    z = np.sort(np.asarray(target_population, dtype=np.float64))
    if not len(z):
        raise UserError("attack-p needs at least one population example")
    return np.searchsorted(z, np.asarray(target_scores, dtype=np.float64), side="right") / len(z)


@dataclass(frozen=True)
class AttackR(SignalAttack):
    """Predicts membership where the confidence in the true label is higher than that of most OUT models."""

    name: ClassVar[str] = "attack-r"
    paper: ClassVar[str] = YE
    reference: ClassVar[str] = "Ye et al. 2022"

    def score_signals(self, target: Scores, background: Scores, shadows: Shadows | None) -> Scores:
        """`attack_r_scores` (N,) of the first view."""
        assert shadows is not None
        # shadow models' answers are stored as float32, so the target's are rounded alike
        return attack_r_scores(shadows.scores(), target[:, 0].astype(np.float32))

    def repeat(self, shadows: Shadows, targets: Sequence[int]) -> Iterator[Scores]:
        """As `SignalAttack.repeat`, scores (N,) for each target, from one sort of all signals (M, N)."""
        s, held_out = shadows.signals(), shadows.held_out
        _, outside = sides(held_out.members, held_out.counted)
        no_higher, columns = _no_higher(s, outside), np.arange(s.shape[1])
        for t in targets:
            left = held_out.without(t)
            rows, counts = left.rows[1], left.sizes[1]
            _check_counts(counts, int(left.used.sum()))
            gone = outside[rows, columns] & (rows >= 0) & (s[rows, columns] <= s[t])
            yield (no_higher[t] - gone) / counts


@dataclass(frozen=True)
class AttackP(SignalAttack):
    """Predicts membership where the confidence in the true label is higher than for most of the population. No shadow models."""

    name: ClassVar[str] = "attack-p"
    paper: ClassVar[str] = YE
    reference: ClassVar[str] = "Ye et al. 2022"
    needs: ClassVar[tuple[str, ...]] = ("population",)

    def score_signals(self, target: Scores, background: Scores, shadows: Shadows | None) -> Scores:
        """`attack_p_scores` (N,) of the first view."""
        return attack_p_scores(target[:, 0], background)

    def repeat(self, shadows: Shadows, targets: Sequence[int]) -> Iterator[Scores]:
        """As `SignalAttack.repeat`, scores (N,) for each target; no other model is used."""
        s, background = shadows.signals(), shadows.background()
        for t in targets:
            yield attack_p_scores(s[t], background[t])
