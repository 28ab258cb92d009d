"""Attacks: from the evidence of an adversary to one score per candidate.

Axes: N candidates, K known examples, M shadow models, P examples of their pool, Z examples of a population, V views, C classes.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hampkit import signals
from hampkit.errors import UserError
from hampkit.registry import ATTACKS
from hampkit.rng import derive, numpy_rng

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Known:
    """Examples whose membership the adversary knows: half of members and of non-members in the published evaluation."""

    x: Tensor  # (K, *shape) raw inputs
    y: Tensor  # (K,) int64
    logits: Tensor  # (K, V, C) float64, the released answers
    member: Tensor  # (K,) bool
    fit: Tensor  # (K,) bool: for fitting; the others are for choosing a checkpoint
    rows: Tensor | None = None  # (K,) int64, their rows in the pool of the shadow models


@dataclass(frozen=True)
class Shadows:
    """Models that the adversary trained like the target, each on about half of a pool that contains the candidates.

    An IN model of an example was trained on it, an OUT model was not. The answers went through the same release as the
    target's. Of each answer only the scaled logit ln p_y − ln(1 − p_y) is kept, from which confidence and loss follow.
    M' models were trained; M of them are used.
    """

    parts: tuple[NDArray[np.float32], ...]  # each (m, P, V) scaled logits, memory-mapped; the m add up to M'
    members: NDArray[np.bool_]  # (M', P): model m was trained on example i of the pool
    population: NDArray[np.float32]  # (M', Z): scaled logits of examples that no model was trained on
    rows: NDArray[np.int64]  # (N,) the candidates' rows in the pool
    models: NDArray[np.int64]  # (M,) the models that are used
    counts: NDArray[np.bool_] | None = None  # (M', P): which answers are used; None: all

    @functools.cached_property
    def held_out(self) -> HeldOut:
        """The models and answers that are left out when each of these models is the target."""
        return HeldOut(self.membership(), self.counted())

    def __len__(self) -> int:
        """M, the number of models that are used."""
        return len(self.models)

    def signals(self, view: int = 0) -> NDArray[np.float32]:
        """(M, N) scaled logits of one view of the candidates."""
        return np.concatenate([part[:, :, view] for part in self.parts])[np.ix_(self.models, self.rows)]

    def membership(self) -> NDArray[np.bool_]:
        """(M, N) bool: whether a model was trained on a candidate."""
        return self.members[np.ix_(self.models, self.rows)]

    def scores(self, view: int = 0) -> ShadowScores:
        """The scaled logits of the shadow models (M, N) for one view of the N candidates, with their membership."""
        return ShadowScores(self.signals(view), self.membership(), self.counted())

    def sizes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The numbers of IN and of OUT models that are used for each candidate: (N,), (N,)."""
        inside, outside = sides(self.membership(), self.counted())
        return inside.sum(0), outside.sum(0)

    def counted(self) -> NDArray[np.bool_] | None:
        """(M, N) bool: which answers are used; None: all."""
        return None if self.counts is None else self.counts[np.ix_(self.models, self.rows)]

    def views(self) -> int:
        """V, the number of answers per example."""
        return self.parts[0].shape[2]

    def answers_of(self, t: int) -> Scores:
        """(N, V) scaled logits of the t-th of these models, as an attack gets them from its target.

        Raises: `IndexError` for a model that does not exist.
        """
        first = int(self.models[t])
        for part in self.parts:
            if first < len(part):
                return part[first][self.rows].astype(np.float64)
            first -= len(part)
        raise IndexError(f"there is no shadow model {self.models[t]}")

    def left_out(self) -> int:
        """The number of trained shadow models that no attack uses."""
        silent = 0 if self.counts is None else int((~self.counts[self.models].any(axis=1)).sum())
        return len(self.members) - len(self.models) + silent

    def without(self, t: int) -> Shadows:
        """The shadow models by which the t-th of these models is attacked, see `HeldOut`."""
        kept = self.held_out.counts(t)
        counts = np.ones_like(self.members)
        counts[np.ix_(self.models, self.rows)] = kept
        return replace(self, models=self.models[kept.any(1)], counts=counts)

    def background(self) -> NDArray[np.float32]:
        """(M, Z) scaled logits of the population."""
        return self.population[self.models]


@dataclass(frozen=True)
class ShadowScores:
    """One score of each of M shadow models for each of N examples, such as the scaled logits of one view."""

    scores: Any  # (M, N)
    members: Any  # (M, N) bool: model m was trained on example i
    counts: Any = None  # (M, N) bool: which scores are used; None: all


@dataclass(frozen=True)
class Population:
    """Examples like the candidates, by which no model was trained or chosen, with the target's answers."""

    y: Tensor  # (Z,) int64
    logits: Tensor  # (Z, 1, C) float64, the released answers


@dataclass(frozen=True)
class Evidence:
    """Everything that an adversary has on N candidates. Their true membership is not part of it."""

    x: Tensor  # (N, *shape) raw inputs
    y: Tensor  # (N,) int64
    logits: Tensor  # (N, V, C) float64, the released answers to V views of each candidate
    seed: int = 0  # for attacks that draw random numbers
    known: Known | None = None  # examples of known membership
    shadows: Shadows | None = None  # models that the adversary trained
    population: Population | None = None  # examples that no model was trained on
    oracle: Any | None = None  # further queries; no attack uses them yet


class Attack(ABC):
    """An attack. Subclasses are frozen dataclasses: fields are options, docstring and `paper` are the text in the report.

    Raises: `UserError` for an option out of its range.
    """

    name: ClassVar[str]
    paper: ClassVar[str] = ""  # its address
    reference: ClassVar[str] = ""  # authors and year, for the report
    needs: ClassVar[tuple[str, ...]] = ()  # fields of the evidence that must be present: the threat model
    label_only: ClassVar[bool] = False  # uses only the predicted label of an answer
    scaled_logit_only: ClassVar[bool] = (
        False  # uses only ln p_y − ln(1 − p_y) of an answer, and possibly the true label
    )
    threshold: ClassVar[float | None] = None  # member if score ≥ threshold; None: chosen on the known examples

    @final
    def __call__(self, evidence: Evidence) -> Scores:
        """Scores (N,) float64, higher means member.

        Raises: `ValueError` if needed evidence is missing, `UserError` for scores of another shape or that are not finite.
        """
        missing = [need for need in self.needs if getattr(evidence, need) is None]
        if missing:
            raise ValueError(f"attack {self.name} needs {', '.join(missing)}, which this evidence lacks")
        scores = np.asarray(self._scores(evidence), dtype=np.float64)
        if scores.shape != (len(evidence.y),):
            raise UserError(
                f"attack {self.name} returned scores of shape {scores.shape}; it must be ({len(evidence.y)},)"
            )
        if bad := int((~np.isfinite(scores)).sum()):
            raise UserError(f"attack {self.name} returned {bad} scores that are NaN or infinite, of {len(scores)}")
        return scores

    @abstractmethod
    def score(self, evidence: Evidence) -> Scores | Tensor:
        """Scores (N,), higher means member, always."""

    def variance_used(self, inside: NDArray[np.int64], outside: NDArray[np.int64]) -> str:
        """The name of the variance that is used for these numbers of IN and OUT models (N,); empty: the attack uses none."""
        return ""

    def _scores(self, evidence: Evidence) -> Scores | Tensor:
        return self.score(evidence)


class SignalAttack(Attack):
    """An attack on the scaled logit of each answer, compared with those of shadow models and of a population."""

    needs = ("shadows",)
    scaled_logit_only = True

    def _scores(self, evidence: Evidence) -> Scores:
        every_view = evidence.y.unsqueeze(-1).expand(evidence.logits.shape[:2])
        target = signals.scaled_logit(evidence.logits, every_view)
        population = evidence.population
        background = np.empty(0)
        if population is not None:
            background = signals.scaled_logit(first_view(population.logits), population.y).cpu().numpy()
        return self.score_signals(target.cpu().numpy(), background, evidence.shadows)

    score: Any = _scores  # a subclass may have an option with this name

    def repeat(self, shadows: Shadows, targets: Sequence[int]) -> Iterator[Scores]:
        """Leave-one-out: for each of the given shadow models its scores (N,), attacked by the other models, see `HeldOut`.

        This simple version starts anew for every target. A subclass may have a faster one with the same results.
        """
        for t in targets:
            background = shadows.background()[t].astype(np.float64)
            yield self.score_signals(shadows.answers_of(t), background, shadows.without(t))

    @abstractmethod
    def score_signals(self, target: Scores, background: Scores, shadows: Shadows | None) -> Scores:
        """Scores (N,), finite, higher means member.

        target: (N, V) float64, the target's scaled logits of V views of the candidates. background: (Z,) float64, those of the
        population, empty without one. shadows: the shadow models with the same candidates; None if the attack needs none.
        """


def first_view(logits: Tensor) -> Tensor:
    """The answers to the unchanged examples: (N, V, C) → (N, C)."""
    assert logits.dtype == torch.float64, f"answers must be float64, not {logits.dtype}"
    return logits[:, 0]


class Left(NamedTuple):
    """The models that are left out when one model is the target, and the numbers that remain: for IN and for OUT."""

    rows: tuple[NDArray[np.int64], NDArray[np.int64]]  # (N,) each: the model that is left out; −1: none
    sizes: tuple[NDArray[np.int64], NDArray[np.int64]]  # (N,) each: the number of models that remain
    used: NDArray[np.bool_]  # (M,) models with an answer that is used


class HeldOut:
    """The answers that are left out when each of M models is the target: its own, and for each example one of the other side.

    The sides of an example are its IN models and its OUT models. Leaving out the target alone would make its own side the
    smaller one: the sizes of the sides would reveal membership, and the mean of the smaller side is less certain. LiRA then
    ranked members below non-members of targets that leak nothing (simulated AUC 0.42 with 4 models, 0.46 with 8). So one model
    of the other side is left out too. If the target has a twin, a model that was trained on exactly the other examples, the twin
    is left out, because its answers would reveal more than any adversary has. Otherwise the model is drawn at random.

    Without twins the sides of each example are made equal first: models of the larger side are drawn and left out. Sides are
    unequal where models that learnt nothing are missing. Half of all models were trained on each example, so unequal sizes would
    be evidence of the target's membership. If the target is among the drawn models of an example, no other model is left out.
    """

    def __init__(self, members: Any, counted: Any = None) -> None:
        """members: (M, N) bool; counted: (M, N) bool, which answers are used, default all."""
        self.members = np.asarray(members, dtype=bool)
        self.twins = _twins(self.members)
        counts = np.ones(self.members.shape, dtype=bool) if counted is None else np.asarray(counted, dtype=bool)
        self.counted = counts if (self.twins >= 0).any() else _balanced(self.members, counts)

    def partner(self, t: int) -> NDArray[np.int64]:
        """For each example the model (N,) of the other side that is left out with model t; −1: none."""
        n = self.members.shape[1]
        if self.twins[t] >= 0:
            return np.full(n, self.twins[t])
        partner = self.drawn(self.members[t].astype(np.int64), t)
        partner[~self.counted[t]] = -1
        return partner

    def drawn(self, side: Any, seed: int, gone: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """For each example a random one (N,) of its IN (side 0) or OUT (side 1) models that are used; −1: there is none.

        side: a number or (N,). gone: (N,), a model of that side that cannot be drawn; −1: none.
        """
        order, place = self._order
        columns = np.arange(self.members.shape[1])
        size = np.where(side, self.sizes[1], self.sizes[0])
        left = False if gone is None else self.counted[gone, columns] & (gone >= 0)
        k = (numpy_rng(derive(seed, "held out")).random(len(columns)) * (size - left)).astype(np.int64)
        if gone is not None:
            k += left & (k >= place[gone, columns])
        return np.where(size > left, order[side, np.minimum(k, order.shape[1] - 1), columns], -1)

    def without(self, t: int) -> Left:
        """The models that are left out when model t is the target, and the numbers that remain."""
        member, partner = self.members[t], self.partner(t)
        columns, models = np.arange(len(partner)), len(self.members)
        counts = self.counted[partner, columns] & (partner >= 0)  # a twin's answer may be missing anyway
        gone = self.counted[t].astype(np.int64), counts.astype(np.int64)
        own, other = (np.where(member == side, *gone) for side in (True, False))
        inside, outside = self.sizes
        used = self._counted_per_model > np.bincount(partner[counts], minlength=models)
        used[t] = False
        return Left((np.where(member, t, partner), np.where(member, partner, t)), (inside - own, outside - other), used)

    def counts(self, t: int) -> NDArray[np.bool_]:
        """(M, N) bool: the answers that are used when model t is the target."""
        counts, partner = self.counted.copy(), self.partner(t)
        counts[t] = False
        columns = np.flatnonzero(partner >= 0)
        counts[partner[columns], columns] = False
        return counts

    @functools.cached_property
    def _counted_per_model(self) -> NDArray[np.int64]:
        return self.counted.sum(1)

    @functools.cached_property
    def sizes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The numbers of IN and of OUT models that are used for each example: (N,), (N,)."""
        inside, outside = sides(self.members, self.counted)
        return inside.sum(0), outside.sum(0)

    @functools.cached_property
    def _order(self) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
        """The models of each example, used ones first, for IN and OUT (2, M, N); the place of each model among them (M, N)."""
        both = sides(self.members, self.counted)
        order, place = np.empty((2, *self.members.shape), dtype=np.int16), np.empty(self.members.shape, dtype=np.int16)
        for rows in blocks(self.members.shape[1], 512):
            for k, side in enumerate(both):
                order[k][:, rows] = np.argsort(~side[:, rows], axis=0, kind="stable")
            inside, outside = (np.cumsum(side[:, rows], axis=0) - 1 for side in both)
            place[:, rows] = np.where(self.members[:, rows], inside, outside)
        return order, place


def _twins(members: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(M,) for each model the first one that was trained on exactly the other examples; −1: there is none."""
    first: dict[bytes, int] = {}
    for m, row in enumerate(np.packbits(members, axis=1)):
        first.setdefault(row.tobytes(), m)
    return np.array([first.get(row.tobytes(), -1) for row in np.packbits(~members, axis=1)])


def _balanced(members: NDArray[np.bool_], counted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``counted`` (M, N) without drawn models of each example's larger side, so that both sides are equal."""
    inside, outside = sides(members, counted)
    more = inside.sum(0) - outside.sum(0)
    columns = np.flatnonzero(more)
    if not len(columns):
        return counted
    larger = np.where(more[columns] > 0, inside[:, columns], outside[:, columns])
    keys = np.where(larger, numpy_rng(derive(0, "balanced sides")).random(larger.shape), np.inf)
    place = np.argsort(np.argsort(keys, axis=0), axis=0)
    balanced = counted.copy()
    balanced[:, columns] &= place >= np.abs(more[columns])
    return balanced


def sides(members: Any, counted: Any = None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The used IN models and the used OUT models of each example: (M, N) bool, (M, N) bool."""
    m = np.asarray(members, dtype=bool)
    return (m, ~m) if counted is None else (m & counted, ~m & counted)


def blocks(n: int, rows: int = 4096) -> Iterator[slice]:
    """Slices of n examples, which bound the memory in use."""
    for start in range(0, n, rows):
        yield slice(start, min(start + rows, n))


def family_of(attack: str) -> str:
    """The family of a registered attack: ``label-only``, or the module that defines the attack, such as ``lira``.

    An attack that is not installed is a family of its own.
    """
    cls = ATTACKS.classes().get(attack)
    if cls is None:
        return attack
    return "label-only" if cls.label_only else cls.__module__.rpartition(".")[2].replace("_", "-")


def option_names(attack: str) -> list[str]:
    """The options of a registered attack in the order of its fields; none for an attack that is not installed."""
    cls = ATTACKS.classes().get(attack)
    return [] if cls is None else [f.name for f in fields(cls)]
