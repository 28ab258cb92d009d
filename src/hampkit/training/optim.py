"""torch's fused SGD and Adam on stacked parameters ``(M, *shape)``.

Neither can hold still the models that have finished their epoch while others go on; that is added here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from hampkit.config.recipe import TrainConfig

Params = dict[str, Tensor]


@dataclass
class Optimizer:
    """Updates parameters and its ``state`` in place."""

    config: TrainConfig
    state: dict[str, Params] = field(default_factory=dict)
    taken: list[int] = field(default_factory=list)  # Adam's steps of every model

    def restart(self) -> None:
        """As at the beginning, in the same memory."""
        for group in self.state.values():
            for t in group.values():
                t.zero_()
        self.taken = [0] * len(self.taken)

    def step(self, params: Params, grads: Params, lr: float, idle: Tensor | None = None) -> None:
        """One update of all models; where ``idle`` (M,) is true, they keep parameters and momentum."""
        grads = {k: _laid_out(grads[k], p) for k, p in params.items()}
        if self.config.optimizer == "adam":
            return self._adam(params, grads, lr, idle)
        if idle is None:
            return self._sgd(params, grads, lr)
        everything = [v for group in (params, *self.state.values()) for v in group.values()]
        kept = [v[idle].clone() for v in everything]
        self._sgd(params, grads, lr)
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

    def _adam(self, params: Params, grads: Params, lr: float, idle: Tensor | None) -> None:
        models = len(next(iter(params.values())))
        if not self.state:
            self.state = {name: {k: torch.zeros_like(p) for k, p in params.items()} for name in ("mean", "square")}
            self.taken = [0] * models
        going = list(range(models)) if idle is None else (~idle).nonzero().squeeze(-1).tolist()
        together = len(going) == models and len(set(self.taken)) == 1
        for m in going:
            self.taken[m] += 1
        for part in [slice(None)] if together else [slice(m, m + 1) for m in going]:
            self._adam_of(part, params, grads, lr)

    def _adam_of(self, part: slice, params: Params, grads: Params, lr: float) -> None:
        """Models that have taken equally many steps."""
        p, g, mean, square = ([group[k][part] for k in params] for group in (params, grads, *self.state.values()))
        steps = [t.new_full((), self.taken[part][0] - 1) for t in p]  # adam counts this one
        adam(  # fused: one pass instead of ten
            p, g, mean, square, [], steps,
            amsgrad=False, beta1=0.9, beta2=0.999, lr=lr, weight_decay=self.config.weight_decay, eps=1e-8, maximize=False,
            fused=True,
        )  # fmt: skip


def _laid_out(gradient: Tensor, like: Tensor) -> Tensor:
    """With the strides of the parameter: fused optimisers go through the memory of both in one order."""
    return gradient if gradient.stride() == like.stride() else torch.empty_like(like).copy_(gradient)


def learning_rate(config: TrainConfig, epoch: int) -> float:
    """The learning rate of an epoch, counted from 0.

    >>> learning_rate(TrainConfig(lr=0.5, schedule="steps", milestones=(60, 90)), 60)
    0.05
    """
    if config.schedule == "steps":
        return config.lr * config.decay ** sum(epoch >= m for m in config.milestones)
    if config.schedule == "cosine":  # as published for DP-SGD: it ends just above zero
        return config.lr * 0.5 * (1 + math.cos(math.pi * epoch / (config.epochs + 1)))
    return config.lr
