"""Wide residual networks (Zagoruyko & Komodakis, BMVC 2016, https://arxiv.org/abs/1605.07146) for small images."""

from __future__ import annotations

import itertools

from torch import Tensor, nn
from torch.nn.functional import relu

from hampkit.nets.convolution import initialise


class WideResNet(nn.Module):
    """WRN-``depth``-``widen``: three groups of n = (depth − 4) / 6 pre-activation blocks, without dropout.

    (B, channels, height, width) → (B, C).
    """

    def __init__(self, shape: tuple[int, ...], num_classes: int, depth: int = 28, widen: int = 10) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        widths = (16, 16 * widen, 32 * widen, 64 * widen)
        self.stem = nn.Conv2d(shape[0], widths[0], 3, padding=1, bias=False)
        groups = [
            _group(a, b, blocks, stride) for (a, b), stride in zip(itertools.pairwise(widths), (1, 2, 2), strict=True)
        ]
        self.groups = nn.Sequential(*groups)
        self.norm = nn.BatchNorm2d(widths[-1])
        self.classifier = nn.Linear(widths[-1], num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of images x (B, channels, height, width)."""
        x = self.groups(self.stem(x))
        return self.classifier(relu(self.norm(x)).mean((-2, -1)))


class Block(nn.Module):
    """Two 3 × 3 convolutions, each after norm and ReLU, whose result is added to the input.

    Where the shape changes, it is added to a 1 × 1 convolution of the input after norm and ReLU instead.
    (B, width, h, w) → (B, out, h / stride, w / stride).
    """

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, out, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        changes = width != out or stride != 1
        self.shortcut = nn.Conv2d(width, out, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        active = relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(active)
        return shortcut + self.conv2(relu(self.norm2(self.conv1(active))))


def _group(width: int, out: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [Block(out, out, 1) for _ in range(blocks - 1)]
    return nn.Sequential(Block(width, out, stride), *rest)
