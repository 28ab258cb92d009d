"""HAMP's training loss as a module."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from hampkit.defenses.hamp import hamp_loss, soft_labels
from hampkit.errors import UserError
from hampkit.nn.arguments import real, whole
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
        num_classes = whole("num_classes", num_classes, 2, 2**31, "the number of classes, at least 2")
        gamma, alpha = real("gamma", gamma), real("alpha", alpha)
        grid = None if grid is None else real("grid", grid)
        if ignore_index is not None:
            whole("ignore_index", ignore_index, -(2**63), 2**63 - 1, "a whole number, such as -100, or None")
        if weight is not None and not _are_weights(weight, num_classes):
            shape = tuple(weight.shape) if isinstance(weight, Tensor) else f"of type {type(weight).__name__}"
            raise UserError(f"weight {shape} must be a tensor ({num_classes},): a number of at least 0 for each class")
        labels = torch.arange(num_classes)
        self.register_buffer("table", soft_labels(labels, num_classes, gamma, grid), persistent=False)
        self.register_buffer("weight", weight, persistent=False)
        self.ignore_index = ignore_index
        self.rows = hamp_loss(alpha, kl)

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        """The loss, a scalar in nats, for logits (B, C) and labels y (B,); 0 if every row is ignored.

        Raises: `ValueError` for other shapes, and for labels that are no integers from 0 to C - 1. On a GPU such labels are an
        assertion of the device.
        """
        classes = len(self.table)
        if logits.ndim != 2 or logits.shape[1] != classes or y.shape != logits.shape[:1]:
            raise ValueError(
                f"logits {tuple(logits.shape)} and labels {tuple(y.shape)} must be (B, {classes}) and (B,)"
            )
        if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
            raise ValueError(f"labels of type {y.dtype} must be integers: HAMP makes its own soft labels")
        kept = torch.ones_like(y, dtype=torch.bool) if self.ignore_index is None else y != self.ignore_index
        y, kept = torch.where(kept, y, 0).to(logits.device, torch.int64), kept.to(logits)
        targets = self._rows(self.table.to(logits), y)
        weights = kept if self.weight is None else self._rows(self.weight.to(logits), y) * kept
        batch = Batch(logits, y, targets, torch.ones_like(y, dtype=logits.dtype))
        return (self.rows(logits, batch) * weights).sum() / weights.sum().clamp_min(torch.finfo(logits.dtype).tiny)

    def _rows(self, table: Tensor, y: Tensor) -> Tensor:
        """Rows of a table (C, …) for labels y (B,). It refuses negative labels, and waits for no GPU."""
        try:
            return table.index_select(0, y)
        except IndexError as error:
            wrong = y[(y < 0) | (y >= len(table))]
            raise ValueError(
                f"{len(wrong)} of {len(y)} labels lie outside 0 to {len(table) - 1}, the first is {int(wrong[0])}: give"
                f" num_classes= of the data, or ignore_index={int(wrong[0])} if such rows are not to count"
            ) from error


def _are_weights(weight: Any, num_classes: int) -> bool:
    """Whether a value is a tensor (C,) of finite numbers of at least 0, one of them above 0."""
    return (
        isinstance(weight, Tensor)
        and weight.shape == (num_classes,)
        and bool(((weight >= 0) & torch.isfinite(weight)).all() and weight.any())
    )
