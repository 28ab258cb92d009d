"""Mixtures of independent features and their fit by expectation maximisation, in float64 and logarithms."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from hampkit.generators.columns import Columns
from hampkit.types import Dataset

SMALLEST_VARIANCE = 1e-6  # of a number, in units of its variance over all members
NEVER = -700.0  # stands for ln 0: products with 0 stay 0


@dataclass(frozen=True)
class Mixture:
    """K components: their share, the probability of every value of every category, and Gaussians."""

    share: Tensor  # (K,)
    chance: Tensor  # (K, W)
    mean: Tensor  # (K, Q), as are the variances: in units of the members' deviation, from their mean
    variance: Tensor

    def scaled(self, by: float) -> Mixture:
        """The same on the CPU, as a part of a larger one."""
        return Mixture(*(t.cpu() for t in (self.share * by, self.chance, self.mean, self.variance)))

    @staticmethod
    def join(parts: list[Mixture]) -> Mixture:
        groups = zip(*((p.share, p.chance, p.mean, p.variance) for p in parts), strict=True)
        return Mixture(*(torch.cat(group) for group in groups))


@dataclass(frozen=True)
class Features:
    """Rows as sufficient statistics: a one-hot block per category, then numbers, then their squares.

    Categories are sorted by how many values they take, so that those of one size are one block.
    """

    columns: Columns
    order: Tensor  # (V,) categories by size
    blocks: tuple[tuple[int, int], ...]  # (categories, values of each), covering W columns
    middle: Tensor  # (Q,) mean of the members
    scale: Tensor  # (Q,) their deviation; 0 where all are equal
    average: Tensor  # (W + 2 Q,) the members' mean row of statistics

    @staticmethod
    def of(columns: Columns, members: Dataset) -> Features:
        sizes = torch.tensor(columns.sizes, dtype=torch.int64)
        blocks = tuple((int((sizes == k).sum()), int(k)) for k in sizes.unique())
        parts = members.x.cpu().split(1024)
        numbers = torch.cat([columns.numbers(part) for part in parts])
        middle = numbers.mean(0)
        constant = (numbers == numbers[:1]).all(0)
        middle = torch.where(constant, numbers[0], middle)
        scale = torch.where(constant, 0.0, (numbers - middle).square().mean(0).sqrt())
        empty = Features(columns, sizes.argsort(stable=True), blocks, middle, scale, torch.empty(0))
        total = torch.stack([empty.encode(part).sum(0) for part in parts]).sum(0)
        return replace(empty, average=total / len(members))

    @property
    def width(self) -> int:
        """Columns W of all one-hot blocks, and Q."""
        return sum(n * k for n, k in self.blocks) + len(self.middle)

    def to(self, device: torch.device) -> Features:
        return replace(self, average=self.average.to(device))

    def encode(self, x: Tensor) -> Tensor:
        """(N, *shape) → (N, W + 2 Q)."""
        categories = self.columns.categories(x)[:, self.order]
        numbers = (self.columns.numbers(x) - self.middle) / self.scale.where(self.scale > 0, 1.0)
        hot = [
            one_hot(part, k).flatten(1).double()
            for part, (_, k) in zip(self._split(categories), self.blocks, strict=True)
        ]
        return torch.cat([*hot, numbers, numbers.square()], 1)

    def mixture(self, share: Tensor, counts: Tensor, sums: Tensor) -> Mixture:
        """The most likely components for K numbers of rows (K,) and sums of statistics (K, W + 2 Q)."""
        w, q = sums.shape[1] - 2 * len(self.middle), len(self.middle)
        first, second = (sums[:, w:] / counts.clamp_min(1e-300).unsqueeze(1)).split([q, q], 1)
        return Mixture(
            share,
            self._normalised(sums[:, :w]),
            first,
            (second - first.square()).clamp_min(SMALLEST_VARIANCE),
        )

    def _normalised(self, sums: Tensor) -> Tensor:
        """Divided by each category's own sum: what was never seen has probability 0 to the bit."""
        parts = sums.split([n * k for n, k in self.blocks], 1)
        each = [p.view(len(sums), n, k) for p, (n, k) in zip(parts, self.blocks, strict=True)]
        return torch.cat([(p / p.sum(-1, keepdim=True).clamp_min(1e-300)).flatten(1) for p in each] or [sums], 1)

    def log_density(self, mixture: Mixture, rows: Tensor) -> Tensor:
        """ln p of rows (N, W + 2 Q) under each component (N, K): linear in the statistics."""
        m, v = mixture.mean, mixture.variance
        slopes = torch.cat([mixture.chance.log().clamp_min(NEVER), m / v, -0.5 / v], 1)
        constant = -0.5 * (m.square() / v + (2 * math.pi * v).log()).sum(1)
        return rows @ slopes.T + constant

    def draw(self, mixture: Mixture, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Categories (count, V) and numbers (count, Q) of fresh rows."""
        k = torch.multinomial(mixture.share, count, replacement=True, generator=rng)
        parts = mixture.chance.split([n * v for n, v in self.blocks], 1)
        drawn = [_pick(p.view(-1, n, v)[k], rng) for p, (n, v) in zip(parts, self.blocks, strict=True)]
        categories = torch.empty(count, len(self.order), dtype=torch.int64)
        if drawn:
            categories[:, self.order] = torch.cat(drawn, 1)
        return categories, self._numbers(mixture, k, rng)

    def _numbers(self, mixture: Mixture, k: Tensor, rng: torch.Generator) -> Tensor:
        """From Gaussians cut off at the domain's bounds, by the inverse of their distribution."""
        flat, numeric = self.columns.domain, self.columns.numeric
        mean = self.middle + mixture.mean[k] * self.scale
        deviation = mixture.variance[k].sqrt() * self.scale
        unit = deviation.where(deviation > 0, 1.0)
        low, high = (torch.special.ndtr((end[numeric] - mean) / unit) for end in (flat.low, flat.high))
        u = low + (high - low) * torch.rand(mean.shape, generator=rng, dtype=torch.float64)
        z = torch.special.ndtri(u.clamp(1e-15, 1 - 1e-15))
        return (
            mean + deviation * z
        )  # a constant has deviation 0; the bounds are held to when rows are put on the domain

    def _split(self, categories: Tensor) -> tuple[Tensor, ...]:
        return categories.split([n for n, _ in self.blocks], 1) if self.blocks else ()


def fit(
    features: Features,
    rows: Tensor,
    components: int,
    smoothing: float,
    iterations: int,
    tolerance: float,
    rng: torch.Generator,
) -> tuple[Mixture, list[float]]:
    """EM from spread starting rows: the mixture, and the course of Σ_i ln p(row i) + smoothing · Σ_k ln p_k(average).

    The second term is what the made-up rows weigh; the sum never decreases.
    """
    device = features.average.device
    rows, course = rows.to(device), []
    belongs = _start(rows, min(components, len(rows)), rng)  # (N, K)
    while True:
        counts = belongs.sum(0)
        sums = belongs.T @ rows + smoothing * features.average
        mixture = features.mixture(counts / len(rows), counts + smoothing, sums)
        joint = features.log_density(mixture, rows) + mixture.share.log().clamp_min(NEVER)
        made_up = features.log_density(mixture, features.average.unsqueeze(0)).sum()
        course.append(float(joint.logsumexp(1).sum() + (smoothing * made_up if smoothing else 0.0)))
        settled = len(course) > 1 and course[-1] - course[-2] <= tolerance * len(rows)
        if settled or len(course) > iterations:
            return mixture, course
        belongs = joint.softmax(1)


def _start(rows: Tensor, components: int, rng: torch.Generator) -> Tensor:
    """Every row to the nearest of K rows that lie far from each other (drawn by squared distance): (N, K), zeros and ones."""
    u = torch.rand(components, generator=rng, dtype=torch.float64).tolist()
    chosen = [int(u[0] * len(rows))]
    away = (rows - rows[chosen[0]]).square().sum(1)
    distances = [away]
    for k in range(1, components):
        reach = torch.minimum(away, distances[-1]).cumsum(0)
        place = int(torch.searchsorted(reach, u[k] * reach[-1], right=True))
        chosen.append(min(place, len(rows) - 1))
        distances.append((rows - rows[chosen[-1]]).square().sum(1))
        away = torch.minimum(away, distances[-1])
    return one_hot(torch.stack(distances, 1).argmin(1), components).to(rows)


def _pick(chance: Tensor, rng: torch.Generator) -> Tensor:
    """One of the values of each category: (N, V, k) probabilities → (N, V)."""
    ends = chance.cumsum(-1)
    u = torch.rand((*chance.shape[:-1], 1), generator=rng, dtype=torch.float64) * ends[..., -1:]
    return (u >= ends[..., :-1]).sum(-1)
