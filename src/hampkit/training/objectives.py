"""How one batch becomes one gradient, for every model of the stack."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from hampkit.training.each import Each
from hampkit.types import Batch, Loss, Stack

Params = dict[str, Tensor]


class Gradient(NamedTuple):
    grads: Params  # each (M, *shape)
    buffers: Params  # each (M, *shape), as batch norm left them
    value: Tensor  # (M,) the loss, for seeing divergence
    state: Any  # what the objective itself keeps, such as an inference network


class Objective(Protocol):
    """Pure: everything it needs goes in, everything it changes comes out."""

    def init(self, stack: Stack, rngs: list[torch.Generator]) -> Any: ...

    def gradient(self, each: Each, stack: Stack, state: Any, batch: Batch, rngs: list[torch.Generator]) -> Gradient: ...


class MeanLoss:
    """The weighted mean of a loss per row, ``Σ w_b ℓ(f(x)_b, batch_b) / Σ w_b``."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def init(self, stack: Stack, rngs: list[torch.Generator]) -> None:
        return None

    def gradient(self, each: Each, stack: Stack, state: Any, batch: Batch, rngs: list[torch.Generator]) -> Gradient:
        def mean_loss(params: Params, buffers: Params, batch: Batch) -> tuple[Tensor, Params]:
            buffers = {k: v.clone() for k, v in buffers.items()}  # batch norm writes into them
            rows = self.loss(stack.forward(params, buffers, batch.x), batch)
            # a model that has finished its epoch rides along with weights of zero; its update is dropped
            return (rows * batch.weight).sum() / batch.weight.sum().clamp_min(1), buffers

        grads, (value, buffers) = each.gradient(mean_loss)(stack.params, stack.buffers, batch)
        return Gradient(grads, buffers, value, state)
