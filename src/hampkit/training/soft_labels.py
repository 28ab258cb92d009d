"""Soft labels, which give every class a probability, and losses against them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from hampkit.errors import UserError
from hampkit.types import Batch, Loss


def soft_labels(y: Any, num_classes: int, gamma: float, grid: float | None = None) -> Tensor:
    """Soft labels (N, C) float64 with entropy gamma · ln C for labels y (N,).

    The true class has probability t from `top_probability`, each other class (1 − t) / (C − 1).

    grid: see `top_probability`. Raises: `UserError` as there.

    >>> soft_labels(torch.tensor([0]), 10, 0.95, grid=0.01)[0, :2].tolist()
    [0.26, 0.08222222222222222]
    """
    y = torch.as_tensor(y).long()
    top = top_probability(num_classes, gamma, grid)
    labels = torch.full((*y.shape, num_classes), (1 - top) / (num_classes - 1), dtype=torch.float64)
    return labels.scatter_(-1, y.cpu().unsqueeze(-1), top).to(y.device)


def top_probability(num_classes: int, gamma: float, grid: float | None = None) -> float:
    """The probability t of the true class with H(t) = −t ln t − (1 − t) ln((1 − t) / (C − 1)) = gamma · ln C nats.

    grid: if given, the published search instead of the exact solution: t = 1 − grid · k with the smallest k ≥ 1 for which
    H(t) ≥ gamma · ln C.

    Raises: `UserError` for gamma outside [0, 1), for fewer than two classes, and if no t ≥ 1/C of the grid has that entropy (the
    published code does not terminate then).
    """
    check_gamma(gamma)
    if num_classes < 2:
        raise UserError(f"{num_classes} class: soft labels need at least 2")
    wanted = gamma * math.log(num_classes)
    if grid is None:
        return _solve(num_classes, wanted)
    k = 1
    while (top := 1 - grid * k) >= 1 / num_classes - 1e-12:
        if _label_entropy(top, num_classes) >= wanted:
            return round(top, 12)
        k += 1
    raise UserError(
        f"gamma={gamma} cannot be reached with {num_classes} classes on a grid of {grid}; use grid=none or a lower gamma"
    )


def hamp_loss(alpha: float, kl: str = "batchmean") -> Loss:
    """HAMP's loss per row in nats: KL(t ‖ p) − alpha · H(p), p = softmax(logits), t = target; (B, C), (B, C) → (B,).

    kl: "mean" divides the first term by C, as published; "batchmean" does not.
    """

    def loss(logits: Tensor, batch: Batch) -> Tensor:
        log_p = log_softmax(logits, -1)
        divergence = (torch.xlogy(batch.target, batch.target) - batch.target * log_p).sum(-1)
        if kl == "mean":
            divergence = divergence / logits.shape[-1]
        return divergence - alpha * entropy(log_p)

    return loss


# Not `signals.entropy`, which is in float64 and does not cancel for confident answers: with it every training would change.
# They and `_label_entropy` are held equal by `test_the_entropy_in_training_is_that_of_the_signals_and_that_of_soft_labels`.
def entropy(log_p: Tensor) -> Tensor:
    """−Σ_c p_c ln p_c in nats of log-probabilities ln p (…, C): (…), in their dtype and differentiable."""
    return -(log_p.exp() * log_p).sum(-1)


def check_gamma(gamma: float) -> None:
    """Raises: `UserError` for a gamma outside [0, 1)."""
    if not 0 <= gamma < 1:
        raise UserError(f"gamma={gamma} must lie in [0, 1): 0 is a hard label, near 1 a uniform one")


def check_grid(grid: float | None) -> None:
    """Raises: `UserError` for a grid step outside (0, 1)."""
    if grid is not None and not 0 < grid < 1:
        raise UserError(f"defense.grid={grid} must lie between 0 and 1 (published: 0.01), or be none")


# Not `entropy`: a soft label has only two different probabilities, so that a sum of two terms on plain numbers is enough for each
# of the hundreds of steps of the search.
def _label_entropy(top: float, num_classes: int) -> float:
    """H(t) of `top_probability` for t = top."""
    rest = (1 - top) / (num_classes - 1)
    return -sum(n * p * math.log(p) for n, p in ((1, top), (num_classes - 1, rest)) if p > 0)


def _solve(num_classes: int, wanted: float) -> float:
    """Solve H(t) = wanted by bisection: H falls from ln C at t = 1/C to 0 at t = 1."""
    low, high = 1 / num_classes, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if _label_entropy(middle, num_classes) > wanted else (low, middle)
    return high
