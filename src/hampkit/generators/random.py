"""Uniform random inputs, which do not depend on the members."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hampkit.generators.base import Generator
from hampkit.rng import derive, torch_rng
from hampkit.types import Dataset

CHUNK = 4096  # rows drawn at once


@dataclass(frozen=True)
class Random(Generator):
    """Every feature is independent and uniform over its domain; for binary features, ``--random_synt`` of the published code."""

    name: ClassVar[str] = "random"
    paper: ClassVar[str] = "https://arxiv.org/abs/2307.01610"
    about: ClassVar[str] = "independent and uniform over the domain; does not depend on the members"

    def sample(self, members: Dataset, count: int, seed: int, device: torch.device) -> Tensor:
        rng = torch_rng(derive(seed, self.name))
        out = torch.empty((count, *members.shape), dtype=members.x.dtype)
        for part in out.split(CHUNK):
            part.copy_(members.domain.sample(len(part), rng))
        return out
