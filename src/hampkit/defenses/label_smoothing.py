"""Label smoothing (Szegedy et al. 2016): the true class is asked for less than certainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch.nn.functional import one_hot

from hampkit.defenses.base import Defense, Models
from hampkit.errors import UserError
from hampkit.training import MeanLoss, Trainer
from hampkit.training.soft_labels import check_gamma, check_grid, hamp_loss, soft_labels
from hampkit.types import Task

DEFAULT = 0.1


@dataclass(frozen=True)
class LabelSmoothing(Defense):
    """KL divergence to soft labels: of the true class 1 − smoothing, and smoothing spread evenly over all classes.

    ``gamma`` asks for the soft label by its entropy instead, gamma · ln C, as the publication of HAMP does for its baseline:
    HAMP's training without the entropy term and without the release.
    """

    name: ClassVar[str] = "label-smoothing"
    paper: ClassVar[str] = "https://arxiv.org/abs/1512.00567"

    smoothing: float = DEFAULT  # share of the label that is spread over all classes, in [0, 1)
    gamma: float | None = None  # entropy of the soft label as a share of ln C, instead of smoothing
    kl: Literal["batchmean", "mean"] = "batchmean"  # mean: divided by rows and by classes, as published
    grid: float | None = None  # step of the search for the soft label, with gamma; published: 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise UserError(f"defense.smoothing={self.smoothing} must lie in [0, 1): 0 is a hard label")
        if self.gamma is not None:
            check_gamma(self.gamma)
            if self.smoothing != DEFAULT:
                raise UserError(
                    f"defense.smoothing={self.smoothing} and defense.gamma={self.gamma} both say how soft the labels of"
                    " label-smoothing are; leave the first out, or write defense.gamma=none"
                )
        check_grid(self.grid)

    def fit(self, task: Task, trainer: Trainer) -> Models:
        y, classes = task.pool.y, task.pool.num_classes
        if self.gamma is None:
            targets = (1 - self.smoothing) * one_hot(y, classes).double() + self.smoothing / classes
        else:
            targets = soft_labels(y, classes, self.gamma, self.grid)
        return Models(trainer.fit(task, MeanLoss(hamp_loss(0.0, self.kl)), targets.float()))
