"""What a defense is: a way to train M classifiers, and what a service does to their answers before anybody sees them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from hampkit.training import Trainer
from hampkit.types import Domain, Stack, Task

Ask = Callable[[Tensor], Tensor]  # inputs (B, *shape) → logits (B, C) of the protected network


class Release(ABC):
    """What a service does to its logits before anybody sees them. It never changes the predicted label."""

    about: ClassVar[str]  # one line for the report

    @abstractmethod
    def __call__(self, ask: Ask, x: Tensor, rng: torch.Generator) -> Tensor:
        """The released logits (B, C) for raw inputs x (B, *shape); ``rng`` is fresh for every query."""


class Plain(Release):
    """The logits as they are."""

    about = "the network's own answers, unmodified"

    def __call__(self, ask: Ask, x: Tensor, rng: torch.Generator) -> Tensor:
        return ask(x)


@dataclass(frozen=True)
class Models:
    """M trained classifiers, with whatever their releases need besides the network."""

    stack: Stack
    state: dict[str, Tensor] = field(default_factory=dict)  # each (M, …), stored beside the weights

    def state_of(self, m: int) -> dict[str, Tensor]:
        """What the release of model m needs."""
        return {name: value[m] for name, value in self.state.items()}

    def tensors(self) -> dict[str, Tensor]:
        """All of it as one file holds it: ``params.…``, ``buffers.…``, ``state.…``."""
        groups = (("params", self.stack.params), ("buffers", self.stack.buffers), ("state", self.state))
        return {f"{kind}.{name}": value for kind, group in groups for name, value in group.items()}


class Defense(ABC):
    """Subclasses are frozen dataclasses; their fields are the defense's options, their docstring its text in the report."""

    name: ClassVar[str]
    paper: ClassVar[str]

    @abstractmethod
    def fit(self, task: Task, trainer: Trainer) -> Models:
        """Train every model of the task. Uses only members, reference and validation data, and the task's seeds."""

    def release(self, state: dict[str, Tensor], domain: Domain) -> Release:
        """What stands between one trained model and its users; ``state`` is that model's share of `Models.state`."""
        return Plain()
