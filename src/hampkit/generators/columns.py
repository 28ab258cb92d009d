"""The variables of a table: categories and numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from hampkit.types import Domain


@dataclass(frozen=True)
class Columns:
    """The V categories and Q numbers in the D columns of a flat row.

    A category is a column with a limited number of values, or a group of columns of which one is 1 and the others are 0.
    """

    domain: Domain  # of flat rows (D,)
    stepped: Tensor  # (S,) columns that are a category each; these come first, then the categories of the groups
    numeric: Tensor  # (Q,) columns that are numbers
    sizes: tuple[int, ...]  # (V,) number of values of each category

    @staticmethod
    def of(domain: Domain, most: int) -> Columns:
        """The variables of a domain; a column with more than ``most`` values is a number."""
        low, high, step = (t.flatten().double() for t in (domain.low, domain.high, domain.step))
        flat = Domain(low, high, step, domain.groups)
        values = ((high - low) / step.clamp_min(1e-12)).round() + 1
        free = torch.ones(len(low), dtype=torch.bool)
        for start, stop in domain.groups:
            free[start:stop] = False
        categorical = free & (step > 0) & (values <= most)
        stepped = categorical.nonzero().squeeze(-1)
        sizes = [*values[stepped].long().tolist(), *(stop - start for start, stop in domain.groups)]
        return Columns(flat, stepped, (free & ~categorical).nonzero().squeeze(-1), tuple(sizes))

    def categories(self, x: Tensor) -> Tensor:
        """The value of each category in rows x (N, *shape), numbered from 0: (N, V) int64."""
        x = x.flatten(1)
        low, step = self.domain.low[self.stepped], self.domain.step[self.stepped]
        places = ((x[:, self.stepped].double() - low) / step).round().long()
        hot = [x[:, start:stop].argmax(1) for start, stop in self.domain.groups]
        top = torch.tensor(self.sizes, dtype=torch.int64) - 1
        return torch.column_stack([places, *hot]).clamp_min(0).minimum(top)

    def numbers(self, x: Tensor) -> Tensor:
        """The numbers (N, Q) float64 of rows x (N, *shape)."""
        return x.flatten(1)[:, self.numeric].double()

    def rows(self, categories: Tensor, numbers: Tensor) -> Tensor:
        """Flat rows (N, D) float64 from categories (N, V) and numbers (N, Q)."""
        x = torch.zeros(len(categories), len(self.domain.low), dtype=torch.float64)
        s = len(self.stepped)
        x[:, self.stepped] = self.domain.low[self.stepped] + categories[:, :s] * self.domain.step[self.stepped]
        for k, (start, stop) in enumerate(self.domain.groups):
            x[:, start:stop] = one_hot(categories[:, s + k], stop - start).double()
        x[:, self.numeric] = numbers
        return x
