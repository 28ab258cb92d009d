"""A mixture of prototypes per class: for binary tables, mixtures of independent Bernoullis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hampkit.errors import UserError
from hampkit.generators.base import Generator, on_domain, within
from hampkit.generators.columns import Columns
from hampkit.generators.mixture import Features, Mixture, fit
from hampkit.rng import derive, torch_rng
from hampkit.types import Dataset

CELLS = 2**23  # numbers drawn at once


@dataclass(frozen=True)
class BernoulliMixture(Generator):
    """Every class is a mixture of components in which features are independent, fitted by expectation maximisation.

    A class is drawn as often as it is among the members, then one of its components, then every feature by itself:
    columns of few steps and one-hot groups as a category (a binary column: Bernoulli), all others from a Gaussian
    within the bounds. Smoothing: every component gets ``smoothing`` made-up rows that look like all members on average,
    so that rare values stay possible, and what never varies among the members never does.
    """

    name: ClassVar[str] = "bernoulli-mixture"
    paper: ClassVar[str] = "https://doi.org/10.1111/j.2517-6161.1977.tb01600.x"
    about: ClassVar[str] = "tables: class-conditional mixtures of independent features, fitted by EM; seconds on a CPU"

    components: int = 5  # of each class; fewer where it has fewer members
    smoothing: float = 1.0  # made-up average rows in each component
    iterations: int = 100  # of EM, at most
    tolerance: float = 1e-6  # EM ends when the log likelihood of a row grows by less, in nats
    most_values: int = 32  # a column with more steps is taken for a number

    def __post_init__(self) -> None:
        within(
            self.name,
            components=(self.components, 1, 1000),  # rows of a class × components numbers are held
            smoothing=(self.smoothing, 0, 10**6),
            iterations=(self.iterations, 1, 10_000),
            tolerance=(self.tolerance, 0, 1000),
            most_values=(self.most_values, 2, 256),  # each column becomes as many: 256 are the steps of a byte
        )

    def sample(self, members: Dataset, count: int, seed: int, device: torch.device) -> Tensor:
        if not len(members):
            raise UserError(f"generator {self.name} needs at least one member to learn from, and there is none")
        columns = Columns.of(members.domain, self.most_values)
        features = Features.of(columns, members)
        parts = [self._of_class(members, c, features, seed, device) for c in range(members.num_classes)]
        mixture = Mixture.join([part for part in parts if part is not None])
        rng, out = torch_rng(derive(seed, self.name, "draw")), []
        size = max(1, CELLS // max(1, features.width))
        for start in range(0, count, size):
            categories, numbers = features.draw(mixture, min(size, count - start), rng)
            rows = columns.rows(categories, numbers).view(-1, *members.shape)
            out.append(on_domain(rows, members.domain, members.x.dtype))
        return torch.cat(out) if out else members.x[:0].cpu()

    def _of_class(
        self, members: Dataset, c: int, features: Features, seed: int, device: torch.device
    ) -> Mixture | None:
        """The mixture of one class, weighted by its share of the members."""
        rows = members.x[members.y == c].cpu()
        if not len(rows):
            return None
        rng = torch_rng(derive(seed, self.name, c))
        mixture, _ = fit(
            features.to(device),
            features.encode(rows),
            self.components,
            self.smoothing,
            self.iterations,
            self.tolerance,
            rng,
        )
        return mixture.scaled(len(rows) / len(members))
