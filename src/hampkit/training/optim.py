"""SGD and Adam on stacked parameters ``(M, *shape)``: torch's SGD, and an Adam that counts every model's own steps.

Neither can hold still the models that have finished their epoch while others go on; that is added here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from hampkit.config import Training

Params = dict[str, Tensor]


@dataclass
class Optimizer:
    """Updates parameters in place; ``state`` is empty after `restart`."""

    config: Training
    state: dict[str, Params] = field(default_factory=dict)

    def restart(self) -> None:
        self.state = {}

    def step(self, params: Params, grads: Params, lr: float, idle: Tensor | None = None) -> None:
        """One update of all models; where ``idle`` (M,) is true, they keep parameters and momentum."""
        update = self._adam if self.config.optimizer == "adam" else self._sgd
        if idle is None:
            return update(params, grads, lr)
        everything = [v for group in (params, *self.state.values()) for v in group.values()]
        kept = [v[idle].clone() for v in everything]
        update(params, grads, lr)
        for v, old in zip(everything, kept, strict=True):
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

    def _adam(self, params: Params, grads: Params, lr: float, beta1: float = 0.9, beta2: float = 0.999) -> None:
        if self.config.weight_decay:
            grads = {k: g.add(params[k], alpha=self.config.weight_decay) for k, g in grads.items()}
        if "mean" not in self.state:
            self.state["mean"] = {k: torch.zeros_like(p) for k, p in params.items()}
            self.state["square"] = {k: torch.zeros_like(p) for k, p in params.items()}
            self.state["steps"] = {
                "": next(iter(params.values())).new_zeros(len(next(iter(params.values()))), dtype=torch.float64)
            }
        steps = self.state["steps"][""].add_(
            1
        )  # per model: models of one stack may have taken different numbers of steps
        rate = lr / (1 - beta1**steps)
        unbias = 1 / (1 - beta2**steps).sqrt()
        for k, p in params.items():
            shape = (-1, *(1,) * (p.ndim - 1))
            m = self.state["mean"][k].lerp_(grads[k], 1 - beta1)
            v = self.state["square"][k].mul_(beta2).addcmul_(grads[k], grads[k], value=1 - beta2)
            p.sub_(m / (v.sqrt() * unbias.view(shape).to(p.dtype) + 1e-8) * rate.view(shape).to(p.dtype))


def learning_rate(config: Training, epoch: int) -> float:
    """The learning rate of an epoch, counted from 0.

    >>> learning_rate(Training(lr=0.5, schedule="steps", milestones=(60, 90)), 60)
    0.05
    """
    if config.schedule == "steps":
        return config.lr * config.decay ** sum(epoch >= m for m in config.milestones)
    if config.schedule == "cosine":  # as published for DP-SGD: it ends just above zero
        return config.lr * 0.5 * (1 + math.cos(math.pi * epoch / (config.epochs + 1)))
    return config.lr
