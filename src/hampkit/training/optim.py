"""torch's fused SGD and Adam on stacked parameters (M, *shape), with models that can be left out of an update."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from hampkit.config.sections import TrainConfig
from hampkit.training.objectives import Params


@dataclass
class Optimizer:
    """SGD or Adam, as ``config.optimizer`` names it. Updates parameters and its own state in place."""

    config: TrainConfig
    state: dict[str, Params] = field(default_factory=dict)  # "momentum", or "mean" and "square"; each (M, *shape)
    taken: list[int] = field(default_factory=list)  # (M,) Adam steps of each model so far

    def restart(self) -> None:
        """Reset the state to its initial values, in the same memory."""
        for group in self.state.values():
            for t in group.values():
                t.zero_()
        self.taken = [0] * len(self.taken)

    def step(self, params: Params, grads: Params, lr: float, idle: Tensor | None = None) -> None:
        """One update of params by grads, each (M, *shape); models where ``idle`` (M,) bool is true stay as they are."""
        grads = {k: _laid_out(grads[k], p) for k, p in params.items()}
        if self.config.optimizer == "adam":
            return self._adam(params, grads, lr, idle)
        if idle is None:
            return self._sgd(params, grads, lr)
        tensors = [v for group in (params, *self.state.values()) for v in group.values()]
        kept = [v[idle].clone() for v in tensors]
        self._sgd(params, grads, lr)
        for v, old in zip(tensors, kept, strict=True):
            v[idle] = old
        return None

    def _sgd(self, params: Params, grads: Params, lr: float) -> None:
        config = self.config
        if config.momentum and "momentum" not in self.state:
            self.state["momentum"] = {k: torch.zeros_like(p) for k, p in params.items()}
        momenta = self.state.get("momentum", {})
        sgd(  # fused: one pass over weights, gradient and momentum instead of three
            list(params.values()), [grads[k] for k in params], [momenta.get(k) for k in params],
            weight_decay=config.weight_decay, momentum=config.momentum, lr=lr, dampening=0.0, nesterov=False,
            maximize=False, fused=True,
        )  # fmt: skip

    def _adam(self, params: Params, grads: Params, lr: float, idle: Tensor | None) -> None:
        n_models = len(next(iter(params.values())))
        if not self.state:
            self.state = {name: {k: torch.zeros_like(p) for k, p in params.items()} for name in ("mean", "square")}
            self.taken = [0] * n_models
        active = list(range(n_models)) if idle is None else (~idle).nonzero().squeeze(-1).tolist()
        together = len(active) == n_models and len(set(self.taken)) == 1
        for m in active:
            self.taken[m] += 1
        for part in [slice(None)] if together else [slice(m, m + 1) for m in active]:
            self._adam_of(part, params, grads, lr)

    def _adam_of(self, part: slice, params: Params, grads: Params, lr: float) -> None:
        """One update of the models in ``part``, which have all taken the same number of steps."""
        p, g, mean, square = ([group[k][part] for k in params] for group in (params, grads, *self.state.values()))
        steps = [t.new_full((), self.taken[part][0] - 1) for t in p]  # adam adds 1 for this step
        adam(  # fused: one pass instead of ten
            p, g, mean, square, [], steps,
            amsgrad=False, beta1=0.9, beta2=0.999, lr=lr, weight_decay=self.config.weight_decay, eps=1e-8, maximize=False,
            fused=True,
        )  # fmt: skip


def learning_rate(config: TrainConfig, epoch: int) -> float:
    """The learning rate of an epoch, counted from 0.

    >>> learning_rate(TrainConfig(lr=0.5, schedule="steps", milestones=(60, 90)), 60)
    0.05
    """
    if config.schedule == "steps":
        return config.lr * config.decay ** sum(epoch >= m for m in config.milestones)
    if config.schedule == "cosine":  # as published for DP-SGD: the last epoch's rate is just above zero
        return config.lr * 0.5 * (1 + math.cos(math.pi * epoch / (config.epochs + 1)))
    return config.lr


def _laid_out(gradient: Tensor, like: Tensor) -> Tensor:
    """The gradient with the strides of its parameter: fused optimisers read the memory of both in the same order."""
    return gradient if gradient.stride() == like.stride() else torch.empty_like(like).copy_(gradient)
