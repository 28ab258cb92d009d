"""A synthetic data set of any size: noisy copies of one random bit pattern per class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from hampkit.data.base import Place, Source, fingerprint
from hampkit.errors import UserError
from hampkit.rng import derive, numpy_rng
from hampkit.types import Dataset, Domain

LARGEST = 10**10  # rows times features: 10 GB of bits, one byte each
_CHUNK = 1 << 22  # random numbers drawn at once: 16 MiB of float32


@dataclass(frozen=True)
class Toy(Source):
    """Bits of a class prototype with random flips: ``x[i, j] = prototype[y[i], j] xor (u[i, j] < flip)``, u uniform on [0, 1)."""

    name: ClassVar[str] = "toy"
    about: ClassVar[str] = "synthetic bits of any size: noisy copies of one random pattern per class; no download"

    rows: int = 2000  # examples
    features: int = 64  # bits of an example
    classes: int = 10  # prototypes
    flip: float = 0.1  # probability that a bit differs from the prototype; 0.5 makes the labels pure noise
    seed: int = 0  # of the data

    def __post_init__(self) -> None:
        for option, low in (("rows", 44), ("features", 1), ("classes", 2)):
            if getattr(self, option) < low:
                raise UserError(f"data.{option}={getattr(self, option)} of data set 'toy' must be at least {low}")
        if self.rows * self.features > LARGEST:
            raise UserError(
                f"data.rows={self.rows} with data.features={self.features} of data set 'toy' are more than {LARGEST}"
                " numbers; take fewer rows"
            )
        if self.classes > self.rows // 2:
            raise UserError(f"data.classes={self.classes} of 'toy' must be at most rows / 2 = {self.rows // 2}")
        if not 0 <= self.flip <= 0.5:
            raise UserError(f"data.flip={self.flip} of data set 'toy' must lie in [0, 0.5]")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"data.seed={self.seed} of data set 'toy' must lie in [0, 2^63)")

    def load(self, place: Place) -> Dataset:
        rng = numpy_rng(derive(self.seed, "toy"))
        prototypes = rng.integers(0, 2, (self.classes, self.features), dtype=np.uint8)
        labels = rng.permutation(np.arange(self.rows, dtype=np.int64) % self.classes)
        bits = prototypes[labels]
        step = max(1, _CHUNK // self.features)
        for start in range(0, self.rows, step):
            part = bits[start : start + step]
            part ^= rng.random(part.shape, dtype=np.float32) < self.flip
        x, y = torch.from_numpy(bits), torch.from_numpy(labels)
        return Dataset(
            name=self.name,
            x=x,
            y=y,
            num_classes=self.classes,
            domain=Domain.grid((self.features,), 0, 1, 1),
            sha256=fingerprint(x, y),
            classes=tuple(str(c) for c in range(self.classes)),
        )
