"""SELENA (Tang et al., USENIX Security 2022): a student learns each example's label from sub-models not trained on it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from hampkit.config.sections import TrainOverrides
from hampkit.defenses.base import ADAPTIVE, Defense, Models
from hampkit.errors import UserError
from hampkit.rng import derive, numpy_rng
from hampkit.training import CROSS_ENTROPY, MeanLoss, Trainer
from hampkit.training.soft_labels import hamp_loss
from hampkit.types import Stack, Task


@dataclass(frozen=True)
class Selena(Defense):
    """A student network learns soft labels from K sub-models. Each member is left out of the training of L sub-models, drawn at
    random; its soft label is the softmax of the mean of their logits.

    Differs from the paper, which averages probabilities: the mean is over logits, as in the published code of HAMP's
    comparison. Differs from that code: sub-models that learn next to nothing are trained again, and excluded from the mean if
    that does not help; every model draws its own subsets.
    """

    name: ClassVar[str] = "selena"
    paper: ClassVar[str] = "https://arxiv.org/abs/2110.08324"
    adaptive: ClassVar[tuple[str, ...]] = (*ADAPTIVE, "near-duplicate")
    quick: ClassVar[dict[str, Any]] = {"submodels": 4, "left_out": 2}

    submodels: int = 25  # K
    left_out: int = 10  # L, sub-models that are not trained on a given member
    distill: TrainOverrides = field(default_factory=TrainOverrides)  # training of the student
    kl: Literal["batchmean", "mean"] = (
        "batchmean"  # average of the student's loss; mean: over rows and classes, as published
    )

    def __post_init__(self) -> None:
        if not 1 <= self.left_out < self.submodels <= 1000:
            raise UserError(
                f"defense.left_out={self.left_out} must be at least 1 and below defense.submodels={self.submodels},"
                " which is at most 1000"
            )

    def check(self, task: Task, trainer: Trainer) -> None:
        trainer.with_overrides(self.distill)
        m = int(task.members.sum(-1).argmin())
        self._subtask(task, [m], [self._left_out(task, m)])

    def fit(self, task: Task, trainer: Trainer) -> Models:
        targets = torch.zeros(len(task), len(task.pool), task.pool.num_classes)
        group = max(1, trainer.width // self.submodels)  # models whose sub-models are in memory at once
        facts: list[dict[str, Any]] = []
        for start in range(0, len(task), group):
            models = list(range(start, min(start + group, len(task))))
            left_out = [self._left_out(task, m) for m in models]
            teachers = trainer.fit(self._subtask(task, models, left_out), CROSS_ENTROPY)
            for j, m in enumerate(models):
                own = teachers.take(list(range(j * self.submodels, (j + 1) * self.submodels)))
                logits = trainer.predict(own, task.pool.x[task.rows(m)])
                targets[m, task.rows(m)] = soft_targets(logits, left_out[j], _usable(own))
                facts.append(_facts(own))
        student = trainer.with_overrides(self.distill)
        return Models(student.fit(task, MeanLoss(hamp_loss(0.0, self.kl)), targets), facts=tuple(facts))

    def _left_out(self, task: Task, m: int) -> Tensor:
        """Which of the K sub-models are not trained on which of the n members of model m: (n, K) bool."""
        n_members = int(task.members[m].sum())
        u = numpy_rng(derive(task.seeds[m], "left out")).random((n_members, self.submodels))
        return torch.from_numpy(u.argsort(-1).argsort(-1) < self.left_out)

    def _subtask(self, task: Task, models: list[int], left_out: list[Tensor]) -> Task:
        """One task for the sub-models of these models, model after model."""
        members = torch.zeros(len(models) * self.submodels, len(task.pool), dtype=torch.bool)
        for j, m in enumerate(models):
            members[j * self.submodels : (j + 1) * self.submodels, task.rows(m)] = ~left_out[j].T
        for k in (~members.any(-1)).nonzero().flatten().tolist():
            raise UserError(
                f"sub-model {k % self.submodels} of selena has no members: too few for defense.left_out={self.left_out} of"
                f" defense.submodels={self.submodels}"
            )
        seeds = tuple(derive(task.seeds[m], "sub-model", k) for m in models for k in range(self.submodels))
        return replace(task, members=members, seeds=seeds)


def soft_targets(logits: Tensor, left_out: Tensor, usable: Tensor) -> Tensor:
    """Softmax of the mean logits of the usable sub-models that were not trained on a row: (K, n, C), (n, K), (K,) → (n, C).

    A row without any such sub-model takes all that were not trained on it.
    """
    chosen = left_out & usable
    chosen = torch.where(chosen.any(-1, keepdim=True), chosen, left_out).to(logits.dtype)
    mean = torch.einsum("knc,nk->nc", logits, chosen) / chosen.sum(-1, keepdim=True)
    return mean.softmax(-1)


def _usable(teachers: Stack) -> Tensor:
    """The sub-models (K,) bool that learnt something."""
    return torch.tensor([not h.diverged for h in teachers.history])


def _facts(teachers: Stack) -> dict[str, Any]:
    retrained = sum(len(h.seeds) > 1 for h in teachers.history)
    useless = int((~_usable(teachers)).sum())
    summary = f"{len(teachers)} sub-models, {retrained} of them trained again"
    return {
        "submodels": len(teachers),
        "retrained": retrained,
        "useless": useless,
        "summary": summary + (f", {useless} left out: they learnt next to nothing" if useless else ""),
    }
