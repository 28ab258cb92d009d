"""The multilayer perceptron for tables, as published for HAMP."""

from __future__ import annotations

import itertools
import math

from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers with tanh between them, then a linear classifier; PyTorch's default initialisation.

    (B, *shape) → (B, C). The keys of the state dict are the published ones: ``features.{0,2,4,6}``, ``classifier``.
    """

    def __init__(self, shape: tuple[int, ...], num_classes: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        widths = (math.prod(shape), *hidden)
        layers = [(nn.Linear(a, b), nn.Tanh()) for a, b in itertools.pairwise(widths)]
        self.features = nn.Sequential(*itertools.chain.from_iterable(layers))
        self.classifier = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of inputs x (B, *shape)."""
        return self.classifier(self.features(x.flatten(1)))
