"""Images by a generative adversarial network."""

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

CHUNK = 64  # images made at once


@dataclass(frozen=True)
class DCGAN(Generator):
    """A generator and a discriminator play against each other on the members, enlarged to 64 × 64 pixels.

    Images are made with batch norm's own statistics. The published code left the generator in training mode, where an
    image depends on those made beside it. A last chunk of any size is made.
    """

    name: ClassVar[str] = "dcgan"
    paper: ClassVar[str] = "https://arxiv.org/abs/1511.06434"
    about: ClassVar[str] = "images: a DCGAN of 64 × 64 pixels trained on the members; needs a GPU to be quick"

    epochs: int = 100  # passes over the members
    batch_size: int = 256  # images
    lr: float = 2e-4  # of both Adams
    beta1: float = 0.5  # of both Adams; beta2 is 0.999
    noise: int = 100  # numbers that an image is made from
    width: int = 64  # channels beside the image, up to eight times as many inside
    shuffle: bool = False  # published: every epoch in the same order

    def __post_init__(self) -> None:
        # the widest networks take about 1.5 GB with their gradients and Adam's state, and 20 GB with the largest batch
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
                made = net(torch.randn(len(part), self.noise, generator=rng).to(device)).cpu()
                part.copy_(_raw(made, members.domain, members.x.dtype))
        return out

    def _train(self, members: Dataset, seed: int, device: torch.device) -> nn.Module:
        channels = members.shape[0]
        with forked(derive(seed, self.name, "init")):
            maker, judge = ImageGenerator(channels, self.noise, self.width), Discriminator(channels, self.width)
        maker, judge = maker.to(device), judge.to(device)
        adams = [torch.optim.Adam(net.parameters(), lr=self.lr, betas=(self.beta1, 0.999)) for net in (maker, judge)]
        rng = torch_rng(derive(seed, self.name, "training"))
        for rows in self._batches(len(members), rng):
            real = _scaled(members.x[rows].to(device), members.domain)
            fake = maker(torch.randn(len(rows), self.noise, generator=rng).to(device))
            _step(adams[1], _says(judge, real, 1.0) + _says(judge, fake.detach(), 0.0))
            _step(adams[0], _says(judge, fake, 1.0))
        return maker

    def _batches(self, rows: int, rng: torch.Generator) -> Iterator[Tensor]:
        """Rows of every step of every epoch; the last batch of an epoch may be short."""
        for _ in range(self.epochs):
            order = torch.randperm(rows, generator=rng) if self.shuffle else torch.arange(rows)
            yield from order.split(self.batch_size)


def _step(adam: torch.optim.Optimizer, loss: Tensor) -> None:
    adam.zero_grad()
    loss.backward()
    adam.step()


def _says(judge: nn.Module, images: Tensor, wanted: float) -> Tensor:
    """Binary cross-entropy of the discriminator's answers."""
    logits = judge(images)
    return binary_cross_entropy_with_logits(logits, torch.full_like(logits, wanted))


def _scaled(x: Tensor, domain: Domain) -> Tensor:
    """Raw images to [−1, 1] by the domain's bounds, and to 64 × 64."""
    low, high = domain.low.to(x.device), domain.high.to(x.device)
    unit = (x.float() - low) / (high - low).where(high > low, torch.ones_like(low))
    return _resized(2 * unit - 1, (SIDE, SIDE))


def _raw(made: Tensor, domain: Domain, dtype: torch.dtype) -> Tensor:
    """Images in [−1, 1] of 64 × 64 back to the data's size, bounds and steps."""
    height, width = domain.low.shape[1:]
    unit = _resized((made.double() + 1) / 2, (height, width))
    return on_domain(domain.low + unit * (domain.high.double() - domain.low), domain, dtype)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Smaller by means over areas (at half the size what a bilinear filter gives), else bilinear."""
    if size == tuple(x.shape[2:]):
        return x
    if size[0] <= x.shape[2] and size[1] <= x.shape[3]:
        return interpolate(x, size, mode="area")
    return interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
