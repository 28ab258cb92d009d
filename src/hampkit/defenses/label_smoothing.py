"""Label smoothing (Szegedy et al. 2016): training labels that give every class a small probability."""

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
    """Minimises KL(t ‖ p) to the soft label t = (1 − smoothing) · one-hot(y) + smoothing / C.

    With ``gamma`` the soft label is HAMP's, of entropy gamma · ln C. This is the baseline in HAMP's publication: its training
    without the entropy term and without the release.
    """

    name: ClassVar[str] = "label-smoothing"
    paper: ClassVar[str] = "https://arxiv.org/abs/1512.00567"

    smoothing: float = DEFAULT  # probability that is spread over all classes, in [0, 1)
    gamma: float | None = None  # entropy of the soft label as a share of ln C, in place of smoothing
    kl: Literal["batchmean", "mean"] = "batchmean"  # mean: divided by rows and by classes, as published
    grid: float | None = None  # step of the search for the soft label, with gamma; published: 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise UserError(f"defense.smoothing={self.smoothing} must lie in [0, 1): 0 is a hard label")
        if self.gamma is not None:
            check_gamma(self.gamma)
            if self.smoothing != DEFAULT:
                raise UserError(
                    f"defense.smoothing={self.smoothing} and defense.gamma={self.gamma} both set how soft the labels of"
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
