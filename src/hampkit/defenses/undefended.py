"""No defense: the baseline that the others are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hampkit.defenses.base import Defense, Models
from hampkit.training import CROSS_ENTROPY, Trainer
from hampkit.types import Task


@dataclass(frozen=True)
class Undefended(Defense):
    """Plain cross-entropy training; the network's own answers are released."""

    name: ClassVar[str] = "undefended"
    paper: ClassVar[str] = "https://arxiv.org/abs/1610.05820"

    def fit(self, task: Task, trainer: Trainer) -> Models:
        return Models(trainer.fit(task, CROSS_ENTROPY))
