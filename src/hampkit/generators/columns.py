"""The variables of a table: what takes one of a few values, and what lies on a scale."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from hampkit.types import Domain


@dataclass(frozen=True)
class Columns:
    """How D columns hold V categories and Q numbers.

    A category is a column of at most ``most`` steps, or a group of columns of which one is 1; the rest are numbers.
    """

    domain: Domain  # of flat rows
    stepped: Tensor  # columns (S,) that hold a category each; categories come in this order, those of groups behind
    numeric: Tensor  # columns (Q,)
    sizes: tuple[int, ...]  # values that each category can take, (V,)

    @staticmethod
    def of(domain: Domain, most: int) -> Columns:
        low, high, step = (t.flatten().double() for t in (domain.low, domain.high, domain.step))
        flat = Domain(low, high, step, domain.groups)
        values = ((high - low) / step.clamp_min(1e-12)).round() + 1
        free = torch.ones(len(low), dtype=torch.bool)
        for start, stop in domain.groups:
            free[start:stop] = False
        few = free & (step > 0) & (values <= most)
        stepped = few.nonzero().squeeze(-1)
        sizes = [*values[stepped].long().tolist(), *(stop - start for start, stop in domain.groups)]
        return Columns(flat, stepped, (free & ~few).nonzero().squeeze(-1), tuple(sizes))

    def categories(self, x: Tensor) -> Tensor:
        """Which value each category has, from 0: (N, *shape) → (N, V) int64."""
        x = x.flatten(1)
        low, step = self.domain.low[self.stepped], self.domain.step[self.stepped]
        places = ((x[:, self.stepped].double() - low) / step).round().long()
        hot = [x[:, start:stop].argmax(1) for start, stop in self.domain.groups]
        top = torch.tensor(self.sizes, dtype=torch.int64) - 1
        return torch.column_stack([places, *hot]).clamp_min(0).minimum(top)

    def numbers(self, x: Tensor) -> Tensor:
        """(N, *shape) → (N, Q) float64."""
        return x.flatten(1)[:, self.numeric].double()

    def rows(self, categories: Tensor, numbers: Tensor) -> Tensor:
        """Flat rows (N, D) float64 again."""
        x = torch.zeros(len(categories), len(self.domain.low), dtype=torch.float64)
        s = len(self.stepped)
        x[:, self.stepped] = self.domain.low[self.stepped] + categories[:, :s] * self.domain.step[self.stepped]
        for k, (start, stop) in enumerate(self.domain.groups):
            x[:, start:stop] = one_hot(categories[:, s + k], stop - start).double()
        x[:, self.numeric] = numbers
        return x
