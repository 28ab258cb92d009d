"""What a defense is: a way to train M classifiers, and what a service does to their answers before anybody sees them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, ClassVar

import torch
from torch import Tensor

from hampkit.errors import UserError
from hampkit.rng import derive, torch_rng
from hampkit.training import Trainer
from hampkit.types import Domain, Stack, Task

Ask = Callable[[Tensor], Tensor]  # inputs (B, *shape) → logits (B, C) of the protected network


SMALLEST_REFERENCE = 16  # rows


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
    facts: tuple[dict[str, Any], ...] = ()  # per model what a report must say, "summary" in words; JSON values

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
    needs: ClassVar[tuple[str, ...]] = ()  # "reference": rows beside the members that nobody else uses
    quick: ClassVar[dict[str, Any]] = {}  # options that make it cheap, for trying out and for tests

    def check(self, task: Task, trainer: Trainer) -> None:
        """Errors: `UserError` for whatever would make `fit` fail; nothing is trained yet."""
        if "reference" in self.needs and (task.reference is None or len(task.reference) < SMALLEST_REFERENCE):
            found = 0 if task.reference is None else len(task.reference)
            raise UserError(
                f"{self.name} needs at least {SMALLEST_REFERENCE} rows of reference data beside members, validation and test,"
                f" and the split leaves {found}; lower split.train_size, or take split.layout=with-reference"
            )

    @abstractmethod
    def fit(self, task: Task, trainer: Trainer) -> Models:
        """Train every model of the task. Uses only members, reference and validation data, and the task's seeds."""

    def release(self, state: dict[str, Tensor], domain: Domain) -> Release:
        """What stands between one trained model and its users; ``state`` is that model's share of `Models.state`."""
        return Plain()


class Keyed:
    """Random numbers that follow from an input and a secret: repeating a query teaches nothing.

    An input is snapped to its domain's bounds and steps first, so that −0.0, 1.0000001 and 1 are one input. Inputs on a
    continuous scale cannot be snapped: whoever changes one a little gets other numbers.
    """

    def __init__(self, domain: Domain, secret: Tensor) -> None:
        self.domain = domain
        self.secret = bytes(secret.tolist())

    def numbers(self, x: Tensor, below: int) -> Tensor:
        """A keyed hash of every row as a number (B,) int64: equal inputs give equal numbers."""
        rows = self.domain.snap(x.detach().cpu().double()).flatten(1).contiguous().numpy()
        digests = [blake2b(row.tobytes(), key=self.secret, digest_size=8).digest() for row in rows]
        return torch.tensor([int.from_bytes(d, "little") % below for d in digests])

    @staticmethod
    def secrets(task: Task) -> Tensor:
        """A secret per model (M, 32) uint8, from its seed, so that an evaluation repeats."""
        rngs = [torch_rng(derive(seed, "secret")) for seed in task.seeds]
        return torch.stack([torch.randint(0, 256, (32,), generator=rng, dtype=torch.uint8) for rng in rngs])
