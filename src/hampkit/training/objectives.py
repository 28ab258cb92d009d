"""Objectives: the gradient of one batch, for every model of a stack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hampkit.errors import UserError
from hampkit.training.vectorize import Vectorize
from hampkit.types import Batch, Loss, Stack, Task

Params = dict[str, Tensor]


class Gradient(NamedTuple):
    """The result of one step, before the optimiser uses it."""

    grads: Params  # each (M, *shape)
    buffers: Params  # each (M, *shape), after the batch
    value: Tensor  # (M,) the loss; not finite: the model has diverged
    state: Any  # of the objective, such as an inference network


class Objective:
    """What training minimises. A subclass implements `gradient`, and `init` and `begin` if it has a state.

    Pure: a step reads its arguments and returns what it changes. ``rngs`` holds a CPU generator per model; what is drawn from
    it must not depend on how many rows a batch has. A model that has finished its epoch while others go on has weights of
    zero and an arbitrary generator; its update is dropped.
    """

    settles: int = 0  # the first epoch whose weights may be kept

    def init(self, stack: Stack, task: Task, rngs: list[torch.Generator]) -> Any:
        """The state before the first step; ``task`` holds the models of the stack and no others."""
        return None

    def begin(self, stack: Stack, state: Any, epoch: int, rngs: list[torch.Generator]) -> Any:
        """The state at the start of an epoch, counted from 0."""
        return state

    def gradient(
        self, vectorize: Vectorize, stack: Stack, state: Any, batch: Batch, rngs: list[torch.Generator]
    ) -> Gradient:
        """The gradients of one step for every model; each tensor of ``batch`` is (M, B, …)."""
        raise NotImplementedError


class MeanLoss(Objective):
    """The weighted mean of a loss per row, Σ_b w_b ℓ(f(x)_b, batch_b) / Σ_b w_b."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def gradient(
        self, vectorize: Vectorize, stack: Stack, state: Any, batch: Batch, rngs: list[torch.Generator]
    ) -> Gradient:
        def mean_loss(params: Params, buffers: Params, batch: Batch) -> tuple[Tensor, Params]:
            logits, buffers = forward(stack, params, buffers, batch.x)
            return mean_of(self.loss(logits, batch), batch), buffers

        return gradient_of(mean_loss, vectorize, stack, state, batch)


CROSS_ENTROPY = MeanLoss(lambda logits, batch: cross_entropy(logits, batch.y, reduction="none"))


def forward(stack: Stack, params: Params, buffers: Params, x: Tensor) -> tuple[Tensor, Params]:
    """Logits (B, C) of one model in training for x (B, *shape), and its buffers after the batch."""
    buffers = {k: v.clone() for k, v in buffers.items()}  # batch norm writes into them
    return stack.forward(params, buffers, x), buffers


def gradient_of(
    loss: Callable[..., tuple[Tensor, Params]], vectorize: Vectorize, stack: Stack, state: Any, *args: Any
) -> Gradient:
    """The gradients of a loss of one model, ``(params, buffers, *args) → (scalar, buffers)``, for the whole stack.

    Each tensor in ``args`` is (M, …).
    """
    grads, (value, buffers) = vectorize.gradient(loss)(stack.params, stack.buffers, *args)
    return Gradient(grads, buffers, value, state)


def mean_of(rows: Tensor, batch: Batch) -> Tensor:
    """The weighted mean Σ_b w_b rows_b / Σ_b w_b of rows (B,), a scalar; 0 if all weights are zero.

    Raises: `UserError` for rows of another shape, such as the mean that a loss took itself.
    """
    if rows.shape != batch.weight.shape:
        raise UserError(
            f"a loss of shape {tuple(rows.shape)} must have one value for each row, {tuple(batch.weight.shape)}: take no mean"
        )
    return (rows * batch.weight).sum() / batch.weight.sum().clamp_min(1)
