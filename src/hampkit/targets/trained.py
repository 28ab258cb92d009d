"""What a run holds once it is trained: the model behind its black box, and its shadow models."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hampkit.attacks import Shadows
from hampkit.defenses import Models
from hampkit.judging.results import ModelResult
from hampkit.runs.store import Run
from hampkit.targets.blackbox import BlackBox
from hampkit.workflows.problem import Problem


@dataclass(frozen=True)
class Trained:
    """A trained model on disk."""

    run: Run
    problem: Problem
    models: Models
    accuracy: dict[str, float]  # train, val, test: fractions, from the network's own answers
    history: dict[str, Any]

    @property
    def folder(self) -> Path:
        return self.run.folder

    def network(self) -> nn.Module:
        """The trained network alone, on the CPU, in evaluation mode: raw inputs (N, *shape) float32 → its own logits (N, C).

        What the defense does to answers is not in it; `hampkit.nn.HampModel` puts HAMP's around a network that serves.
        """
        net, values = copy.deepcopy(self.models.stack.net).cpu().eval(), self.models.stack.state(0)
        with torch.no_grad():  # load_state_dict knows no buffers that are not persistent
            for name, tensor in (*net.named_parameters(), *net.named_buffers()):
                if name in values:
                    tensor.copy_(values[name])
        return net

    def black_box(self) -> BlackBox:
        """The model as its users meet it."""
        release = self.problem.defense.release(self.models.state_of(0), self.problem.dataset.domain)
        return BlackBox(self.models.stack, release, self.problem.trainer)


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found, as it was while the run's lock was held: another process may replace the files later."""

    run: Run
    result: ModelResult
    details: dict[str, Any]  # what a report shows beside the result: curves, histograms, provenance


@dataclass(frozen=True)
class ShadowSet:
    """Trained shadow models, and a name for them."""

    shadows: Shadows
    name: str
    untrained: tuple[int, ...] = ()  # of them: they learnt next to nothing with every seed tried
    differences: tuple[str, ...] = ()  # where they were not trained as the target was: how, in words

    def targets(self) -> list[int]:
        """Those that leave-one-out attacks: nobody releases a model that learnt next to nothing.

        Two such of 128 took the pooled TPR@0.1%FPR of RMIA from 8.8 % to 1.0 %, and every TNR to nearly nothing, because the
        few errors that are allowed all fall on them.
        """
        trained = self._trained()
        return trained if len(trained) >= 2 else list(range(len(self.shadows)))

    def for_target(self) -> Shadows:
        """The shadow models that attack the target: without the untrained, which an adversary sees have learnt nothing.

        Except where fewer than four models, or no model of one side of an example, would remain: then all.
        """
        return replace(self.shadows, models=np.array(self._trained())) if self._enough(1) else self.shadows

    def for_each_other(self) -> Shadows:
        """The shadow models that attack one another: all, but the answers of the untrained do not count, see `for_target`."""
        if not self.untrained or not self._enough(2):  # of an example's side one may be the target itself
            return self.shadows
        counts = np.ones_like(self.shadows.members)
        counts[list(self.untrained)] = False
        return replace(self.shadows, counts=counts)

    def used(self) -> str:
        """A name for the shadow models that attack the target."""
        left = sorted(set(range(len(self.shadows))) - set(self.for_target().models.tolist()))
        return "-".join([self.name, *(["without", *map(str, left)] if left else [])])

    def _trained(self) -> list[int]:
        return [m for m in range(len(self.shadows)) if m not in self.untrained]

    def _enough(self, least: int) -> bool:
        """Whether four trained models, and on each side of every example so many, are left."""
        members = self.shadows.members[self._trained()]
        return len(members) >= 4 and bool((np.minimum(members.sum(0), (~members).sum(0)) >= least).all())
