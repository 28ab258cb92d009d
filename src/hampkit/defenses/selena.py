"""SELENA (Tang et al., USENIX Security 2022): a student learns from sub-models that never saw the example in question."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from hampkit.config.sections import TrainOverrides
from hampkit.defenses.base import Defense, Models
from hampkit.errors import UserError
from hampkit.rng import derive, numpy_rng
from hampkit.training import CROSS_ENTROPY, MeanLoss, Trainer
from hampkit.training.soft_labels import hamp_loss
from hampkit.types import Stack, Task


@dataclass(frozen=True)
class Selena(Defense):
    """K sub-models, each trained without the members that were drawn to be left out of it: L of K for every member. The soft
    label of a member is the softmax of the mean logits of its L sub-models; a fresh network learns these labels.

    Differs from the paper, which averages probabilities, as the published code of HAMP's comparison does: the mean is over
    logits. Differs from that code: sub-models that learnt next to nothing are trained again, and left out of the mean
    where they still do not; every model draws its own sub-sets.
    """

    name: ClassVar[str] = "selena"
    paper: ClassVar[str] = "https://arxiv.org/abs/2110.08324"
    quick: ClassVar[dict[str, Any]] = {"submodels": 4, "left_out": 2}

    submodels: int = 25  # K
    left_out: int = 10  # L, of K sub-models that are not trained on a member
    distill: TrainOverrides = field(
        default_factory=TrainOverrides
    )  # how the student is trained; what is not set is as in train
    kl: Literal["batchmean", "mean"] = (
        "batchmean"  # of the student's loss; mean: divided by rows and by classes, as published
    )

    def __post_init__(self) -> None:
        if not 1 <= self.left_out < self.submodels <= 1000:
            raise UserError(
                f"defense.left_out={self.left_out} must be at least 1 and below defense.submodels={self.submodels},"
                " which is at most 1000"
            )

    def check(self, task: Task, trainer: Trainer) -> None:
        self.distill.of(trainer.config)
        m = int(task.members.sum(-1).argmin())
        self._subtask(task, [m], [self._left_out(task, m)])

    def fit(self, task: Task, trainer: Trainer) -> Models:
        targets = torch.zeros(len(task), len(task.pool), task.pool.num_classes)
        group = max(1, trainer.width // self.submodels)  # models whose sub-models are held at once
        facts: list[dict[str, Any]] = []
        for start in range(0, len(task), group):
            models = list(range(start, min(start + group, len(task))))
            left = [self._left_out(task, m) for m in models]
            teachers = trainer.fit(self._subtask(task, models, left), CROSS_ENTROPY)
            for j, m in enumerate(models):
                mine = teachers.take(list(range(j * self.submodels, (j + 1) * self.submodels)))
                rows = task.members[m].nonzero().squeeze(-1)
                logits = trainer.predict(mine, task.pool.x[rows])
                targets[m, rows] = soft_targets(logits, left[j], _usable(mine))
                facts.append(_facts(mine))
        config = self.distill.of(trainer.config)
        student = trainer.with_config(config, f"defense.distill.lr={config.lr}")
        return Models(student.fit(task, MeanLoss(hamp_loss(0.0, self.kl)), targets), facts=tuple(facts))

    def _left_out(self, task: Task, m: int) -> Tensor:
        """(n, K) bool: which sub-models are not trained on which member of model m."""
        n = int(task.members[m].sum())
        u = numpy_rng(derive(task.seeds[m], "left out")).random((n, self.submodels))
        return torch.from_numpy(u.argsort(-1).argsort(-1) < self.left_out)

    def _subtask(self, task: Task, models: list[int], left: list[Tensor]) -> Task:
        """One task for all sub-models of these models."""
        members = torch.zeros(len(models) * self.submodels, len(task.pool), dtype=torch.bool)
        for j, m in enumerate(models):
            rows = task.members[m].nonzero().squeeze(-1)
            members[j * self.submodels : (j + 1) * self.submodels, rows] = ~left[j].T
        for k in (~members.any(-1)).nonzero().flatten().tolist():
            raise UserError(
                f"sub-model {k % self.submodels} of selena has no members: too few for defense.left_out={self.left_out} of"
                f" defense.submodels={self.submodels}"
            )
        seeds = tuple(derive(task.seeds[m], "sub-model", k) for m in models for k in range(self.submodels))
        return replace(task, members=members, seeds=seeds)


def soft_targets(logits: Tensor, left_out: Tensor, usable: Tensor) -> Tensor:
    """Softmax of the mean logits of the sub-models that were not trained on a row: (K, n, C), (n, K), (K,) → (n, C).

    Sub-models that are of no use are left out, unless a row has no other.
    """
    chosen = left_out & usable
    chosen = torch.where(chosen.any(-1, keepdim=True), chosen, left_out).to(logits.dtype)
    mean = torch.einsum("knc,nk->nc", logits, chosen) / chosen.sum(-1, keepdim=True)
    return mean.softmax(-1)


def _usable(teachers: Stack) -> Tensor:
    return torch.tensor([not h.diverged for h in teachers.history])


def _facts(teachers: Stack) -> dict[str, Any]:
    again = sum(len(h.seeds) > 1 for h in teachers.history)
    useless = int((~_usable(teachers)).sum())
    said = f"{len(teachers)} sub-models, {again} of them trained again"
    return {
        "submodels": len(teachers),
        "retrained": again,
        "useless": useless,
        "summary": said + (f", {useless} left out: they learnt next to nothing" if useless else ""),
    }
