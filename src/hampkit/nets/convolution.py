"""Initialisation of the convolutional networks."""

from __future__ import annotations

import math

from torch import nn


def initialise(net: nn.Module) -> None:
    """Draw the weights of convolutions from N(0, 2 / (k² · output channels)), as for ReLU; other layers keep PyTorch's."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2 / (math.prod(layer.kernel_size) * layer.out_channels)))
