"""Attacks: from the evidence of an adversary to one score per candidate.

Axes: N candidates, K known examples, M shadow models, P examples of their pool, Z examples of a population, V views, C classes,
D features.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hampkit import signals
from hampkit.attacks.held_out import HeldOut, sides
from hampkit.errors import UserError
from hampkit.registry import ATTACKS
from hampkit.types import Probe

Scores = NDArray[np.float64]
# What of an answer an attack uses, from least to most. A service that returns less is not open to it.
Tier = Literal["label", "ranks", "probabilities", "weights"]


@dataclass(frozen=True)
class Known:
    """Examples whose membership the adversary knows: half of members and of non-members in the published evaluation."""

    x: Tensor  # (K, *shape) raw inputs
    y: Tensor  # (K,) int64
    logits: Tensor  # (K, V, C) float64, the released answers
    member: Tensor  # (K,) bool
    fit: Tensor  # (K,) bool: for fitting; the others are for choosing a checkpoint
    rows: Tensor | None = None  # (K,) int64, their rows in the pool of the shadow models
    probes: Mapping[Probe, NDArray[np.float32]] = field(default_factory=dict)  # of each (K, k), see `Evidence.probes`


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
    # what each probe kept of their answers, (m, P, k) each, as ``parts``
    probes: Mapping[Probe, tuple[NDArray[np.float32], ...]] = field(default_factory=dict)

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

    def of_probe(self, probe: Probe, signal: Callable[[Any], Any]) -> Shadows:
        """The same models with signals (m, P, V) = ``signal`` of what the probe kept of their answers (m, P, k)."""
        parts = tuple(np.asarray(signal(part), dtype=np.float32) for part in self.probes[probe])
        found = replace(self, parts=parts, population=np.empty((len(self.members), 0), np.float32))
        if "held_out" in vars(self):  # which depends on the members alone, and takes a while
            vars(found)["held_out"] = self.held_out
        return found

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
    x: Tensor | None = None  # (Z, *shape) raw inputs


@dataclass(frozen=True)
class Reference:
    """One model that the adversary trained like the target, on a population, with the posterior of its last layer.

    The weights W (C, D) of that layer have the curvature n · A ⊗ G, see `hampkit.targets.last_layer.Posterior`. A and G are given
    by their eigenvalues and eigenvectors, and features φ (D,) by their squared coordinates in the eigenvectors of A.
    """

    logits: Scores  # (P, C) the model's own answers to a pool, without a release
    squares: Scores  # (P, D) squared coordinates of the features
    feature_curvature: Scores  # (D,) eigenvalues of A
    class_curvature: Scores  # (C,) eigenvalues of G
    class_directions: Scores  # (C, C) eigenvectors of G, as columns
    trained_on: int  # n, rows
    rows: NDArray[np.int64]  # (N,) the candidates' rows in the pool


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
    reference: Reference | None = None  # one model that the adversary trained on such examples
    probes: Mapping[Probe, NDArray[np.float32]] | None = None  # what each probe kept of the target's answers, (N, k)
    oracle: Oracle | None = None  # further questions of the attack's own choice


class BudgetSpent(Exception):
    """An attack asked more about an example than it may."""


class Oracle:
    """A target that answers questions of an attack's own choice, a limited number about each of N candidates."""

    def __init__(self, answer: Callable[[Tensor], Tensor], candidates: int, budget: int) -> None:
        """answer: raw inputs (n, *shape) → released logits (n, C) float64. budget: questions about each candidate."""
        self._answer, self.budget = answer, budget
        self.asked = np.zeros(candidates, dtype=np.int64)  # questions about each candidate so far

    def __call__(self, about: Any, x: Tensor) -> Tensor:
        """Released logits (n, C) for questions x (n, *shape), each about one candidate, about (n,).

        Raises: `BudgetSpent` if that is more than the budget for a candidate; nothing is asked then.
        """
        places = np.asarray(about, dtype=np.int64)
        assert len(places) == len(x), (len(places), len(x))
        asked = self.asked + np.bincount(places, minlength=len(self.asked))
        if over := int((asked > self.budget).sum()):
            raise BudgetSpent(f"{over} candidates would be asked about more than {self.budget} times")
        self.asked = asked
        return self._answer(x)


class Attack(ABC):
    """An attack. Subclasses are frozen dataclasses: fields are options, docstring and `paper` are the text in the report.

    Raises: `UserError` for an option out of its range.
    """

    name: ClassVar[str]
    paper: ClassVar[str] = ""  # its address
    reference: ClassVar[str] = ""  # authors and year, for the report
    needs: ClassVar[tuple[str, ...]] = ()  # fields of the evidence that must be present: the threat model
    tier: ClassVar[Tier] = "probabilities"  # what of an answer it uses
    scaled_logit_only: ClassVar[bool] = (
        False  # uses only ln p_y − ln(1 − p_y) of an answer, and possibly the true label
    )
    budget: ClassVar[int] = 100  # questions about each candidate, for an attack that needs the oracle
    threshold: ClassVar[float | None] = None  # member if score ≥ threshold; None: chosen on the known examples

    def probes(self) -> tuple[Probe, ...]:
        """The questions beyond one per example. With any, ``needs`` must list "probes"."""
        return ()

    def shadow_probes(self) -> tuple[Probe, ...]:
        """The probes for shadow models, by default the same. The adversary owns these and may ask them without a release."""
        return self.probes()

    def asks(self) -> dict[str, list[Any]]:
        """The probes as JSON values, for the key of a step; empty without probes."""
        found = [[probe.name, *probe.key()] for probe in self.shadow_probes()]
        return {"probes": found} if found else {}

    def queries(self, shape: tuple[int, ...]) -> int:
        """The questions to the target about each candidate of this shape."""
        return sum(probe.questions(shape) for probe in self.probes()) or 1

    @final
    def __call__(self, evidence: Evidence) -> Scores:
        """Scores (N,) float64, higher means member.

        Raises: `ValueError` if needed evidence is missing, `UserError` for scores of another shape or that are not finite.
        """
        missing = [need for need in self.needs if getattr(evidence, need) is None]
        if not missing and any(probe not in (evidence.probes or {}) for probe in self.probes()):
            missing = ["the answers to its questions"]
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


def family_of(attack: str) -> str:
    """The family of a registered attack: ``label-only``, or the module that defines the attack, such as ``lira``.

    An attack that is not installed is a family of its own.
    """
    cls = ATTACKS.classes().get(attack)
    if cls is None:
        return attack
    return "label-only" if cls.tier == "label" else cls.__module__.rpartition(".")[2].replace("_", "-")


def option_names(attack: str) -> list[str]:
    """The options of a registered attack in the order of its fields; none for an attack that is not installed."""
    cls = ATTACKS.classes().get(attack)
    return [] if cls is None else [f.name for f in fields(cls)]
