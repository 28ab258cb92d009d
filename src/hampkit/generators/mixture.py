"""Mixtures of independent features, fitted by expectation maximisation, in float64 with log-probabilities."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from hampkit.generators.columns import Columns
from hampkit.types import Dataset

SMALLEST_VARIANCE = 1e-6  # of a number, in units of its variance among all members
NEVER = -700.0  # stands for ln 0: its product with 0 is 0


@dataclass(frozen=True)
class Mixture:
    """K components: their shares, the probability of each value of each category, and a Gaussian for each number.

    Means are distances from the members' mean in units of the members' standard deviation, variances are in units of its square.
    """

    share: Tensor  # (K,)
    probability: Tensor  # (K, W)
    mean: Tensor  # (K, Q)
    variance: Tensor  # (K, Q)

    def scaled(self, by: float) -> Mixture:
        """The mixture with its shares multiplied by a number, on the CPU."""
        return Mixture(*(t.cpu() for t in (self.share * by, self.probability, self.mean, self.variance)))

    @staticmethod
    def join(parts: list[Mixture]) -> Mixture:
        """The components of all parts as one mixture."""
        groups = zip(*((p.share, p.probability, p.mean, p.variance) for p in parts), strict=True)
        return Mixture(*(torch.cat(group) for group in groups))


@dataclass(frozen=True)
class Features:
    """Rows as sufficient statistics: W one-hot columns of the categories, then Q numbers, then their squares.

    Categories are sorted by their number of values; those with the same number form a block.
    """

    columns: Columns
    order: Tensor  # (V,) categories, sorted
    blocks: tuple[tuple[int, int], ...]  # (categories, values of each), W columns in all
    middle: Tensor  # (Q,) mean of the members
    scale: Tensor  # (Q,) standard deviation of the members, 0 for a constant
    average: Tensor  # (W + 2 Q,) mean statistics of the members

    @staticmethod
    def of(columns: Columns, members: Dataset) -> Features:
        """The statistics of these members."""
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
        """W + Q, the size of a row."""
        return sum(n * k for n, k in self.blocks) + len(self.middle)

    def to(self, device: torch.device) -> Features:
        """A copy with its average on the device."""
        return replace(self, average=self.average.to(device))

    def encode(self, x: Tensor) -> Tensor:
        """Statistics (N, W + 2 Q) of rows x (N, *shape)."""
        categories = self.columns.categories(x)[:, self.order]
        numbers = (self.columns.numbers(x) - self.middle) / self.scale.where(self.scale > 0, 1.0)
        hot = [
            one_hot(part, k).flatten(1).double()
            for part, (_, k) in zip(self._split(categories), self.blocks, strict=True)
        ]
        return torch.cat([*hot, numbers, numbers.square()], 1)

    def mixture(self, share: Tensor, counts: Tensor, sums: Tensor) -> Mixture:
        """The maximum-likelihood components for shares (K,), counts of rows (K,) and sums of statistics (K, W + 2 Q)."""
        w, q = sums.shape[1] - 2 * len(self.middle), len(self.middle)
        first, second = (sums[:, w:] / counts.clamp_min(1e-300).unsqueeze(1)).split([q, q], 1)
        return Mixture(
            share,
            self._normalised(sums[:, :w]),
            first,
            (second - first.square()).clamp_min(SMALLEST_VARIANCE),
        )

    def _normalised(self, sums: Tensor) -> Tensor:
        """Counts (K, W) divided by the sum of their category; values that never occur have probability exactly 0."""
        parts = sums.split([n * k for n, k in self.blocks], 1)
        counts = [p.view(len(sums), n, k) for p, (n, k) in zip(parts, self.blocks, strict=True)]
        return torch.cat([(c / c.sum(-1, keepdim=True).clamp_min(1e-300)).flatten(1) for c in counts] or [sums], 1)

    def log_density(self, mixture: Mixture, rows: Tensor) -> Tensor:
        """ln p of rows (N, W + 2 Q) under each component: (N, K). It is linear in the statistics."""
        m, v = mixture.mean, mixture.variance
        slopes = torch.cat([mixture.probability.log().clamp_min(NEVER), m / v, -0.5 / v], 1)
        constant = -0.5 * (m.square() / v + (2 * math.pi * v).log()).sum(1)
        return rows @ slopes.T + constant

    def draw(self, mixture: Mixture, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw rows: categories (count, V) and numbers (count, Q)."""
        k = torch.multinomial(mixture.share, count, replacement=True, generator=rng)
        parts = mixture.probability.split([n * v for n, v in self.blocks], 1)
        drawn = [_pick(p.view(-1, n, v)[k], rng) for p, (n, v) in zip(parts, self.blocks, strict=True)]
        categories = torch.empty(count, len(self.order), dtype=torch.int64)
        if drawn:
            categories[:, self.order] = torch.cat(drawn, 1)
        return categories, self._numbers(mixture, k, rng)

    def _numbers(self, mixture: Mixture, k: Tensor, rng: torch.Generator) -> Tensor:
        """Numbers (N, Q) of components k (N,), from Gaussians cut off at the domain's bounds by inverse transform sampling."""
        flat, numeric = self.columns.domain, self.columns.numeric
        mean = self.middle + mixture.mean[k] * self.scale
        deviation = mixture.variance[k].sqrt() * self.scale
        unit = deviation.where(deviation > 0, 1.0)
        low, high = (torch.special.ndtr((end[numeric] - mean) / unit) for end in (flat.low, flat.high))
        u = low + (high - low) * torch.rand(mean.shape, generator=rng, dtype=torch.float64)
        z = torch.special.ndtri(u.clamp(1e-15, 1 - 1e-15))
        return mean + deviation * z  # rounding may leave the bounds; `on_domain` moves these values back

    def _split(self, categories: Tensor) -> tuple[Tensor, ...]:
        return categories.split([n for n, _ in self.blocks], 1) if self.blocks else ()


@dataclass(frozen=True)
class EmOptions:
    """The options of expectation maximisation, see `fit`."""

    components: int  # K, at most one for every row
    smoothing: float  # artificial average rows in each component
    iterations: int  # at most
    tolerance: float  # EM ends when the objective grows by at most this much per row, in nats


def fit(features: Features, rows: Tensor, options: EmOptions, rng: torch.Generator) -> tuple[Mixture, list[float]]:
    """A mixture of K components for statistics (N, W + 2 Q), fitted by EM, and the objective after each iteration.

    The objective is Σ_i ln p(row i) + smoothing · Σ_k ln p_k(average), in nats; the second term is that of the artificial rows.
    It never decreases.
    """
    rows, smoothing, objective = rows.to(features.average.device), options.smoothing, []
    belongs = _start(rows, min(options.components, len(rows)), rng)  # (N, K), probability of each component
    while True:
        counts = belongs.sum(0)
        sums = belongs.T @ rows + smoothing * features.average
        mixture = features.mixture(counts / len(rows), counts + smoothing, sums)
        joint = features.log_density(mixture, rows) + mixture.share.log().clamp_min(NEVER)
        artificial = features.log_density(mixture, features.average.unsqueeze(0)).sum()
        objective.append(float(joint.logsumexp(1).sum() + (smoothing * artificial if smoothing else 0.0)))
        settled = len(objective) > 1 and objective[-1] - objective[-2] <= options.tolerance * len(rows)
        if settled or len(objective) > options.iterations:
            return mixture, objective
        belongs = joint.softmax(1)


def _start(rows: Tensor, components: int, rng: torch.Generator) -> Tensor:
    """Each row (N, D) assigned to the nearest of K rows, which are drawn by squared distance: (N, K), zeros and ones."""
    u = torch.rand(components, generator=rng, dtype=torch.float64).tolist()
    chosen = [int(u[0] * len(rows))]
    distances = [(rows - rows[chosen[0]]).square().sum(1)]
    nearest = distances[0]
    for k in range(1, components):
        ends = torch.minimum(nearest, distances[-1]).cumsum(0)
        place = int(torch.searchsorted(ends, u[k] * ends[-1], right=True))
        chosen.append(min(place, len(rows) - 1))
        distances.append((rows - rows[chosen[-1]]).square().sum(1))
        nearest = torch.minimum(nearest, distances[-1])
    return one_hot(torch.stack(distances, 1).argmin(1), components).to(rows)


def _pick(probability: Tensor, rng: torch.Generator) -> Tensor:
    """Draw a value of each category: probabilities (N, V, k) → (N, V)."""
    ends = probability.cumsum(-1)
    u = torch.rand((*probability.shape[:-1], 1), generator=rng, dtype=torch.float64) * ends[..., -1:]
    return (u >= ends[..., :-1]).sum(-1)
