"""The task of shadow models and the signals that are kept of them.

Axes: M shadow models, P rows of the pool, V views, Z rows of the population.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hampkit.config.recipe import Recipe
from hampkit.config.sections import ShadowConfig
from hampkit.data.splits import SplitTable, shadow_members
from hampkit.defenses import Defense
from hampkit.targets.probing import input_space
from hampkit.training import Trainer
from hampkit.types import Dataset, Domain, InputSpace, Probe, Task


@dataclass(frozen=True)
class ShadowTask:
    """The parts of a target's problem that its shadow models need."""

    recipe: Recipe
    task: Task  # members and seeds are of the target, the validation rows of the shadow models
    defense: Defense
    trainer: Trainer
    domain: Domain
    population: Dataset  # Z rows that no model is trained on or chosen by, which are queried too
    units: NDArray[np.int64] = field(repr=False)  # (P,) rows with equal numbers are IN or OUT together
    table: SplitTable = field(repr=False)
    drawn: NDArray[np.int64] = field(repr=False)  # the rows of which each model has a half, beside all others
    sha256: str = ""  # of the data set, regardless of its order
    probes: tuple[Probe, ...] = ()  # what the models are asked beyond one question per example

    @cached_property
    def space(self) -> InputSpace:
        """What an adversary knows of the inputs."""
        return input_space(self.domain, self.population.x, self.task.pool.x)

    @property
    def config(self) -> ShadowConfig:
        """Number, masks and views of the shadow models."""
        return self.recipe.shadows

    @property
    def views(self) -> int:
        """Number of views that are queried per example."""
        return self.config.views if self.config.models else 1

    @property
    def questions(self) -> int:
        """Number of questions to one model about one candidate."""
        return self.views + sum(probe.questions(self.task.pool.shape) for probe in self.probes)

    def of(self, config: ShadowConfig) -> ShadowTask:
        """A copy with other options of the shadow models."""
        return replace(self, recipe=replace(self.recipe, shadows=config))

    def masks(self) -> Tensor:
        """(M, P) bool: shadow model m is trained on row i of the pool.

        Raises: `UserError` as `hampkit.data.splits.shadow_members`.
        """
        c = self.config
        _, first, of = np.unique(self.units[self.drawn], return_index=True, return_inverse=True)
        masks = torch.ones(c.models, len(self.task.pool), dtype=torch.bool)
        masks[:, torch.from_numpy(self.drawn)] = shadow_members(c.models, len(of), c.seed, c.scheme, first[of])
        return masks


@dataclass(frozen=True)
class ShadowSet:
    """The signals of trained shadow models."""

    parts: tuple[NDArray[np.float32], ...]  # each (m, P, V) scaled logits, memory-mapped; their m add up to M
    members: NDArray[np.bool_]  # (M, P): model m was trained on row i of the pool
    population: NDArray[np.float32]  # (M, Z) scaled logits
    name: str
    untrained: tuple[int, ...] = ()  # models that learnt almost nothing with any of their seeds
    differences: tuple[str, ...] = ()  # between their training and the target's, in words
    # what each probe kept of their answers, (m, P, k) each, as ``parts``
    probes: Mapping[Probe, tuple[NDArray[np.float32], ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.members)

    def targets(self) -> list[int]:
        """The models that leave-one-out attacks: all but the untrained ones, which nobody would release.

        Two untrained models of 128 reduced the pooled TPR@0.1%FPR of RMIA from 8.8 % to 1.0 %, and every TNR to almost zero,
        because all of the few errors that the target FPR allows fall on them.
        """
        trained = self.trained()
        return trained if len(trained) >= 2 else list(range(len(self)))

    def for_target(self) -> list[int]:
        """The models that attack the target: all but the untrained ones, which an adversary recognises by their answers.

        If fewer than four models would remain, or an example would have no IN or no OUT model, all models are taken.
        """
        return self.trained() if self._enough(1) else list(range(len(self)))

    def counts(self) -> NDArray[np.bool_] | None:
        """(M, P) the answers that are used when the models attack one another; None: all.

        Those of untrained models are not used, with the exceptions of `for_target`.
        """
        if not self.untrained or not self._enough(2):  # two, because one of them may be the target itself
            return None
        counts = np.ones_like(self.members)
        counts[list(self.untrained)] = False
        return counts

    def used(self) -> str:
        """A name for the models of `for_target`."""
        left_out = sorted(set(range(len(self))) - set(self.for_target()))
        return "-".join([self.name, *(["without", *map(str, left_out)] if left_out else [])])

    def trained(self) -> list[int]:
        """The models that learnt something."""
        return [m for m in range(len(self)) if m not in self.untrained]

    def _enough(self, least: int) -> bool:
        """Whether there are at least four trained models, and ``least`` IN and OUT models of every example."""
        members = self.members[self.trained()]
        members = members[:, ~self.members.all(0)]  # rows that all models were trained on are not attacked
        return len(members) >= 4 and bool((np.minimum(members.sum(0), (~members).sum(0)) >= least).all())
