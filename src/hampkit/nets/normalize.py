"""Scaling of raw inputs inside the network, so that whoever queries a model never has to know how."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """(x − mean) / std with constants that are public, or with those of a model's own members.

    ``own=True`` lets the trainer fill mean and deviation from each model's members: statistics of the whole table would
    carry something about non-members into the model.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, own: bool = False) -> None:
        super().__init__()
        self.own = own
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std

    def fresh(self) -> Normalize:
        """A copy of its own, for a new network."""
        return Normalize(self.mean.clone(), self.std.clone(), self.own)

    def fit(self, x: Tensor) -> None:
        """Take mean and deviation of these examples; a constant feature keeps its scale."""
        x = x.to(self.mean.dtype)
        std = x.std(0, correction=0)
        self.mean.copy_(x.mean(0))
        self.std.copy_(std.where(std > 1e-6, torch.ones_like(std)))
