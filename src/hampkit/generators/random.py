"""Inputs that know nothing of the members."""

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
    """Every feature by itself and uniform over its domain; for binary features the published ``--random_synt``."""

    name: ClassVar[str] = "random"
    paper: ClassVar[str] = "https://arxiv.org/abs/2307.01610"
    about: ClassVar[str] = "independent and uniform over the domain; learns nothing from the members"

    def sample(self, members: Dataset, count: int, seed: int, device: torch.device) -> Tensor:
        rng = torch_rng(derive(seed, self.name))
        out = torch.empty((count, *members.shape), dtype=members.x.dtype)
        for part in out.split(CHUNK):
            part.copy_(members.domain.sample(len(part), rng))
        return out
