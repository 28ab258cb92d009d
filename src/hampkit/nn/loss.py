"""HAMP's training loss as a module."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from hampkit.defenses.hamp import hamp_loss, soft_labels
from hampkit.errors import UserError
from hampkit.types import Batch


class HampLoss(nn.Module):
    """HAMP's training loss, averaged over the batch as published (https://arxiv.org/abs/2307.01610).

    L = Σ_b w_b [ KL(t_b ‖ p_b) / C − alpha · H(p_b) ] / Σ_b w_b in nats, with p = softmax(logits) and the soft label t of entropy
    gamma · ln C: logits (B, C), integers y (B,) → scalar. ``kl="batchmean"``, the default of recipes for one's own data, does not
    divide by C: with C times the alpha, the loss and its gradients are C times as large. ``grid=0.01`` takes the published search
    for t in place of the exact solution.

    weight: (C,) the weight w of each class; default: 1. ignore_index: rows with this label have the weight 0. Both as in
    `torch.nn.CrossEntropyLoss`.

    Raises: `UserError` for options out of range, `ValueError` for tensors of other shapes or types.
    """

    table: Tensor
    weight: Tensor | None

    def __init__(
        self,
        num_classes: int,
        gamma: float,
        alpha: float,
        kl: Literal["mean", "batchmean"] = "mean",
        grid: float | None = None,
        *,
        weight: Tensor | None = None,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__()
        if kl not in ("mean", "batchmean"):
            raise UserError(f"kl={kl!r} must be 'mean' or 'batchmean'")
        if weight is not None and (weight.shape != (num_classes,) or not (weight >= 0).all() or not weight.any()):
            raise UserError(
                f"weight {tuple(weight.shape)} must be ({num_classes},): a number of at least 0 for each class"
            )
        labels = torch.arange(num_classes)
        self.register_buffer("table", soft_labels(labels, num_classes, gamma, grid), persistent=False)
        self.register_buffer("weight", weight, persistent=False)
        self.ignore_index = ignore_index
        self.rows = hamp_loss(alpha, kl)

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        """The loss, a scalar in nats, for logits (B, C) and labels y (B,); 0 if every row is ignored.

        Raises: `ValueError` for other shapes, and for labels that are no integers.
        """
        classes = len(self.table)
        if logits.ndim != 2 or logits.shape[1] != classes or y.shape != logits.shape[:1]:
            raise ValueError(
                f"logits {tuple(logits.shape)} and labels {tuple(y.shape)} must be (B, {classes}) and (B,)"
            )
        if y.is_floating_point():
            raise ValueError(f"labels of type {y.dtype} must be integers: HAMP makes its own soft labels")
        kept = torch.ones_like(y, dtype=torch.bool) if self.ignore_index is None else y != self.ignore_index
        y = torch.where(kept, y, 0)
        weights = kept.to(logits.dtype) if self.weight is None else self.weight.to(logits)[y] * kept
        batch = Batch(logits, y, self.table.to(logits)[y], torch.ones_like(y, dtype=logits.dtype))
        return (self.rows(logits, batch) * weights).sum() / weights.sum().clamp_min(torch.finfo(logits.dtype).tiny)
