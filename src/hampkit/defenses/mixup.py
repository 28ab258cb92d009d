"""Mixup (Zhang et al. 2018): train on blends of two examples and of their labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor
from torch.nn.functional import cross_entropy

from hampkit.defenses.base import Defense, Models
from hampkit.errors import UserError
from hampkit.rng import numpy_rng
from hampkit.training import Gradient, Objective, Trainer
from hampkit.training.objectives import Params, mean_of
from hampkit.training.vectorize import Vectorize
from hampkit.types import Batch, Stack, Task


@dataclass(frozen=True)
class Mixup(Defense):
    """x = λ x_i + (1 − λ) x_j, loss λ ℓ(y_i) + (1 − λ) ℓ(y_j): per batch one λ from Beta(alpha, alpha) and one permutation of
    its rows for j.
    """

    name: ClassVar[str] = "mixup"
    paper: ClassVar[str] = "https://arxiv.org/abs/1710.09412"

    alpha: float = 1.0  # of the Beta distribution; near 0 hardly mixes, 1 draws λ uniformly

    def __post_init__(self) -> None:
        if not (self.alpha > 0 and math.isfinite(self.alpha)):
            raise UserError(f"defense.alpha={self.alpha} of mixup must be a number above 0")

    def fit(self, task: Task, trainer: Trainer) -> Models:
        return Models(trainer.fit(task, _Mixed(self.alpha)))


class _Mixed(Objective):
    def __init__(self, alpha: float) -> None:
        self.alpha = alpha

    def gradient(
        self, vectorize: Vectorize, stack: Stack, state: Any, batch: Batch, rngs: list[torch.Generator]
    ) -> Gradient:
        u = torch.stack([torch.rand(2, generator=rng, dtype=torch.float64) for rng in rngs]).numpy()
        part = torch.from_numpy(betaincinv(self.alpha, self.alpha, u[:, 0])).to(batch.x)
        # a seed per step and its numbers in order: what a row gets does not depend on how many rows follow it
        keys = np.stack([numpy_rng(int(seed * 2**53)).random(batch.x.shape[1]) for seed in u[:, 1]])
        padding = batch.weight == 0
        order = torch.where(padding, 2.0, torch.from_numpy(keys).to(batch.x)).argsort(-1)  # of the rows that count

        def loss(params: Params, buffers: Params, batch: Batch, order: Tensor, part: Tensor) -> tuple[Tensor, Params]:
            buffers = {k: v.clone() for k, v in buffers.items()}
            logits = stack.forward(params, buffers, part * batch.x + (1 - part) * batch.x[order])
            mine, other = (cross_entropy(logits, y, reduction="none") for y in (batch.y, batch.y[order]))
            return mean_of(part * mine + (1 - part) * other, batch), buffers

        grads, (value, buffers) = vectorize.gradient(loss)(stack.params, stack.buffers, batch, order, part)
        return Gradient(grads, buffers, value, state)
