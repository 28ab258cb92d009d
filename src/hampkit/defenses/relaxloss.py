"""RelaxLoss (Chen et al., ICLR 2022): the training loss is held at a target above zero."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from hampkit.defenses.base import Defense, Models
from hampkit.errors import UserError
from hampkit.training import Gradient, Objective, Trainer
from hampkit.training.each import Each
from hampkit.training.objectives import Params, mean_of
from hampkit.types import Batch, Stack, Task


@dataclass(frozen=True)
class RelaxLoss(Defense):
    """Gradient descent while a batch's mean loss L is above alpha. Below it, in even epochs gradient ascent (the loss is
    |L − alpha|); in odd ones the answers are flattened: cross-entropy to a label that leaves the true class its present
    probability, at most ``upper``, and gives the others equal parts of the rest.
    """

    name: ClassVar[str] = "relaxloss"
    paper: ClassVar[str] = "https://arxiv.org/abs/2207.05801"

    alpha: float = 0.5  # the mean loss in nats that training aims at
    upper: float = 1.0  # largest probability of the true class in a flattened label

    def __post_init__(self) -> None:
        if self.alpha < 0 or not math.isfinite(self.alpha):
            raise UserError(f"defense.alpha={self.alpha} of relaxloss must be a loss of at least 0 nats")
        if not 0 < self.upper <= 1:
            raise UserError(f"defense.upper={self.upper} must lie in (0, 1]")

    def fit(self, task: Task, trainer: Trainer) -> Models:
        return Models(trainer.fit(task, _Relaxed(self.alpha, self.upper)))


class _Relaxed(Objective):
    def __init__(self, alpha: float, upper: float) -> None:
        self.alpha, self.upper = alpha, upper

    def begin(self, stack: Stack, state: Any, epoch: int, rngs: list[torch.Generator]) -> int:
        return epoch

    def gradient(self, each: Each, stack: Stack, state: Any, batch: Batch, rngs: list[torch.Generator]) -> Gradient:
        def relaxed(params: Params, buffers: Params, batch: Batch) -> tuple[Tensor, Params]:
            buffers = {k: v.clone() for k, v in buffers.items()}
            logits = stack.forward(params, buffers, batch.x)
            loss = mean_of(cross_entropy(logits, batch.y, reduction="none"), batch)
            if state % 2 == 0:
                return (loss - self.alpha).abs(), buffers
            flat = mean_of(-(self._flat(logits, batch.y) * log_softmax(logits, -1)).sum(-1), batch)
            return torch.where(loss > self.alpha, loss, flat), buffers

        grads, (value, buffers) = each.gradient(relaxed)(stack.params, stack.buffers, batch)
        return Gradient(grads, buffers, value, state)

    def _flat(self, logits: Tensor, y: Tensor) -> Tensor:
        """The flattened label of every row (B, C), without a gradient of its own."""
        classes = logits.shape[-1]
        p = log_softmax(logits.detach(), -1).exp().gather(-1, y.unsqueeze(-1)).clamp_max(self.upper)
        true = torch.arange(classes, device=y.device) == y.unsqueeze(-1)
        return torch.where(true, p, (1 - p) / (classes - 1))
