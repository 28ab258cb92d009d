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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from hampkit.attacks.base import HeldOut, Left, Scores, Shadows, SignalAttack, blocks, sides
from hampkit.errors import UserError
from hampkit.stats.roc import auc

Score = Literal["log-ratio", "share"]

GRID = tuple(k / 10 for k in range(11))  # of a, as in the paper's own search
USUAL_A = 0.3  # where there is nothing to choose it by
USUAL_GAMMA = 2.0  # as in the paper
MOCK_TARGETS = 4  # shadow models that are attacked to choose a
ROUNDING = 1e-7  # of summed AUCs
LOST = 1e-5  # of a sum: what is left of it has lost five digits


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
    _check(s, m, t)
    inside, outside = sides(m, shadow_counts)
    out = _log_mean(s, outside, "OUT")
    usual = _usual(out, a) if offline else np.logaddexp(_log_mean(s, inside, "IN"), out) - np.log(2)
    return _log_sigmoid(t) - usual


def _check(s: Any, m: Any, t: Any) -> None:
    if s.ndim != 2 or m.shape != s.shape or t.shape != s.shape[1:]:
        raise ValueError(f"shadow scores {s.shape}, members {m.shape}, target {t.shape} must be (M, N), (M, N), (N,)")
    if not (np.isfinite(s).all() and np.isfinite(t).all()):
        raise ValueError("shadow and target scores must be finite")


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
        found += _aucs(_log_sigmoid(s[t, covered]), _log_mean(s, out, "OUT", covered), m[t, covered])
    return _best(found)


def _aucs(target: Scores, out: Scores, member: Any) -> Scores:
    """The AUC of the offline attack with every a: of ln p and of the mean over OUT models (n,), for a target."""
    if member.all() or not member.any():
        return np.zeros(len(GRID))
    (t_in, t_out), (o_in, o_out) = ((v[member], v[~member]) for v in (target, out))
    return np.array([auc(t_in - _usual(o_in, a), t_out - _usual(o_out, a)) for a in GRID])


def _best(aucs: Scores) -> float:
    """The a with the highest AUC, the smallest of those that differ by rounding."""
    return GRID[int(np.flatnonzero(aucs >= aucs.max() - ROUNDING)[0])] if aucs.any() else USUAL_A


def _dominated(x: Scores, z: Scores, gamma: float, smooth: bool) -> Scores:
    """The share of z with x − z ≥ ln gamma, for every x."""
    count = np.searchsorted(np.sort(z), x - np.log(gamma), side="right")
    return (count + 0.5 + np.arctan(x) / np.pi) / (len(z) + 1) if smooth else count / len(z)


def _usual(out: Scores, a: float) -> Scores:
    """ln p(x) = ln ½ ((1 + a) · mean + 1 − a) from ln of the mean over OUT models alone."""
    return out if a == 1 else np.log1p((1 + a) / 2 * np.expm1(out))


def _log_mean(s: Any, chosen: Any, name: str, columns: Any = None) -> Scores:
    """ln of the mean probability over the chosen models, of every example (of some: ``columns`` (N,) bool)."""
    counts = chosen.sum(0) if columns is None else chosen.sum(0)[columns]
    _check_sizes(counts, name, len(s))
    means = [_log_sum(s[:, rows], chosen[:, rows]) for rows in blocks(s.shape[1])]
    whole = np.concatenate(means) if means else np.empty(0)
    return (whole if columns is None else whole[columns]) - np.log(counts)


def _check_sizes(counts: Any, name: str, models: int) -> None:
    if counts.min(initial=1) < 1:
        raise UserError(
            f"{int((counts < 1).sum())} of {len(counts)} examples have no {name} model among {models} shadow models;"
            " take more (--shadows)" + (", or the offline attack" if name == "IN" else "")
        )


def _log_sum(s: Any, chosen: Any) -> Scores:
    """ln of the summed probabilities of the chosen ones, −∞ where there are none."""
    return _log_sum_of(np.where(chosen, _log_sigmoid(s), -np.inf))


def _log_sum_of(kept: Scores) -> Scores:
    """ln of the sum of each column of logarithms."""
    top = kept.max(0)
    with np.errstate(invalid="ignore"):
        return np.where(np.isneginf(top), top, top + np.log(np.exp(kept - top).sum(0)))


def _log_sigmoid(s: Any) -> Scores:
    return -np.logaddexp(0, -np.asarray(s, dtype=np.float64))


class _Others:
    """What the targets of leave-one-out share: every model's probabilities, and their sums over both sides of each example."""

    def __init__(self, s: Any, held_out: HeldOut) -> None:
        self.s, self.held_out = s, held_out
        self.sides = sides(held_out.members, held_out.counted)
        self.logs, self.parts = np.empty(s.shape), np.empty(s.shape)  # ln p, and p / the highest of its side
        self.top, self.total = np.empty((2, s.shape[1])), np.empty((2, s.shape[1]))
        for rows in blocks(s.shape[1], 512):
            self.logs[:, rows] = logs = _log_sigmoid(s[:, rows])
            parts = [_scaled(logs, side[:, rows]) for side in self.sides]
            self.parts[:, rows] = parts[0][1] + parts[1][1]  # a model is on one side, and 0 on the other
            for k, (top, part) in enumerate(parts):
                self.top[k, rows], self.total[k, rows] = top, part.sum(0)

    def log_sum(self, side: int, *gone: Any) -> Scores:
        """ln of the sum over a side without one or two different models of it (N,), −1: none; −∞ where no model is left."""
        columns = np.arange(self.s.shape[1])
        rest = self.total[side].copy()
        for rows in gone:
            rest -= np.where(rows >= 0, self.parts[rows, columns], 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = self.top[side] + np.log(rest)
        lost = np.flatnonzero(~(rest > LOST * self.total[side]))  # nearly all of the sum has left: add up the others
        kept = np.where(self.sides[side][:, lost], self.logs[:, lost], -np.inf)
        for rows in gone:
            there = np.flatnonzero(rows[lost] >= 0)
            kept[rows[lost][there], there] = -np.inf
        found[lost] = _log_sum_of(kept)
        return found

    def log_mean(self, side: int, left: Left) -> Scores:
        size = left.sizes[side]
        _check_sizes(size, ("IN", "OUT")[side], int(left.heard.sum()))
        return self.log_sum(side, left.rows[side]) - np.log(size)

    def choose_a(self, t: int, left: Left) -> float:
        """`choose_a` of what is left to attack model t with."""
        heard, twins = np.flatnonzero(left.heard), self.held_out.twins
        there = heard[(twins[heard] >= 0) & left.heard[twins[heard]]]
        if (twins[twins[there]] != there).any() or (not len(there) and (twins >= 0).any()):
            counts = self.held_out.counts(t)[heard]  # masks of no usual kind
            return choose_a(self.s[heard], self.held_out.members[heard], shadow_counts=counts)
        aucs = [self._mock(k, int(m), left) for k, m in enumerate(heard[:MOCK_TARGETS])]
        return _best(np.sum(aucs, axis=0))

    def _mock(self, place: int, m: int, left: Left) -> Scores:
        """The AUCs of model m, in that place among what is left, by the rest of it."""
        members, counted, twins = self.held_out.members, self.held_out.counted, self.held_out.twins
        columns, target = np.arange(members.shape[1]), left.rows[1]
        together = twins[m] >= 0 and left.heard[twins[m]]
        partner = np.full(len(columns), twins[m]) if together else self.held_out.drawn(1, place, target)
        gone = np.where(members[m], partner, m)
        valid = counted[m] & (left.rows[0] != m) & (target != m)
        size = left.sizes[1] - (counted[gone, columns] & (gone >= 0))
        covered = np.flatnonzero(valid & (size > 0))
        out = self.log_sum(1, target, gone)[covered] - np.log(size[covered])
        return _aucs(self.logs[m, covered], out, members[m, covered])


def _scaled(logs: Scores, chosen: Any) -> tuple[Scores, Scores]:
    """The highest of the chosen of each column, 0 where there is none, and all as a share of it, 0 for the others."""
    top = np.where(chosen, logs, -np.inf).max(0)
    top[np.isneginf(top)] = 0
    return top, np.where(chosen, np.exp(np.where(chosen, logs - top, 0)), 0)


@dataclass(frozen=True)
class Rmia(SignalAttack):
    """Predicts membership where the target finds the example likelier than it usually is."""

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

    def score_signals(self, target: Scores, background: Scores, shadows: Shadows | None) -> Scores:
        assert shadows is not None
        s, m, counted = shadows.signals(), shadows.membership(), shadows.counted()
        if self.score == "log-ratio":
            a = self._a(s, m, counted) if self.offline else USUAL_A
            return log_ratio(s, m, target[:, 0], a, self.offline, counted)
        gamma, a = self.gamma or USUAL_GAMMA, self._a(s, m, counted)
        z = shadows.background()
        return rmia_scores(s, m, target[:, 0], z, background, gamma, a, self.offline, True, counted)

    def repeat(self, shadows: Shadows, targets: Sequence[int]) -> Iterator[Scores]:
        others = _Others(shadows.signals(), shadows.held_out)
        population = _log_sigmoid(shadows.background()) if self.score == "share" else None
        for t in targets:
            left = others.held_out.without(t)
            needs_a = self.a is None and (self.offline or self.score == "share")
            a = others.choose_a(t, left) if needs_a else USUAL_A if self.a is None else self.a
            out = others.log_mean(1, left)
            usual = _usual(out, a) if self.offline else np.logaddexp(others.log_mean(0, left), out) - np.log(2)
            ratio = others.logs[t] - usual
            if population is not None:
                out = _log_sum_of(population[left.heard]) - np.log(left.heard.sum())
                ratio = _dominated(ratio, population[t] - _usual(out, a), self.gamma or USUAL_GAMMA, smooth=True)
            yield ratio

    def _a(self, s: Any, m: Any, counted: Any) -> float:
        return choose_a(s, m, shadow_counts=counted) if self.a is None else self.a


@dataclass(frozen=True)
class RmiaOffline(Rmia):
    """RMIA without models that saw a candidate."""

    name: ClassVar[str] = "rmia-offline"
    offline: ClassVar[bool] = True
