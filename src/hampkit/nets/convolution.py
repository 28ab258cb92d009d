"""What the convolutional networks share."""

from __future__ import annotations

import math

from torch import nn


def initialise(net: nn.Module) -> None:
    """Convolutions from N(0, 2 / (k² · channels out)), as for ReLU layers; the rest as PyTorch does it."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2 / (math.prod(layer.kernel_size) * layer.out_channels)))
