"""What a run holds once it is trained: the model behind its black box, and its shadow models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hampkit.attacks import Shadows
from hampkit.blackbox import BlackBox
from hampkit.defenses import Models
from hampkit.problem import Problem
from hampkit.store import Run


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

    def black_box(self) -> BlackBox:
        """The model as its users meet it."""
        release = self.problem.defense.release(self.models.state_of(0), self.problem.dataset.domain)
        return BlackBox(self.models.stack, release, self.problem.trainer)


@dataclass(frozen=True)
class Shadowed:
    """Trained shadow models, and a name for them."""

    shadows: Shadows
    name: str
    differences: tuple[str, ...] = ()  # where they were not trained as the target was: how, in words
