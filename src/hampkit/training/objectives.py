"""How one batch becomes one gradient, for every model of the stack."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hampkit.training.vectorize import Vectorize
from hampkit.types import Batch, Loss, Stack, Task

Params = dict[str, Tensor]


class Gradient(NamedTuple):
    grads: Params  # each (M, *shape)
    buffers: Params  # each (M, *shape), as batch norm left them
    value: Tensor  # (M,) the loss, for seeing divergence
    state: Any  # what the objective itself keeps, such as an inference network


class Objective:
    """Pure: everything it needs goes in, everything it changes comes out. A subclass has `gradient`, the rest if it must.

    rngs: a generator per model, on the CPU. What is drawn from them must not depend on how many rows a batch has in a stack.
    A model that has finished its epoch has weights of zero and a generator of no consequence; its update is dropped.
    """

    settles: int = 0  # the first epoch whose weights may be kept

    def init(self, stack: Stack, task: Task, rngs: list[torch.Generator]) -> Any:
        """What the objective keeps from step to step; ``task`` holds just the models of the stack."""
        return None

    def begin(self, stack: Stack, state: Any, epoch: int, rngs: list[torch.Generator]) -> Any:
        """The state at the start of an epoch, counted from 0."""
        return state

    def gradient(
        self, vectorize: Vectorize, stack: Stack, state: Any, batch: Batch, rngs: list[torch.Generator]
    ) -> Gradient:
        """One step's gradient of every model."""
        raise NotImplementedError


class MeanLoss(Objective):
    """The weighted mean of a loss per row, ``Σ w_b ℓ(f(x)_b, batch_b) / Σ w_b``."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def gradient(
        self, vectorize: Vectorize, stack: Stack, state: Any, batch: Batch, rngs: list[torch.Generator]
    ) -> Gradient:
        def mean_loss(params: Params, buffers: Params, batch: Batch) -> tuple[Tensor, Params]:
            buffers = {k: v.clone() for k, v in buffers.items()}  # batch norm writes into them
            return mean_of(self.loss(stack.forward(params, buffers, batch.x), batch), batch), buffers

        grads, (value, buffers) = vectorize.gradient(mean_loss)(stack.params, stack.buffers, batch)
        return Gradient(grads, buffers, value, state)


CROSS_ENTROPY = MeanLoss(lambda logits, batch: cross_entropy(logits, batch.y, reduction="none"))


def mean_of(rows: Tensor, batch: Batch) -> Tensor:
    """The mean over rows that count. A model that has finished its epoch rides along with weights of zero."""
    return (rows * batch.weight).sum() / batch.weight.sum().clamp_min(1)
