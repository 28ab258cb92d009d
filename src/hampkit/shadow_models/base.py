"""What shadow models are trained on, and what is kept of them.

Axes: M shadow models, P rows of the pool, V views, Z rows of the population.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hampkit.config.recipe import Recipe
from hampkit.config.sections import ShadowConfig
from hampkit.data.splits import SplitTable, shadow_members
from hampkit.defenses import Defense
from hampkit.training import Trainer
from hampkit.types import Dataset, Domain, Task


@dataclass(frozen=True)
class ShadowTask:
    """A target's recipe, data and defense, as far as its shadow models need them."""

    recipe: Recipe
    task: Task  # the pool of P rows; members and seeds are the target's, val is the shadow models'
    defense: Defense
    trainer: Trainer
    domain: Domain
    population: Dataset  # rows that no model is trained on or chosen by; every shadow model is asked about them
    units: NDArray[np.int64] = field(repr=False)  # (P,) rows with the same number are IN or OUT together
    table: SplitTable = field(repr=False)
    sha256: str = ""  # of the data set, without its order

    @property
    def config(self) -> ShadowConfig:
        """How many shadow models, with which masks and views."""
        return self.recipe.shadows

    @property
    def views(self) -> int:
        """How many views of each example are asked about."""
        return self.config.views if self.config.models else 1

    def of(self, config: ShadowConfig) -> ShadowTask:
        """The same with other masks, or another number of models."""
        return replace(self, recipe=replace(self.recipe, shadows=config))

    def masks(self) -> Tensor:
        """(M, P) bool: which shadow model is trained on which row of the pool."""
        c = self.config
        return shadow_members(c.models, len(self.task.pool), c.seed, c.scheme, self.units)


@dataclass(frozen=True)
class ShadowSet:
    """The signals of trained shadow models, and a name for them."""

    parts: tuple[NDArray[np.float32], ...]  # each (m, P, V) scaled logits, memory-mapped; their m add up to M
    members: NDArray[np.bool_]  # (M, P): model m was trained on row i of the pool
    population: NDArray[np.float32]  # (M, Z) scaled logits
    name: str
    untrained: tuple[int, ...] = ()  # models that learnt next to nothing with every seed tried
    differences: tuple[str, ...] = ()  # how their training differs from the target's, in words

    def __len__(self) -> int:
        return len(self.members)

    def targets(self) -> list[int]:
        """The models that leave-one-out attacks: nobody releases a model that learnt next to nothing.

        Two such of 128 took the pooled TPR@0.1%FPR of RMIA from 8.8 % to 1.0 %, and every TNR to nearly nothing, because the
        few errors that are allowed all fall on them.
        """
        trained = self.trained()
        return trained if len(trained) >= 2 else list(range(len(self)))

    def for_target(self) -> list[int]:
        """The models that attack the target: without the untrained ones, which an adversary recognises by their answers.

        All models, if fewer than four, or no model of one side of an example, would remain.
        """
        return self.trained() if self._enough(1) else list(range(len(self)))

    def counts(self) -> NDArray[np.bool_] | None:
        """(M, P) whose answers count when the models attack one another; None: all.

        The answers of the untrained do not, with the exceptions of `for_target`.
        """
        if not self.untrained or not self._enough(2):  # of an example's side one may be the target itself
            return None
        counts = np.ones_like(self.members)
        counts[list(self.untrained)] = False
        return counts

    def used(self) -> str:
        """A name for the models that attack the target."""
        left_out = sorted(set(range(len(self))) - set(self.for_target()))
        return "-".join([self.name, *(["without", *map(str, left_out)] if left_out else [])])

    def trained(self) -> list[int]:
        return [m for m in range(len(self)) if m not in self.untrained]

    def _enough(self, least: int) -> bool:
        """Whether at least four trained models remain, and this many on each side of every example."""
        members = self.members[self.trained()]
        return len(members) >= 4 and bool((np.minimum(members.sum(0), (~members).sum(0)) >= least).all())
