"""Labels that give every class a share, and losses towards them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from hampkit.errors import UserError
from hampkit.types import Batch, Loss


def soft_labels(y: Any, num_classes: int, gamma: float, grid: float | None = None) -> Tensor:
    """Soft labels with entropy gamma · ln C: (N,) → (N, C) float64.

    The true class gets `top_probability`, the others equal parts of the rest.

    >>> soft_labels(torch.tensor([0]), 10, 0.95, grid=0.01)[0, :2].tolist()
    [0.26, 0.08222222222222222]
    """
    y = torch.as_tensor(y).long()
    top = top_probability(num_classes, gamma, grid)
    labels = torch.full((*y.shape, num_classes), (1 - top) / (num_classes - 1), dtype=torch.float64)
    return labels.scatter_(-1, y.cpu().unsqueeze(-1), top).to(y.device)


def top_probability(num_classes: int, gamma: float, grid: float | None = None) -> float:
    """The share t of the true class with H(t) = −t ln t − (1−t) ln((1−t)/(C−1)) = gamma · ln C.

    ``grid``: the published search instead, 1 − grid·k with the smallest k ≥ 1 that reaches that entropy; where the last
    step before the uniform label does not reach it, an error (the published code runs forever). Errors: `UserError`.
    """
    check_gamma(gamma)
    if num_classes < 2:
        raise UserError(f"{num_classes} class: soft labels need at least 2")
    wanted = gamma * math.log(num_classes)
    if grid is None:
        return _solve(num_classes, wanted)
    k = 1
    while (top := 1 - grid * k) >= 1 / num_classes - 1e-12:
        if _entropy(top, num_classes) >= wanted:
            return round(top, 12)
        k += 1
    raise UserError(
        f"gamma={gamma} cannot be reached with {num_classes} classes on a grid of {grid}; use grid=none or a lower gamma"
    )


def hamp_loss(alpha: float, kl: str = "batchmean") -> Loss:
    """The loss per row, KL(t ‖ p) − alpha · H(p), with the KL term divided by C where ``kl`` is "mean"."""

    def loss(logits: Tensor, batch: Batch) -> Tensor:
        log_p = log_softmax(logits, -1)
        divergence = (torch.xlogy(batch.target, batch.target) - batch.target * log_p).sum(-1)
        if kl == "mean":
            divergence = divergence / logits.shape[-1]
        return divergence + alpha * (log_p.exp() * log_p).sum(-1)

    return loss


def check_gamma(gamma: float) -> None:
    if not 0 <= gamma < 1:
        raise UserError(f"gamma={gamma} must lie in [0, 1): 0 is a hard label, near 1 a uniform one")


def check_grid(grid: float | None) -> None:
    if grid is not None and not 0 < grid < 1:
        raise UserError(f"defense.grid={grid} must lie between 0 and 1 (published: 0.01), or be none")


def _entropy(top: float, classes: int) -> float:
    rest = (1 - top) / (classes - 1)
    return -sum(n * p * math.log(p) for n, p in ((1, top), (classes - 1, rest)) if p > 0)


def _solve(classes: int, wanted: float) -> float:
    """Bisection for the top probability: entropy falls from ln C at 1/C to 0 at 1."""
    low, high = 1 / classes, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if _entropy(middle, classes) > wanted else (low, middle)
    return high
