"""Class-conditional mixtures of independent features; for binary tables, mixtures of Bernoulli distributions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hampkit.errors import UserError
from hampkit.generators.base import Generator, on_domain, within
from hampkit.generators.columns import Columns
from hampkit.generators.mixture import EmOptions, Features, Mixture, fit
from hampkit.rng import derive, torch_rng
from hampkit.types import Dataset

CELLS = 2**23  # values drawn at once


@dataclass(frozen=True)
class BernoulliMixture(Generator):
    """Every class is a mixture of components with independent features, fitted by expectation maximisation.

    A class is drawn with its share of the members, then one of its components, then every feature independently: columns with
    at most ``most_values`` values and one-hot groups from a categorical distribution (a binary column: Bernoulli), all others
    from a Gaussian that is cut off at the bounds. Smoothing adds ``smoothing`` artificial rows with the members' average
    statistics to each component, so that rare values keep a probability above 0. A feature that is constant among the members
    stays constant.
    """

    name: ClassVar[str] = "bernoulli-mixture"
    paper: ClassVar[str] = "https://doi.org/10.1111/j.2517-6161.1977.tb01600.x"
    about: ClassVar[str] = "tables: class-conditional mixtures of independent features, fitted by EM; seconds on a CPU"

    components: int = 5  # per class, at most one for every member
    smoothing: float = 1.0  # artificial average rows in each component
    iterations: int = 100  # of EM, at most
    tolerance: float = 1e-6  # EM ends when the mean log likelihood of a row grows by less, in nats
    most_values: int = 32  # a column with more values is numeric

    def __post_init__(self) -> None:
        within(
            self.name,
            components=(self.components, 1, 1000),  # memory: rows of a class × components
            smoothing=(self.smoothing, 0, 10**6),
            iterations=(self.iterations, 1, 10_000),
            tolerance=(self.tolerance, 0, 1000),
            most_values=(self.most_values, 2, 256),  # a categorical column becomes as many; a byte has 256
        )

    def sample(self, members: Dataset, count: int, seed: int, device: torch.device) -> Tensor:
        if not len(members):
            raise UserError(f"generator {self.name} needs at least one member, and there is none")
        columns = Columns.of(members.domain, self.most_values)
        features = Features.of(columns, members)
        parts = [self._mixture(members, c, features, seed, device) for c in range(members.num_classes)]
        mixture = Mixture.join([part for part in parts if part is not None])
        rng, out = torch_rng(derive(seed, self.name, "draw")), []
        size = max(1, CELLS // max(1, features.width))
        for start in range(0, count, size):
            categories, numbers = features.draw(mixture, min(size, count - start), rng)
            rows = columns.rows(categories, numbers).view(-1, *members.shape)
            out.append(on_domain(rows, members.domain, members.x.dtype))
        return torch.cat(out) if out else members.x[:0].cpu()

    def _mixture(self, members: Dataset, c: int, features: Features, seed: int, device: torch.device) -> Mixture | None:
        """The mixture of class c, weighted by its share of the members; None for a class without members."""
        rows = members.x[members.y == c].cpu()
        if not len(rows):
            return None
        rng = torch_rng(derive(seed, self.name, c))
        options = EmOptions(self.components, self.smoothing, self.iterations, self.tolerance)
        mixture, _ = fit(features.to(device), features.encode(rows), options, rng)
        return mixture.scaled(len(rows) / len(members))
