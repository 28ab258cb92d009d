"""RMIA (Zarifzadeh et al. 2024): an example is a member if it is likelier under the target, compared with what is usual for it,
than most of the population is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hampkit.attacks.base import Scores, Shadows, SignalAttack, blocks, held_out, sides
from hampkit.errors import UserError
from hampkit.ranking import count

GRID = tuple(k / 10 for k in range(11))  # of a, as in the paper's own search
USUAL_A = 0.3  # where there is nothing to choose it by
MOCK_TARGETS = 4  # shadow models that are attacked to choose a


def rmia_scores(
    shadow_scores: Any,
    shadow_members: Any,
    target_scores: Any,
    shadow_population: Any,
    target_population: Any,
    gamma: float = 2.0,
    a: float = USUAL_A,
    offline: bool = False,
    smooth: bool = False,
    shadow_counts: Any = None,
) -> Scores:
    """Share of the population that an example dominates: (M, N), (M, N) bool, (N,), (M, Z), (Z,) → (N,), higher means member.

    All scores are scaled logits φ, p = σ(φ). The ratio of an example is Λ = p(x | target) / p(x), the score the share of
    population examples z with Λ(x) / Λ(z) ≥ gamma. p(x) online: ½ (mean over IN models + mean over OUT models); offline, and
    for z, which no model was trained on: ½ ((1 + a) · mean over OUT + 1 − a), that is, p_in = a · p_out + 1 − a is supposed.
    smooth: ties are broken by Λ itself, without changing the order of distinct scores. shadow_counts: (M, N) bool, whose
    answer to which example counts; default all. Source: arXiv 2312.03262.
    Errors: `UserError` for gamma ≤ 0, a outside [0, 1], or an example without a model on a side that is needed.
    """
    if not gamma > 0:
        raise UserError(f"gamma={gamma} must be above 0")
    if not 0 <= a <= 1:
        raise UserError(f"a={a} must lie in [0, 1]")
    x = _log_ratio(shadow_scores, shadow_members, target_scores, a, offline, shadow_counts)
    never = np.zeros(np.shape(shadow_population), dtype=bool)
    z = _log_ratio(shadow_population, never, target_population, a, offline=True)
    if not len(z):
        raise UserError("RMIA needs at least one population example")
    return _dominated(x, z, gamma, smooth)


def choose_a(
    shadow_scores: Any,
    shadow_members: Any,
    shadow_population: Any,
    gamma: float = 2.0,
    mocks: int = MOCK_TARGETS,
    shadow_counts: Any = None,
) -> float:
    """The a with which an offline attack on some of the shadow models, by the others, has the highest mean AUC.

    The target and its members play no part. Of equal ones the smallest; where no model can be attacked by the
    others, the usual one.
    """
    s, z = np.asarray(shadow_scores), np.asarray(shadow_population)
    m = np.asarray(shadow_members, dtype=bool)
    valid = np.ones(m.shape, dtype=bool) if shadow_counts is None else np.asarray(shadow_counts, dtype=bool)
    found = np.zeros(len(GRID))
    for t in range(min(mocks, len(s))):
        counts = held_out(t, m, valid)
        _, out = sides(m, counts)
        covered = out.any(0) & valid[t]  # an example that every other model was trained on has no OUT model
        if not m[t, covered].any() or m[t, covered].all():
            continue
        out_x = _log_mean(s, out, "OUT", covered)
        out_z = _log_mean(z, np.broadcast_to(counts.any(axis=1, keepdims=True), z.shape), "OUT")
        for k, a in enumerate(GRID):
            ratio_x = _log_sigmoid(s[t, covered].astype(np.float64)) - _usual(out_x, a)
            ratio_z = _log_sigmoid(z[t].astype(np.float64)) - _usual(out_z, a)
            found[k] += _auc(_dominated(ratio_x, ratio_z, gamma, smooth=True), m[t, covered])
    return GRID[int(found.argmax())] if found.any() else USUAL_A


def _dominated(x: Scores, z: Scores, gamma: float, smooth: bool) -> Scores:
    """The share of z with x − z ≥ ln gamma, for every x."""
    count = np.searchsorted(np.sort(z), x - np.log(gamma), side="right")
    return (count + 0.5 + np.arctan(x) / np.pi) / (len(z) + 1) if smooth else count / len(z)


def _usual(out: Scores, a: float) -> Scores:
    """ln p(x) from the mean over OUT models alone."""
    with np.errstate(divide="ignore"):  # a = 1: nothing is added
        return np.logaddexp(np.log1p(a) + out, np.log(1 - a)) - np.log(2)


def _log_ratio(
    shadow_scores: Any, shadow_members: Any, target_scores: Any, a: float, offline: bool, shadow_counts: Any = None
) -> Scores:
    """ln p(x | target) − ln p(x), in logarithms throughout: probabilities of 1e-4000 are as good as any."""
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
    """Says member where the target finds the example likelier than usual by more than it does for most of the population."""

    name: ClassVar[str] = "rmia"
    paper: ClassVar[str] = "https://arxiv.org/abs/2312.03262"
    reference: ClassVar[str] = "Zarifzadeh et al. 2024"
    offline: ClassVar[bool] = False

    gamma: float = 2.0  # how much likelier, as in the paper
    a: float | None = (
        None  # p_in = a · p_out + 1 − a where models that saw the example are missing; none: chosen on shadows
    )

    def __post_init__(self) -> None:
        if not self.gamma > 0:
            raise UserError(f"attacks.{self.name}.gamma={self.gamma} must be above 0")
        if self.a is not None and not 0 <= self.a <= 1:
            raise UserError(f"attacks.{self.name}.a={self.a} must lie in [0, 1], or be none")

    def compare(self, target: Scores, background: Scores, shadows: Shadows | None) -> Scores:
        assert shadows is not None
        s, m, z, counted = shadows.signals(), shadows.membership(), shadows.background(), shadows.counted()
        a = choose_a(s, m, z, self.gamma, shadow_counts=counted) if self.a is None else self.a
        return rmia_scores(s, m, target[:, 0], z, background, self.gamma, a, self.offline, True, counted)


@dataclass(frozen=True)
class RmiaOffline(Rmia):
    """RMIA without models that saw a candidate."""

    name: ClassVar[str] = "rmia-offline"
    offline: ClassVar[bool] = True
