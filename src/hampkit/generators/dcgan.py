"""Images from a deep convolutional generative adversarial network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from hampkit.errors import UserError
from hampkit.generators.base import Generator, on_domain, within
from hampkit.nets.dcgan import SIDE, Discriminator, ImageGenerator
from hampkit.rng import derive, forked, torch_rng
from hampkit.types import Dataset, Domain

CHUNK = 64  # images drawn at once


@dataclass(frozen=True)
class DCGAN(Generator):
    """A DCGAN trained on the members, which are resized to 64 × 64 pixels.

    Images are drawn in evaluation mode, with the running statistics of batch norm. The published code left the generator in
    training mode, where an image depends on the others of its batch; here a last batch of any size is possible.
    """

    name: ClassVar[str] = "dcgan"
    paper: ClassVar[str] = "https://arxiv.org/abs/1511.06434"
    about: ClassVar[str] = "images: a DCGAN of 64 × 64 pixels trained on the members; needs a GPU to be quick"

    epochs: int = 100  # passes over the members
    batch_size: int = 256  # images
    lr: float = 2e-4  # of both Adams
    beta1: float = 0.5  # of both Adams; beta2 is 0.999
    noise: int = 100  # random numbers per image, the input of the generator
    width: int = 64  # channels of the layer next to the image; inner layers have up to eight times as many
    shuffle: bool = False  # draw the order of each epoch; False: the same order in every epoch, as published

    def __post_init__(self) -> None:
        # the widest networks need about 1.5 GB with gradients and Adam's state, and 20 GB with the largest batch
        ends = {
            "epochs": (1, 10_000), "batch_size": (1, 1024), "lr": (0, 0.1), "beta1": (0, 0.9999), "noise": (1, 1000),
            "width": (1, 256),
        }  # fmt: skip
        within(self.name, **{option: (getattr(self, option), *both) for option, both in ends.items()})

    def check(self, data: Dataset) -> None:
        if len(data.shape) != 3 or not len(data):
            raise UserError(
                f"generator dcgan makes images of shape (channels, height, width); {len(data)} examples of {data.name}"
                f" have shape {data.shape}: take generator bernoulli-mixture"
            )

    def sample(self, members: Dataset, count: int, seed: int, device: torch.device) -> Tensor:
        self.check(members)
        net = self._train(members, seed, device).eval()
        rng = torch_rng(derive(seed, self.name, "draw"))
        out = torch.empty((count, *members.shape), dtype=members.x.dtype)
        with torch.no_grad():
            for part in out.split(CHUNK):
                images = net(torch.randn(len(part), self.noise, generator=rng).to(device)).cpu()
                part.copy_(_raw(images, members.domain, members.x.dtype))
        return out

    def _train(self, members: Dataset, seed: int, device: torch.device) -> nn.Module:
        channels = members.shape[0]
        with forked(derive(seed, self.name, "init")):
            nets = ImageGenerator(channels, self.noise, self.width), Discriminator(channels, self.width)
        generator, discriminator = (net.to(device) for net in nets)
        adams = [torch.optim.Adam(net.parameters(), lr=self.lr, betas=(self.beta1, 0.999)) for net in nets]
        rng = torch_rng(derive(seed, self.name, "training"))
        for rows in self._batches(len(members), rng):
            real = _scaled(members.x[rows].to(device), members.domain)
            fake = generator(torch.randn(len(rows), self.noise, generator=rng).to(device))
            _step(adams[1], _loss(discriminator, real, 1.0) + _loss(discriminator, fake.detach(), 0.0))
            _step(adams[0], _loss(discriminator, fake, 1.0))
        return generator

    def _batches(self, n_rows: int, rng: torch.Generator) -> Iterator[Tensor]:
        """The rows (B,) of every step of every epoch; the last batch of an epoch may be shorter."""
        for _ in range(self.epochs):
            order = torch.randperm(n_rows, generator=rng) if self.shuffle else torch.arange(n_rows)
            yield from order.split(self.batch_size)


def _step(adam: torch.optim.Optimizer, loss: Tensor) -> None:
    adam.zero_grad()
    loss.backward()
    adam.step()


def _loss(discriminator: nn.Module, images: Tensor, label: float) -> Tensor:
    """Mean binary cross-entropy of the discriminator for images (B, channels, 64, 64) that all have this label."""
    logits = discriminator(images)
    return binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def _scaled(x: Tensor, domain: Domain) -> Tensor:
    """Raw images (B, *shape) scaled from the domain's bounds to [−1, 1] and resized: (B, channels, 64, 64)."""
    low, high = domain.low.to(x.device), domain.high.to(x.device)
    unit = (x.float() - low) / (high - low).where(high > low, torch.ones_like(low))
    return _resized(2 * unit - 1, (SIDE, SIDE))


def _raw(images: Tensor, domain: Domain, dtype: torch.dtype) -> Tensor:
    """Images (B, channels, 64, 64) in [−1, 1] in the size of the data and on its domain: (B, *shape)."""
    height, width = domain.low.shape[1:]
    unit = _resized((images.double() + 1) / 2, (height, width))
    return on_domain(domain.low + unit * (domain.high.double() - domain.low), domain, dtype)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (B, channels, height, width) at another size: reduced by averaging areas, enlarged by a bilinear filter.

    At half the size, both filters give the same result.
    """
    if size == tuple(x.shape[2:]):
        return x
    if size[0] <= x.shape[2] and size[1] <= x.shape[3]:
        return interpolate(x, size, mode="area")
    return interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
