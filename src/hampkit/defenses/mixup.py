"""Mixup (Zhang et al. 2018): training on mixtures of two examples and of their labels."""

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
from hampkit.training.objectives import Params, forward, gradient_of, mean_of
from hampkit.training.vectorize import Vectorize
from hampkit.types import Batch, Stack, Task


@dataclass(frozen=True)
class Mixup(Defense):
    """Trains on x = λ x_i + (1 − λ) x_j with the loss λ ℓ(y_i) + (1 − λ) ℓ(y_j), ℓ the cross-entropy. Each batch draws one λ from
    Beta(alpha, alpha) and one permutation of its rows, i → j.
    """

    name: ClassVar[str] = "mixup"
    paper: ClassVar[str] = "https://arxiv.org/abs/1710.09412"

    alpha: float = 1.0  # of the Beta distribution; near 0: almost no mixing; 1: λ is uniform in [0, 1]

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
        def loss(params: Params, buffers: Params, batch: Batch, order: Tensor, share: Tensor) -> tuple[Tensor, Params]:
            x = share * batch.x + (1 - share) * batch.x[order]
            logits, buffers = forward(stack, params, buffers, x)
            first, second = (cross_entropy(logits, y, reduction="none") for y in (batch.y, batch.y[order]))
            return mean_of(share * first + (1 - share) * second, batch), buffers

        return gradient_of(loss, vectorize, stack, state, batch, *self._draws(batch, rngs))

    def _draws(self, batch: Batch, rngs: list[torch.Generator]) -> tuple[Tensor, Tensor]:
        """Permutations (M, B) of the rows that are not padding, and λ (M,)."""
        u = torch.stack([torch.rand(2, generator=rng, dtype=torch.float64) for rng in rngs]).numpy()
        share = torch.from_numpy(betaincinv(self.alpha, self.alpha, u[:, 0])).to(batch.x)
        # one seed per step, whose numbers go to the rows in order: a row's number does not depend on how many rows follow it
        keys = np.stack([numpy_rng(int(seed * 2**53)).random(batch.x.shape[1]) for seed in u[:, 1]])
        padding = batch.weight == 0
        return torch.where(padding, 2.0, torch.from_numpy(keys).to(batch.x)).argsort(-1), share
