"""Scaling of raw inputs inside the network, so that queries are always raw inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """(x − mean) / std for x (B, *shape), with public constants or with statistics of the model's own members.

    own: the trainer computes mean and std, both (*shape), from the members of each model; statistics of the whole table would
    contain information about non-members.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, own: bool = False) -> None:
        super().__init__()
        self.own = own
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: Tensor) -> Tensor:
        """Scaled inputs, (B, *shape) → (B, *shape)."""
        return (x - self.mean) / self.std

    def fresh(self) -> Normalize:
        """A copy for a new network."""
        return Normalize(self.mean.clone(), self.std.clone(), self.own)

    def fit(self, x: Tensor) -> None:
        """Set mean and std to those of x (n, *shape); the std of a constant feature becomes 1."""
        x = x.to(self.mean.dtype)
        std = x.std(0, correction=0)
        self.mean.copy_(x.mean(0))
        self.std.copy_(std.where(std > 1e-6, torch.ones_like(std)))
