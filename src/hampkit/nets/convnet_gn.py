"""A small convolutional network with group norm, in which no answer depends on the other images of a batch."""

from __future__ import annotations

from torch import Tensor, nn

from hampkit.nets.convolution import initialise

GROUPS = 8


class ConvNetGN(nn.Module):
    """Three blocks of two 3 × 3 convolutions with group norm and ReLU and a 2 × 2 maximum; then the mean over all positions.

    (B, channels, height, width) → (B, C).
    """

    def __init__(self, shape: tuple[int, ...], num_classes: int, widths: tuple[int, ...] = (32, 64, 128)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = shape[0]
        for width in widths:
            layers += [*_conv(channels, width), *_conv(width, width), nn.MaxPool2d(2)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of images x (B, channels, height, width)."""
        return self.classifier(self.features(x).mean((-2, -1)))


def _conv(width: int, out: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(width, out, 3, padding=1, bias=False), nn.GroupNorm(GROUPS, out), nn.ReLU()
