"""DCGAN (Radford et al., 2016, https://arxiv.org/abs/1511.06434): generator and discriminator of images of 64 × 64."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

SIDE = 64  # height and width of the images


class ImageGenerator(nn.Module):
    """Noise (B, noise) → images (B, channels, 64, 64) in [−1, 1]; width: channels of the last hidden layer."""

    def __init__(self, channels: int, noise: int = 100, width: int = 64) -> None:
        super().__init__()
        sizes = (8 * width, 4 * width, 2 * width, width)
        layers: list[nn.Module] = [nn.ConvTranspose2d(noise, sizes[0], 4, 1, 0, bias=False), *_after(sizes[0])]
        for a, b in itertools.pairwise(sizes):
            layers += [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), *_after(b)]
        layers += [nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        _initialise(self)

    def forward(self, z: Tensor) -> Tensor:
        """Images (B, channels, 64, 64) from noise z (B, noise)."""
        return self.layers(z[..., None, None])


class Discriminator(nn.Module):
    """Images (B, channels, 64, 64) → logits that they are real (B,).

    The published network ends in a sigmoid; here the sigmoid is part of the loss, so that its logarithm stays finite.
    """

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__()
        sizes = (width, 2 * width, 4 * width, 8 * width)
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
        for a, b in itertools.pairwise(sizes):
            layers += [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2)]
        layers.append(nn.Conv2d(sizes[-1], 1, 4, 1, 0, bias=False))
        self.layers = nn.Sequential(*layers)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,) of images x (B, channels, 64, 64)."""
        return self.layers(x).flatten()


def _after(width: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(width), nn.ReLU()]


def _initialise(net: nn.Module) -> None:
    """As published: convolutions from N(0, 0.02²), scales of batch norm from N(1, 0.02²), shifts 0."""
    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)
