"""RMIA (Zarifzadeh et al. 2024): a member is likelier under the target than it usually is.

Two scores. ``log-ratio`` is ln p(x | target) − ln p(x). ``share`` is the published one: the share of a population that the ratio
of x exceeds by a factor gamma. Within one target both have the same order: the share is a non-decreasing function of the
log ratio, and where it is constant our share is split by the log ratio. Across targets the share is not comparable, because it
depends on how the target answers the population.

Two later attacks have the order of the log ratio too, and are not attacks of their own here. BASE (Lassila et al. 2025,
arXiv 2505.24089) is ln p(x | target) minus the log mean over the shadow models: ``rmia`` where both sides have as many models,
``rmia-offline`` with a = 1. InfoRMIA (Tao and Shokri 2025, arXiv 2510.05582) corrects the log ratio by a divergence over the
population, one number per target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from hampkit.attacks.base import HeldOut, Scores, Shadows, SignalAttack, blocks, sides
from hampkit.errors import UserError
from hampkit.ranking import count

Score = Literal["log-ratio", "share"]

GRID = tuple(k / 10 for k in range(11))  # of a, as in the paper's own search
USUAL_A = 0.3  # where there is nothing to choose it by
USUAL_GAMMA = 2.0  # as in the paper
MOCK_TARGETS = 4  # shadow models that are attacked to choose a


def log_ratio(
    shadow_scores: Any,
    shadow_members: Any,
    target_scores: Any,
    a: float = USUAL_A,
    offline: bool = False,
    shadow_counts: Any = None,
) -> Scores:
    """ln p(x | target) − ln p(x): (M, N), (M, N) bool, (N,) → (N,), higher means member.

    All scores are scaled logits φ, p = σ(φ). p(x) online: ½ (mean over IN models + mean over OUT models); offline, where
    p_in = a · p_out + 1 − a is supposed: ½ ((1 + a) · mean over OUT models + 1 − a). shadow_counts: (M, N) bool, whose answer
    to which example counts; default all. In logarithms throughout: probabilities of 1e-4000 are as good as any.
    Source: arXiv 2312.03262. Errors: `UserError` for a outside [0, 1], or an example without a model on a side that is needed.
    """
    if not 0 <= a <= 1:
        raise UserError(f"a={a} must lie in [0, 1]")
    s, t = np.asarray(shadow_scores), np.asarray(target_scores, dtype=np.float64)
    m = np.asarray(shadow_members, dtype=bool)
    if s.ndim != 2 or m.shape != s.shape or t.shape != s.shape[1:]:
        raise ValueError(f"shadow scores {s.shape}, members {m.shape}, target {t.shape} must be (M, N), (M, N), (N,)")
    if not (np.isfinite(s).all() and np.isfinite(t).all()):
        raise ValueError("shadow and target scores must be finite")
    inside, outside = sides(m, shadow_counts)
    out = _log_mean(s, outside, "OUT")
    usual = _usual(out, a) if offline else np.logaddexp(_log_mean(s, inside, "IN"), out) - np.log(2)
    return _log_sigmoid(t) - usual


def rmia_scores(
    shadow_scores: Any,
    shadow_members: Any,
    target_scores: Any,
    shadow_population: Any,
    target_population: Any,
    gamma: float = USUAL_GAMMA,
    a: float = USUAL_A,
    offline: bool = False,
    smooth: bool = False,
    shadow_counts: Any = None,
) -> Scores:
    """Share of the population that an example dominates: (M, N), (M, N) bool, (N,), (M, Z), (Z,) → (N,), higher means member.

    Λ = p(x | target) / p(x), see `log_ratio`; the score is the share of population examples z with Λ(x) / Λ(z) ≥ gamma. No model
    was trained on z, so that p(z) is always the offline one. smooth: ties are broken by Λ itself, without changing the order of
    distinct scores. Source: arXiv 2312.03262. Errors: as `log_ratio`, and `UserError` for gamma ≤ 0 or no population.
    """
    if not gamma > 0:
        raise UserError(f"gamma={gamma} must be above 0")
    x = log_ratio(shadow_scores, shadow_members, target_scores, a, offline, shadow_counts)
    others = np.asarray(shadow_population)
    if shadow_counts is not None:  # a model none of whose answers counts plays no part here either
        others = others[np.asarray(shadow_counts).any(axis=1)]
    z = log_ratio(others, np.zeros(others.shape, dtype=bool), target_population, a, offline=True)
    if not len(z):
        raise UserError("RMIA needs at least one population example")
    return _dominated(x, z, gamma, smooth)


def choose_a(shadow_scores: Any, shadow_members: Any, mocks: int = MOCK_TARGETS, shadow_counts: Any = None) -> float:
    """The a with which an offline attack on some of the shadow models, by the others, has the highest mean AUC.

    The target and its members play no part. The AUC of one model is the same by log ratio and by share. Of equal ones the
    smallest; where no model can be attacked by the others, the usual one.
    """
    s, m = np.asarray(shadow_scores), np.asarray(shadow_members, dtype=bool)
    valid = np.ones(m.shape, dtype=bool) if shadow_counts is None else np.asarray(shadow_counts, dtype=bool)
    found, held_out = np.zeros(len(GRID)), HeldOut(m, valid)
    for t in np.flatnonzero(valid.any(axis=1))[:mocks]:
        _, out = sides(m, held_out.counts(t))
        covered = out.any(0) & valid[t]  # an example that every other model was trained on has no OUT model
        if not m[t, covered].any() or m[t, covered].all():
            continue
        usual = _log_mean(s, out, "OUT", covered)
        target = _log_sigmoid(s[t, covered].astype(np.float64))
        found += [_auc(target - _usual(usual, a), m[t, covered]) for a in GRID]
    return GRID[int(found.argmax())] if found.any() else USUAL_A


def _dominated(x: Scores, z: Scores, gamma: float, smooth: bool) -> Scores:
    """The share of z with x − z ≥ ln gamma, for every x."""
    count = np.searchsorted(np.sort(z), x - np.log(gamma), side="right")
    return (count + 0.5 + np.arctan(x) / np.pi) / (len(z) + 1) if smooth else count / len(z)


def _usual(out: Scores, a: float) -> Scores:
    """ln p(x) from the mean over OUT models alone."""
    with np.errstate(divide="ignore"):  # a = 1: nothing is added
        return np.logaddexp(np.log1p(a) + out, np.log(1 - a)) - np.log(2)


def _log_mean(s: Any, chosen: Any, name: str, columns: Any = None) -> Scores:
    """ln of the mean probability over the chosen models, of every example (of some: ``columns`` (N,) bool)."""
    counts = chosen.sum(0) if columns is None else chosen.sum(0)[columns]
    if counts.min(initial=1) < 1:
        raise UserError(
            f"{int((counts < 1).sum())} of {len(counts)} examples have no {name} model among {len(s)} shadow models;"
            " train more" + (", or take the offline attack" if name == "IN" else "")
        )
    means = [_log_sum(s[:, rows], chosen[:, rows]) for rows in blocks(s.shape[1])]
    whole = np.concatenate(means) if means else np.empty(0)
    return (whole if columns is None else whole[columns]) - np.log(counts)


def _log_sum(s: Any, chosen: Any) -> Scores:
    """ln of the summed probabilities of the chosen ones, −∞ where there are none."""
    kept = np.where(chosen, _log_sigmoid(s.astype(np.float64)), -np.inf)
    top = kept.max(0)
    with np.errstate(invalid="ignore"):
        return np.where(np.isneginf(top), top, top + np.log(np.exp(kept - top).sum(0)))


def _log_sigmoid(s: Scores) -> Scores:
    return -np.logaddexp(0, -s)


def _auc(scores: Scores, member: Any) -> float:
    _, tp, fp, members, nonmembers = count(scores, member)
    return float(((tp + np.r_[0, tp[:-1]]) / 2 * np.diff(np.r_[0, fp])).sum() / members / nonmembers)


@dataclass(frozen=True)
class Rmia(SignalAttack):
    """Says member where the target finds the example likelier than it usually is."""

    name: ClassVar[str] = "rmia"
    paper: ClassVar[str] = "https://arxiv.org/abs/2312.03262"
    reference: ClassVar[str] = "Zarifzadeh et al. 2024"
    offline: ClassVar[bool] = False

    score: Score = "log-ratio"  # share: of the population that the example exceeds, as published
    gamma: float | None = None  # with score=share: the factor to exceed it by; none: 2, as in the paper
    a: float | None = None  # p_in = a · p_out + 1 − a where no model saw an example; none: chosen on shadow models

    def __post_init__(self) -> None:
        place = f"attacks.{self.name}"
        if self.gamma is not None and self.score != "share":
            raise UserError(
                f"{place}.gamma={self.gamma} has no effect with score={self.score}; add {place}.score=share,"
                " or leave gamma out"
            )
        if self.gamma is not None and not self.gamma > 0:
            raise UserError(f"{place}.gamma={self.gamma} must be above 0")
        if self.a is not None and self.score != "share" and not self.offline:
            raise UserError(
                f"{place}.a={self.a} has no effect with score={self.score}, because models were trained on every example;"
                f" add {place}.score=share, take rmia-offline, or leave a out"
            )
        if self.a is not None and not 0 <= self.a <= 1:
            raise UserError(f"{place}.a={self.a} must lie in [0, 1], or be none")

    def compare(self, target: Scores, background: Scores, shadows: Shadows | None) -> Scores:
        assert shadows is not None
        s, m, counted = shadows.signals(), shadows.membership(), shadows.counted()
        if self.score == "log-ratio":
            a = self._a(s, m, counted) if self.offline else USUAL_A
            return log_ratio(s, m, target[:, 0], a, self.offline, counted)
        gamma, a = self.gamma or USUAL_GAMMA, self._a(s, m, counted)
        z = shadows.background()
        return rmia_scores(s, m, target[:, 0], z, background, gamma, a, self.offline, True, counted)

    def _a(self, s: Any, m: Any, counted: Any) -> float:
        return choose_a(s, m, shadow_counts=counted) if self.a is None else self.a


@dataclass(frozen=True)
class RmiaOffline(Rmia):
    """RMIA without models that saw a candidate."""

    name: ClassVar[str] = "rmia-offline"
    offline: ClassVar[bool] = True
