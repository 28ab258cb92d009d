"""A residual network of nine layers that needs few epochs for small images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hampkit.nets.convolution import initialise


class ResNet9(nn.Module):
    """Eight convolutions with batch norm and ReLU, two pairs of them residual, then the maximum over all positions.

    (B, channels, height, width) → (B, C). Sizes and the factor 1/8 of the logits, which allows a large initial learning rate,
    are those of the fast CIFAR-10 networks of the DAWNBench contest.
    """

    def __init__(self, shape: tuple[int, ...], num_classes: int, width: int = 64) -> None:
        super().__init__()
        w = width
        self.start = nn.Sequential(_conv(shape[0], w), _conv(w, 2 * w), nn.MaxPool2d(2), Residual(2 * w))
        self.middle = nn.Sequential(_conv(2 * w, 4 * w), nn.MaxPool2d(2))
        self.end = nn.Sequential(_conv(4 * w, 8 * w), nn.MaxPool2d(2), Residual(8 * w))
        self.classifier = nn.Linear(8 * w, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of images x (B, channels, height, width)."""
        x = self.end(self.middle(self.start(x)))
        return self.classifier(torch.amax(x, (-2, -1))) / 8


class Residual(nn.Module):
    """Two convolutions, whose result is added to the input: (B, A, height, width) → the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(width, width), _conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _conv(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU())
