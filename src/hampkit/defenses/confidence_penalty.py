"""Confidence penalty (Pereyra et al. 2017): the loss rewards answers of high entropy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from hampkit.defenses.base import Defense, Models
from hampkit.errors import UserError
from hampkit.training import MeanLoss, Trainer
from hampkit.training.soft_labels import entropy
from hampkit.types import Batch, Task


@dataclass(frozen=True)
class ConfidencePenalty(Defense):
    """Minimises −ln p_y − beta · H(p), the cross-entropy minus beta times the entropy of the answer p."""

    name: ClassVar[str] = "confidence-penalty"
    paper: ClassVar[str] = "https://arxiv.org/abs/1701.06548"

    beta: float = 0.1  # weight of the entropy, both terms in nats

    def __post_init__(self) -> None:
        if self.beta < 0 or not math.isfinite(self.beta):
            raise UserError(f"defense.beta={self.beta} must be a number of at least 0")

    def fit(self, task: Task, trainer: Trainer) -> Models:
        def loss(logits: Tensor, batch: Batch) -> Tensor:
            return cross_entropy(logits, batch.y, reduction="none") - self.beta * entropy(log_softmax(logits, -1))

        return Models(trainer.fit(task, MeanLoss(loss)))
