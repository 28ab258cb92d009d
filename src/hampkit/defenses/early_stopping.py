"""Early stopping: a network that is trained for fewer epochs fits its members less closely."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from hampkit.defenses.base import Defense, Models
from hampkit.errors import UserError
from hampkit.training import CROSS_ENTROPY, Trainer
from hampkit.types import Task


@dataclass(frozen=True)
class EarlyStopping(Defense):
    """Cross-entropy training that ends after ``epoch`` epochs, or once the validation accuracy has not risen for
    ``patience`` epochs.

    With ``epoch`` the last weights are kept, with ``patience`` those of the highest validation accuracy. The schedule of the
    learning rate is that of the whole training.
    """

    name: ClassVar[str] = "early-stopping"
    paper: ClassVar[str] = "https://arxiv.org/abs/2003.10595"

    epoch: int = 0  # stop after this many epochs; 0: stop by patience
    patience: int = 5  # epochs without a higher validation accuracy

    def __post_init__(self) -> None:
        if self.epoch < 0:
            raise UserError(f"defense.epoch={self.epoch} must be at least 0")
        if self.patience < 1:
            raise UserError(f"defense.patience={self.patience} must be at least 1")

    def check(self, task: Task, trainer: Trainer) -> None:
        if self.epoch > trainer.config.epochs:
            raise UserError(
                f"defense.epoch={self.epoch} must be at most train.epochs={trainer.config.epochs}: training ends there anyway"
            )

    def fit(self, task: Task, trainer: Trainer) -> Models:
        if self.epoch:
            config = replace(trainer.config, stop_after=self.epoch, patience=0, select="last")
        else:
            config = replace(trainer.config, patience=self.patience, select="best")
        stack = trainer.with_config(config).fit(task, CROSS_ENTROPY)
        facts = [{"kept_epoch": h.epoch + 1, "summary": f"kept: epoch {h.epoch + 1}"} for h in stack.history]
        return Models(stack, facts=tuple(facts))
