"""The attacks of Ye et al. 2022 that LiRA and RMIA are measured against: thresholds from the population, and per example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hampkit.attacks.base import Scores, Shadows, SignalAttack, sides
from hampkit.errors import UserError

YE = "https://arxiv.org/abs/2111.09679"


def attack_r_scores(shadow_scores: Any, shadow_members: Any, target_scores: Any, shadow_counts: Any = None) -> Scores:
    """Share of the OUT models that give the example no higher a score than the target: (M, N), (M, N), (N,) → (N,).

    Any signal that grows with the true label's probability gives the same result. shadow_counts: (M, N) bool, whose answer to
    which example counts; default all.
    """
    s, t = np.asarray(shadow_scores), np.asarray(target_scores)
    _, outside = sides(shadow_members, shadow_counts)
    counts = outside.sum(0)
    if counts.min(initial=1) < 1:
        raise UserError(
            f"{int((counts < 1).sum())} of {len(counts)} examples have no OUT model among {len(s)} shadow models; train more"
        )
    return ((s <= t) & outside).sum(0) / counts


def attack_p_scores(target_scores: Any, target_population: Any) -> Scores:
    """Share of the population with no higher a score than the example: (N,), (Z,) → (N,)."""
    z = np.sort(np.asarray(target_population, dtype=np.float64))
    if not len(z):
        raise UserError("attack-p needs at least one population example")
    return np.searchsorted(z, np.asarray(target_scores, dtype=np.float64), side="right") / len(z)


@dataclass(frozen=True)
class AttackR(SignalAttack):
    """Says member where the target is surer of the true label than most models that did not see the example."""

    name: ClassVar[str] = "attack-r"
    paper: ClassVar[str] = YE
    reference: ClassVar[str] = "Ye et al. 2022"

    def compare(self, target: Scores, background: Scores, shadows: Shadows | None) -> Scores:
        assert shadows is not None
        # the shadow models' answers are kept as float32: compare like with like
        t = target[:, 0].astype(np.float32)
        return attack_r_scores(shadows.signals(), shadows.membership(), t, shadows.counted())


@dataclass(frozen=True)
class AttackP(SignalAttack):
    """Says member where the model is surer of the true label than it is for most of the population; needs no shadow models."""

    name: ClassVar[str] = "attack-p"
    paper: ClassVar[str] = YE
    reference: ClassVar[str] = "Ye et al. 2022"
    needs: ClassVar[tuple[str, ...]] = ("population",)

    def compare(self, target: Scores, background: Scores, shadows: Shadows | None) -> Scores:
        return attack_p_scores(target[:, 0], background)
