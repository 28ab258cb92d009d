"""Data sets that come with an installed library, without a download."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from hampkit.data.base import Place, Source, fingerprint
from hampkit.types import Dataset, Domain


@dataclass(frozen=True)
class Digits(Source):
    """1,797 handwritten digits of 8 × 8 pixels, values 0 to 16 (UCI, part of scikit-learn)."""

    name: ClassVar[str] = "digits"
    about: ClassVar[str] = "1,797 handwritten digits, 8 × 8 pixels, 10 classes; part of scikit-learn, no download"
    layout: ClassVar[str] = "digits"

    def load(self, place: Place) -> Dataset:
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        x = torch.from_numpy(np.asarray(pixels).astype(np.uint8))
        y = torch.from_numpy(np.asarray(labels).astype(np.int64))
        return Dataset(
            name=self.name,
            x=x,
            y=y,
            num_classes=10,
            domain=Domain.grid((64,), 0, 16, 1),
            sha256=fingerprint(x, y),
            classes=tuple("0123456789"),
            mean=(0.0,),
            std=(16.0,),
        )
