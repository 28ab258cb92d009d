"""Baselines that train without a defense and change only the released answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from hampkit.defenses.base import Defense, Models, Predict, Release
from hampkit.errors import UserError
from hampkit.training import CROSS_ENTROPY, Trainer
from hampkit.types import Domain, Task

LABEL_LOGIT = (
    10.0  # of the predicted class in a top-1 answer, with 0 for the others; any constant gives the same ranking
)


class _ReleaseOnly(Defense):
    """Plain cross-entropy training; a subclass adds a release."""

    def fit(self, task: Task, trainer: Trainer) -> Models:
        return Models(trainer.fit(task, CROSS_ENTROPY))


@dataclass(frozen=True)
class Top1(_ReleaseOnly):
    """Releases only the predicted label."""

    name: ClassVar[str] = "top1"
    paper: ClassVar[str] = "https://arxiv.org/abs/1610.05820"

    def release(self, state: dict[str, Tensor], domain: Domain) -> Release:
        return _TopLabel()


@dataclass(frozen=True)
class Round(_ReleaseOnly):
    """Releases probabilities rounded to ``decimals`` decimals."""

    name: ClassVar[str] = "round"
    paper: ClassVar[str] = "https://arxiv.org/abs/1610.05820"

    decimals: int = 1  # of every probability

    def __post_init__(self) -> None:
        if not 0 <= self.decimals <= 15:
            raise UserError(f"defense.decimals={self.decimals} must lie between 0 and 15")

    def release(self, state: dict[str, Tensor], domain: Domain) -> Release:
        return _Rounded(self.decimals)


@dataclass(frozen=True)
class Temperature(_ReleaseOnly):
    """Releases logits divided by a temperature; above 1, the answers are less confident."""

    name: ClassVar[str] = "temperature"
    paper: ClassVar[str] = "https://arxiv.org/abs/1610.05820"

    temperature: float = 20.0  # divisor of the logits

    def __post_init__(self) -> None:
        if not 1e-3 <= self.temperature <= 1e6:
            raise UserError(f"defense.temperature={self.temperature} must lie between 0.001 and 1,000,000")

    def release(self, state: dict[str, Tensor], domain: Domain) -> Release:
        return _Tempered(self.temperature)


class _TopLabel(Release):
    about = "the predicted label and nothing else"

    def __call__(self, predict: Predict, x: Tensor, rng: torch.Generator) -> Tensor:
        logits = predict(x).double()
        return LABEL_LOGIT * one_hot(logits.argmax(-1), logits.shape[-1]).double()


class _Rounded(Release):
    about = "the logarithms of rounded probabilities"

    def __init__(self, decimals: int) -> None:
        self.decimals = decimals

    def __call__(self, predict: Predict, x: Tensor, rng: torch.Generator) -> Tensor:
        logits = predict(x).double()
        p = logits.softmax(-1).round(decimals=self.decimals)
        # a probability that is rounded to 0 becomes half a step; a label that rounding ties with others gets a quarter more
        step = 10.0**-self.decimals
        label = one_hot(logits.argmax(-1), logits.shape[-1]) == 1
        tied = (p >= p.gather(-1, logits.argmax(-1, keepdim=True))).sum(-1, keepdim=True) > 1
        return (p.clamp_min(step / 2) + torch.where(label & tied, step / 4, 0.0)).log()


class _Tempered(Release):
    about = "the logits divided by a temperature"

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def __call__(self, predict: Predict, x: Tensor, rng: torch.Generator) -> Tensor:
        return predict(x).double() / self.temperature
