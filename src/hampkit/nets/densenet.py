"""DenseNet-BC (Huang et al., CVPR 2017, https://arxiv.org/abs/1608.06993) for small images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, relu

from hampkit.nets.convolution import initialise


class DenseNet(nn.Module):
    """Three dense blocks of bottleneck layers, with half the channels and half the size after each but the last; no dropout.

    (B, channels, height, width) → (B, C). depth: 6 n + 4 with n layers per block. The mean over all positions at the end is the
    published 8 × 8 pooling for images of 32 × 32, and works for any other size.
    """

    def __init__(self, shape: tuple[int, ...], num_classes: int, depth: int = 100, growth: int = 12) -> None:
        super().__init__()
        layers, width = (depth - 4) // 6, 2 * growth
        self.conv1 = nn.Conv2d(shape[0], width, 3, padding=1, bias=False)
        self.dense1, width = _block(width, layers, growth)
        self.trans1, width = Transition(width), width // 2
        self.dense2, width = _block(width, layers, growth)
        self.trans2, width = Transition(width), width // 2
        self.dense3, width = _block(width, layers, growth)
        self.bn = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of images x (B, channels, height, width)."""
        x = self.trans1(self.dense1(self.conv1(x)))
        x = self.dense3(self.trans2(self.dense2(x)))
        return self.fc(relu(self.bn(x)).mean((-2, -1)))


class Bottleneck(nn.Module):
    """Appends ``growth`` channels to the input, computed by a 1 × 1 convolution to 4 · growth channels and a 3 × 3 convolution.

    (B, A, height, width) → (B, A + growth, height, width).
    """

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv1(relu(self.bn1(x)))
        return torch.cat([x, self.conv2(relu(self.bn2(new)))], 1)


class Transition(nn.Module):
    """Halves the channels by a 1 × 1 convolution, and height and width by averaging: (B, A, h, w) → (B, A/2, h/2, w/2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, width // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return avg_pool2d(self.conv1(relu(self.bn1(x))), 2)


def _block(width: int, layers: int, growth: int) -> tuple[nn.Sequential, int]:
    """A dense block and its number of output channels."""
    inside = [Bottleneck(width + k * growth, growth) for k in range(layers)]
    return nn.Sequential(*inside), width + layers * growth
