"""RelaxLoss (Chen et al., ICLR 2022): training holds the mean loss at a value above zero."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from hampkit.defenses.base import Defense, Models
from hampkit.errors import UserError
from hampkit.training import Gradient, Objective, Trainer
from hampkit.training.objectives import Params, forward, gradient_of, mean_of
from hampkit.training.vectorize import Vectorize
from hampkit.types import Batch, Dataset, Stack, Task


@dataclass(frozen=True)
class RelaxLoss(Defense):
    """Keeps the mean cross-entropy L of a batch near ``alpha``.

    Epochs 0, 2, 4, … minimise |L − alpha|: gradient descent above ``alpha``, ascent below. Epochs 1, 3, 5, … minimise L if it is
    above ``alpha``, and else the mean of a loss per example that flattens the answers. With p = softmax z, ℓ = −ln p_y, a soft
    label t with t_y = min(p_y, upper) and t_c = (1 − t_y) / (C − 1) for every other class c, and ℓ_soft = −Σ_c t_c ln p_c, the
    loss per example is

    - ``form=table``: ℓ_soft;
    - ``form=image``: ℓ_soft − ℓ where the predicted label is wrong, −ℓ where it is correct.

    The soft label is part of the gradient. Both forms are those of the authors' code.
    """

    name: ClassVar[str] = "relaxloss"
    paper: ClassVar[str] = "https://arxiv.org/abs/2207.05801"

    alpha: float = 0.5  # target of the mean loss, in nats
    upper: float = 1.0  # largest probability of the true class in a soft label
    form: Literal["auto", "table", "image"] = (
        "auto"  # how answers are flattened; auto: image for inputs with three axes
    )

    def __post_init__(self) -> None:
        if self.alpha < 0 or not math.isfinite(self.alpha):
            raise UserError(f"defense.alpha={self.alpha} of relaxloss must be a loss of at least 0 nats")
        if not 0 < self.upper <= 1:
            raise UserError(f"defense.upper={self.upper} must lie in (0, 1]")

    def fit(self, task: Task, trainer: Trainer) -> Models:
        return Models(trainer.fit(task, self.objective(task.pool)))

    def objective(self, data: Dataset) -> Relaxed:
        """The training objective for data of this shape."""
        image = self.form == "image" or (self.form == "auto" and len(data.shape) == 3)
        return Relaxed(self.alpha, self.upper, image)


class Relaxed(Objective):
    """RelaxLoss's objective; image: the form for images. The state is the epoch, counted from 0."""

    def __init__(self, alpha: float, upper: float, image: bool) -> None:
        self.alpha, self.upper, self.image = alpha, upper, image

    def begin(self, stack: Stack, state: Any, epoch: int, rngs: list[torch.Generator]) -> int:
        return epoch

    def gradient(
        self, vectorize: Vectorize, stack: Stack, state: Any, batch: Batch, rngs: list[torch.Generator]
    ) -> Gradient:
        def relaxed(params: Params, buffers: Params, batch: Batch) -> tuple[Tensor, Params]:
            logits, buffers = forward(stack, params, buffers, batch.x)
            loss = mean_of(cross_entropy(logits, batch.y, reduction="none"), batch)
            if state % 2 == 0:
                return (loss - self.alpha).abs(), buffers
            flat = mean_of(flattening(logits, batch.y, self.upper, self.image), batch)
            return torch.where(loss > self.alpha, loss, flat), buffers

        return gradient_of(relaxed, vectorize, stack, state, batch)


def flattening(logits: Tensor, y: Tensor, upper: float, image: bool) -> Tensor:
    """The loss per example that flattens answers, see `RelaxLoss`: logits (B, C), y (B,) → (B,).

    The choice of the predicted label has no gradient, everything else has. Source: the authors' code at revision fc8c68e,
    source/nonimage/defense/relaxloss.py and source/cifar/defense/relaxloss.py.
    """
    log_p = log_softmax(logits, -1)
    true = torch.arange(logits.shape[-1], device=y.device) == y.unsqueeze(-1)
    top = log_p.gather(-1, y.unsqueeze(-1)).exp().clamp(max=upper)
    label = torch.where(true, top, (1 - top) / (logits.shape[-1] - 1))
    soft = -(label * log_p).sum(-1)
    if not image:
        return soft
    wrong = (logits.argmax(-1) != y).to(logits.dtype)
    return wrong * soft - cross_entropy(logits, y, reduction="none")
