"""RMIA (Zarifzadeh et al. 2024): the probability of an example under the target, relative to that under other models.

There are two scores. ``log-ratio`` is ln p(x | target) − ln p(x). ``share`` is the published score: the share of a population
whose ratio that of x exceeds by a factor gamma. Within one target both have the same order: the share is a non-decreasing
function of the log ratio, and we break its ties by the log ratio. Across targets the share is not comparable, because it
depends on the target's answers to the population.

Two later attacks have the order of the log ratio too and are not separate attacks here. BASE (Lassila et al. 2025,
arXiv 2505.24089) is ln p(x | target) minus the log mean over the shadow models: ``rmia`` with equally many models on both
sides, ``rmia-offline`` with a = 1. InfoRMIA (Tao and Shokri 2025, arXiv 2510.05582) corrects the log ratio by a divergence
over the population, one number per target.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from hampkit.attacks.base import Scores, Shadows, ShadowScores, SignalAttack
from hampkit.attacks.held_out import HeldOut, Left, blocks, sides
from hampkit.errors import UserError
from hampkit.stats.roc import auc

Score = Literal["log-ratio", "share"]

GRID = tuple(k / 10 for k in range(11))  # of a, as in the paper's own search
USUAL_A = 0.3  # if there is no evidence to choose it by
USUAL_GAMMA = 2.0  # as in the paper
MOCK_TARGETS = 4  # shadow models that are attacked to choose a
ROUNDING = 1e-7  # of summed AUCs
LOST = 1e-5  # share of a sum below which the rest of it has lost five digits


def log_ratio(shadows: ShadowScores, target_scores: Any, a: float = USUAL_A, offline: bool = False) -> Scores:
    """ln p(x | target) − ln p(x) from the scaled logits φ of shadow models (M, N) and target (N,): (N,), higher means member.

    p = σ(φ). Online p(x) is ½ (mean over IN models + mean over OUT models). Offline it is ½ ((1 + a) · mean over OUT models +
    1 − a), which assumes p_in = a · p_out + 1 − a. Everything is computed in logarithms, so that probabilities such as 1e-4000
    do not underflow.
    Raises: `UserError` for a outside [0, 1], and for an example without a model on a side that is needed.
    Source: arXiv 2312.03262.
    """
    _check_a(a)
    s, t = np.asarray(shadows.scores), np.asarray(target_scores, dtype=np.float64)
    m = np.asarray(shadows.members, dtype=bool)
    _check(s, m, t)
    inside, outside = sides(m, shadows.counts)
    out = _log_mean(s, outside, "OUT")
    usual = _usual(out, a) if offline else np.logaddexp(_log_mean(s, inside, "IN"), out) - np.log(2)
    return _log_sigmoid(t) - usual


def _check(s: Any, m: Any, t: Any) -> None:
    if s.ndim != 2 or m.shape != s.shape or t.shape != s.shape[1:]:
        raise ValueError(f"shadow scores {s.shape}, members {m.shape}, target {t.shape} must be (M, N), (M, N), (N,)")
    if not (np.isfinite(s).all() and np.isfinite(t).all()):
        raise ValueError("shadow and target scores must be finite")


class Background(NamedTuple):
    """The scaled logits of a population that no model was trained on."""

    shadows: Any  # (M, Z)
    target: Any  # (Z,)


@dataclass(frozen=True)
class RmiaOptions:
    """The options of the share.

    Raises: `UserError` for gamma ≤ 0 and for a outside [0, 1].
    """

    gamma: float = USUAL_GAMMA  # the factor by which to exceed the ratio of a population example
    a: float = USUAL_A  # see `log_ratio`
    offline: bool = False  # without IN models
    smooth: bool = False  # ties are broken by the log ratio, which does not change the order of distinct shares

    def __post_init__(self) -> None:
        if not self.gamma > 0:
            raise UserError(f"gamma={self.gamma} must be above 0")
        _check_a(self.a)


def rmia_scores(
    shadows: ShadowScores, target_scores: Any, background: Background, options: RmiaOptions | None = None
) -> Scores:
    """The share of a population that an example dominates: (N,), higher means member.

    With Λ = p(x | target) / p(x), see `log_ratio`, it is the share of population examples z with Λ(x) / Λ(z) ≥ gamma. No model
    was trained on z, so p(z) is always the offline one. options: default `RmiaOptions()`.
    Raises: `UserError` as `log_ratio`, and for an empty population.
    Source: arXiv 2312.03262.
    """
    options = options or RmiaOptions()
    x = log_ratio(shadows, target_scores, options.a, options.offline)
    others = np.asarray(background.shadows)
    if shadows.counts is not None:  # a model without used answers is left out here too
        others = others[np.asarray(shadows.counts).any(axis=1)]
    unseen = ShadowScores(others, np.zeros(others.shape, dtype=bool))
    z = log_ratio(unseen, background.target, options.a, offline=True)
    if not len(z):
        raise UserError("RMIA needs at least one population example")
    return _dominated(x, z, options.gamma, options.smooth)


def choose_a(shadows: ShadowScores, mocks: int = MOCK_TARGETS) -> float:
    """The a of the offline attack with the highest mean AUC, when the first ``mocks`` shadow models are attacked by the others.

    The target is not used. Log ratio and share have the same AUC within one model. Ties give the smallest a. If no model can be
    attacked by the others, it is `USUAL_A`.
    """
    s, m = np.asarray(shadows.scores), np.asarray(shadows.members, dtype=bool)
    valid = np.ones(m.shape, dtype=bool) if shadows.counts is None else np.asarray(shadows.counts, dtype=bool)
    found, held_out = np.zeros(len(GRID)), HeldOut(m, valid)
    for t in np.flatnonzero(valid.any(axis=1))[:mocks]:
        _, out = sides(m, held_out.counts(t))
        covered = out.any(0) & valid[t]  # an example that every other model was trained on has no OUT model
        found += _aucs(_log_sigmoid(s[t, covered]), _log_mean(s, out, "OUT", covered), m[t, covered])
    return _best(found)


def _check_a(a: float) -> None:
    if not 0 <= a <= 1:
        raise UserError(f"a={a} must lie in [0, 1]")


def _aucs(target: Scores, out: Scores, member: Any) -> Scores:
    """(11,) the AUC of the offline attack for each a of `GRID`; target: ln p (n,), out: the log mean over OUT models (n,)."""
    if member.all() or not member.any():
        return np.zeros(len(GRID))
    (t_in, t_out), (o_in, o_out) = ((v[member], v[~member]) for v in (target, out))
    return np.array([auc(t_in - _usual(o_in, a), t_out - _usual(o_out, a)) for a in GRID])


def _best(aucs: Scores) -> float:
    """The a with the highest AUC (11,); of values that differ by rounding the smallest."""
    return GRID[int(np.flatnonzero(aucs >= aucs.max() - ROUNDING)[0])] if aucs.any() else USUAL_A


def _dominated(x: Scores, z: Scores, gamma: float, smooth: bool) -> Scores:
    """(N,) for each log ratio x (N,) the share of z (Z,) with x − z ≥ ln gamma."""
    count = np.searchsorted(np.sort(z), x - np.log(gamma), side="right")
    return (count + 0.5 + np.arctan(x) / np.pi) / (len(z) + 1) if smooth else count / len(z)


def _usual(out: Scores, a: float) -> Scores:
    """ln p(x) = ln ½ ((1 + a) · mean + 1 − a) from the logarithm of the mean over OUT models (N,)."""
    return out if a == 1 else np.log1p((1 + a) / 2 * np.expm1(out))


def _log_mean(s: Any, chosen: Any, name: str, columns: Any = None) -> Scores:
    """The log mean probability of each example over the chosen models (M, N) bool; columns: (N,) bool, of these examples only."""
    counts = chosen.sum(0) if columns is None else chosen.sum(0)[columns]
    _check_sizes(counts, name, len(s))
    means = [_log_sum(s[:, rows], chosen[:, rows]) for rows in blocks(s.shape[1])]
    whole = np.concatenate(means) if means else np.empty(0)
    return (whole if columns is None else whole[columns]) - np.log(counts)


def _check_sizes(counts: Any, name: str, n_models: int) -> None:
    if counts.min(initial=1) < 1:
        raise UserError(
            f"{int((counts < 1).sum())} of {len(counts)} examples have no {name} model among {n_models} shadow models;"
            " take more (--shadows)" + (", or the offline attack" if name == "IN" else "")
        )


def _log_sum(s: Any, chosen: Any) -> Scores:
    """The log sum of the probabilities of the chosen models for each example: (M, b), (M, b) bool → (b,); −∞ for none."""
    return _log_sum_of(np.where(chosen, _log_sigmoid(s), -np.inf))


def _log_sum_of(kept: Scores) -> Scores:
    """The log sum of each column of logarithms: (M, b) → (b,)."""
    top = kept.max(0)
    with np.errstate(invalid="ignore"):
        return np.where(np.isneginf(top), top, top + np.log(np.exp(kept - top).sum(0)))


def _log_sigmoid(s: Any) -> Scores:
    return -np.logaddexp(0, -np.asarray(s, dtype=np.float64))


class _Others:
    """Probabilities (M, N) of all models and their sums over IN and OUT models, computed once for leave-one-out."""

    def __init__(self, s: Any, held_out: HeldOut) -> None:
        self.s, self.held_out = s, held_out
        self.sides = sides(held_out.members, held_out.counted)
        self.logs, self.parts = np.empty(s.shape), np.empty(s.shape)  # ln p, and p / the highest p of its side
        self.top, self.total = np.empty((2, s.shape[1])), np.empty((2, s.shape[1]))
        for rows in blocks(s.shape[1], 512):
            self.logs[:, rows] = logs = _log_sigmoid(s[:, rows])
            parts = [_scaled(logs, side[:, rows]) for side in self.sides]
            self.parts[:, rows] = parts[0][1] + parts[1][1]  # a model is on one side; on the other it is 0
            for k, (top, part) in enumerate(parts):
                self.top[k, rows], self.total[k, rows] = top, part.sum(0)

    def log_sum(self, side: int, *gone: Any) -> Scores:
        """(N,) the log sum over a side without one or two models per example, each (N,) or −1; −∞ if no model remains."""
        columns = np.arange(self.s.shape[1])
        rest = self.total[side].copy()
        for rows in gone:
            rest -= np.where(rows >= 0, self.parts[rows, columns], 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = self.top[side] + np.log(rest)
        lost = np.flatnonzero(~(rest > LOST * self.total[side]))  # most of the sum is gone: add up the rest anew
        kept = np.where(self.sides[side][:, lost], self.logs[:, lost], -np.inf)
        for rows in gone:
            there = np.flatnonzero(rows[lost] >= 0)
            kept[rows[lost][there], there] = -np.inf
        found[lost] = _log_sum_of(kept)
        return found

    def log_mean(self, side: int, left: Left) -> Scores:
        """(N,) the log mean over the models of a side that remain."""
        size = left.sizes[side]
        _check_sizes(size, ("IN", "OUT")[side], int(left.used.sum()))
        return self.log_sum(side, left.rows[side]) - np.log(size)

    def choose_a(self, t: int, left: Left) -> float:
        """`choose_a` of the models that remain when model t is the target."""
        used, twins = np.flatnonzero(left.used), self.held_out.twins
        there = used[(twins[used] >= 0) & left.used[twins[used]]]
        if (twins[twins[there]] != there).any() or (not len(there) and (twins >= 0).any()):
            counts = self.held_out.counts(t)[used]  # masks that are neither paired nor drawn
            return choose_a(ShadowScores(self.s[used], self.held_out.members[used], counts))
        aucs = [self._mock(k, int(m), left) for k, m in enumerate(used[:MOCK_TARGETS])]
        return _best(np.sum(aucs, axis=0))

    def _mock(self, place: int, m: int, left: Left) -> Scores:
        """(11,) the AUCs of model m, at this place among the models that remain, attacked by the others."""
        members, counted, twins = self.held_out.members, self.held_out.counted, self.held_out.twins
        columns, target = np.arange(members.shape[1]), left.rows[1]
        together = twins[m] >= 0 and left.used[twins[m]]
        partner = np.full(len(columns), twins[m]) if together else self.held_out.drawn(1, place, target)
        gone = np.where(members[m], partner, m)
        valid = counted[m] & (left.rows[0] != m) & (target != m)
        size = left.sizes[1] - (counted[gone, columns] & (gone >= 0))
        covered = np.flatnonzero(valid & (size > 0))
        out = self.log_sum(1, target, gone)[covered] - np.log(size[covered])
        return _aucs(self.logs[m, covered], out, members[m, covered])


def _scaled(logs: Scores, chosen: Any) -> tuple[Scores, Scores]:
    """The highest chosen probability of each column in logarithms (b,), 0 for none, and the chosen ones relative to it (M, b)."""
    top = np.where(chosen, logs, -np.inf).max(0)
    top[np.isneginf(top)] = 0
    return top, np.where(chosen, np.exp(np.where(chosen, logs - top, 0)), 0)


@dataclass(frozen=True)
class Rmia(SignalAttack):
    """Predicts membership where the true label is more probable under the target than under the shadow models."""

    name: ClassVar[str] = "rmia"
    paper: ClassVar[str] = "https://arxiv.org/abs/2312.03262"
    reference: ClassVar[str] = "Zarifzadeh et al. 2024"
    offline: ClassVar[bool] = False

    score: Score = "log-ratio"  # share: of the population that the example exceeds, as published
    gamma: float | None = None  # with score=share: the factor by which to exceed it; none: 2, as in the paper
    a: float | None = (
        None  # p_in = a · p_out + 1 − a if no model was trained on an example; none: chosen on shadow models
    )

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
        scores = shadows.scores()
        if self.score == "log-ratio":
            a = self._a(scores) if self.offline else USUAL_A
            return log_ratio(scores, target[:, 0], a, self.offline)
        options = RmiaOptions(self.gamma or USUAL_GAMMA, self._a(scores), self.offline, smooth=True)
        return rmia_scores(scores, target[:, 0], Background(shadows.background(), background), options)

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
                out = _log_sum_of(population[left.used]) - np.log(left.used.sum())
                ratio = _dominated(ratio, population[t] - _usual(out, a), self.gamma or USUAL_GAMMA, smooth=True)
            yield ratio

    def _a(self, shadows: ShadowScores) -> float:
        return choose_a(shadows) if self.a is None else self.a


@dataclass(frozen=True)
class RmiaOffline(Rmia):
    """RMIA for an adversary without models trained on a candidate."""

    name: ClassVar[str] = "rmia-offline"
    offline: ClassVar[bool] = True
