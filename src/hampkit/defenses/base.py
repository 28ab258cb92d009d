"""The base classes of defenses: a `Defense` trains M classifiers, a `Release` changes their answers before they are returned."""

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

Predict = Callable[[Tensor], Tensor]  # inputs (B, *shape) → logits (B, C) of the protected network

SMALLEST_REFERENCE = 16  # rows
# Attacks that suit every defense: no release protects the label, the order of classes, or the network behind it.
ADAPTIVE = ("label-only", "rank", "stripped-lira", "stripped-rmia")


class Release(ABC):
    """What a service returns in place of its logits. It never changes the predicted label, and its answers are finite."""

    about: ClassVar[str]  # one line for the report
    keeps_order: ClassVar[bool] = False  # whether answers always have the order of the network's own, ties included

    @abstractmethod
    def __call__(self, predict: Predict, x: Tensor, rng: torch.Generator) -> Tensor:
        """The released logits (B, C) for raw inputs x (B, *shape); predict: the network; rng: a fresh one for every query."""


class Plain(Release):
    """Releases the logits unchanged."""

    about = "the network's own answers, unmodified"
    keeps_order = True

    def __call__(self, predict: Predict, x: Tensor, rng: torch.Generator) -> Tensor:
        return predict(x)


@dataclass(frozen=True)
class Models:
    """M trained classifiers, with the tensors that their releases need besides the network."""

    stack: Stack
    state: dict[str, Tensor] = field(default_factory=dict)  # each (M, …), stored beside the weights
    facts: tuple[dict[str, Any], ...] = ()  # (M,) JSON values for the report, with "summary" in words

    def state_of(self, m: int) -> dict[str, Tensor]:
        """The state (…) of the release of model m."""
        return {name: value[m] for name, value in self.state.items()}

    def tensors(self) -> dict[str, Tensor]:
        """All tensors (M, …) by the names they have in a file: ``params.…``, ``buffers.…``, ``state.…``."""
        groups = (("params", self.stack.params), ("buffers", self.stack.buffers), ("state", self.state))
        return {f"{kind}.{name}": value for kind, group in groups for name, value in group.items()}


class Defense(ABC):
    """A way to train classifiers that reveal less about their members.

    Subclasses are frozen dataclasses: the fields are options on the command line, the docstring is the text in the report.
    Raises: `UserError` for an option out of its range.
    """

    name: ClassVar[str]
    paper: ClassVar[str] = ""  # its address
    needs: ClassVar[tuple[str, ...]] = ()  # "reference": non-members for the defense's own use
    quick: ClassVar[dict[str, Any]] = {}  # options for a cheap training, in tests
    adaptive: ClassVar[tuple[str, ...]] = ADAPTIVE  # attacks that know this defense: run by default with shadow models

    def check(self, task: Task, trainer: Trainer) -> None:
        """Check the options against the task before anything is trained.

        Raises: `UserError` for whatever would make `fit` fail.
        """
        if "reference" in self.needs and (task.reference is None or len(task.reference) < SMALLEST_REFERENCE):
            found = 0 if task.reference is None else len(task.reference)
            raise UserError(
                f"{self.name} needs at least {SMALLEST_REFERENCE} rows of reference data beside members, validation and test,"
                f" and the split leaves {found}; lower split.train_size, or take split.layout=with-reference"
            )

    @abstractmethod
    def fit(self, task: Task, trainer: Trainer) -> Models:
        """Train every model of the task on its members, with reference and validation data, from the task's seeds alone."""

    def release(self, state: dict[str, Tensor], domain: Domain) -> Release:
        """The release of one trained model; state: its tensors (…) from `Models.state`; domain: of the inputs."""
        return Plain()


class Keyed:
    """Random numbers that are a keyed hash of the input, so that repeated queries get the same numbers.

    Inputs are first moved to the nearest point of the domain, so that −0.0 and 0, or 1.0000001 and 1, are the same input. On a
    continuous scale this is not possible: a slightly different input gets different numbers.
    """

    def __init__(self, domain: Domain, secret: Tensor) -> None:
        self.domain = domain
        self.secret = secret

    def numbers(self, x: Tensor, below: int) -> Tensor:
        """A number in [0, below) for every input (B, *shape), equal for equal inputs: (B,) int64."""
        return hashed(self.domain.snap(x.detach().cpu().double()), self.secret, below)

    @staticmethod
    def secrets(task: Task) -> Tensor:
        """One secret per model (M, 32) uint8, drawn from its seed, so that an evaluation can be repeated."""
        rngs = [torch_rng(derive(seed, "secret")) for seed in task.seeds]
        return torch.stack([torch.randint(0, 256, (32,), generator=rng, dtype=torch.uint8) for rng in rngs])


def hashed(rows: Tensor, secret: Tensor, below: int) -> Tensor:
    """A number in [0, below) for each row (B, …) float64, from a hash keyed by the secret (n,) uint8: (B,) int64."""
    key = bytes(secret.tolist())
    content = rows.flatten(1).contiguous().numpy()
    digests = [blake2b(row.tobytes(), key=key, digest_size=8).digest() for row in content]
    return torch.tensor([int.from_bytes(d, "little") % below for d in digests], dtype=torch.int64)
