"""DP-SGD of equal accuracy: the noise with which it predicts validation rows as well as another defense does.

A defense should be compared with DP-SGD at the same utility, not at a fixed epsilon (Aerni et al. 2024, section 5).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hampkit.config.recipe import Part, Recipe
from hampkit.text import counted
from hampkit.workflows.prepare import prepare
from hampkit.workflows.session import Session
from hampkit.workflows.train import train

NAME = "dp-sgd"
NOISES = (0.05, 20.0)  # noise multipliers between which the search begins: next to no noise, and next to no learning
TRAININGS = 5  # single trainings at most
CLOSE = 0.01  # difference of the validation accuracies at which the search ends


@dataclass(frozen=True)
class Match:
    """DP-SGD that is as accurate as some defenses."""

    defenses: tuple[str, ...]
    recipe: Recipe
    target: float  # validation accuracy of the defenses
    reached: float  # that of DP-SGD
    trainings: int

    @property
    def title(self) -> str:
        """The name of the entry, which states whether the accuracy was reached."""
        return f"{NAME} ({'as accurate as' if self.close else 'nearest to'} {', '.join(self.defenses)})"

    @property
    def close(self) -> bool:
        """Whether the validation accuracies differ by a point at most."""
        return abs(self.reached - self.target) <= CLOSE

    @property
    def noise(self) -> float:
        """The noise multiplier."""
        return self.recipe.defense.options["noise_multiplier"]

    def joined(self, other: Match) -> Match:
        """One match for the defenses of both, which have the same model of DP-SGD; its numbers are those of the nearer one."""
        nearer = min(other, self, key=lambda m: abs(m.reached - m.target))
        trainings = max(self.trainings, other.trainings)
        return replace(nearer, defenses=(*self.defenses, *other.defenses), trainings=trainings)

    def summary(self, facts: str) -> str:
        """How it was matched; facts: what DP-SGD reports of the model."""
        close = "" if self.close else ", the nearest that was found"
        said = (
            f"noise multiplier {self.noise:.3g} after {counted(self.trainings, 'training')}: validation accuracy"
            f" {100 * self.reached:.1f} % against {100 * self.target:.1f} %{close}"
        )
        return "; ".join(
            [said, *([facts] if facts else []), "the search on the same records is not part of the epsilon"]
        )


def matches(recipe: Recipe, accuracies: Mapping[str, float], session: Session) -> list[Match]:
    """One match for each distinct accuracy, to a point, of these defenses on validation rows.

    recipe: of DP-SGD, with the split of the defenses. Raises: `UserError` if DP-SGD cannot be trained.
    """
    groups: dict[int, list[str]] = {}
    for name, accuracy in accuracies.items():
        groups.setdefault(round(accuracy / CLOSE), []).append(name)
    found: dict[float, Match] = {}
    for names in groups.values():
        match = _match(recipe, names, accuracies[names[0]], session)
        other = found.get(match.noise)
        found[match.noise] = match if other is None else other.joined(match)
    return list(found.values())


def _match(recipe: Recipe, names: Sequence[str], target: float, session: Session) -> Match:
    """The nearest of at most `TRAININGS` trainings. The noise is halved on a logarithmic scale: more noise, less accuracy."""
    low, high = map(math.log, NOISES)
    tried: list[tuple[float, Recipe, float]] = []
    while len(tried) < TRAININGS and not (tried and min(tried, key=lambda t: t[0])[0] <= CLOSE):
        middle = (low + high) / 2
        attempt = with_noise(recipe, float(f"{math.exp(middle):.3g}"))
        accuracy = train(prepare(attempt, session), session).accuracy["val"]
        tried.append((abs(accuracy - target), attempt, accuracy))
        low, high = (middle, high) if accuracy > target else (low, middle)
    _, best, reached = min(tried, key=lambda t: t[0])
    return Match(tuple(names), best, target, reached, len(tried))


def with_noise(recipe: Recipe, noise: float) -> Recipe:
    """The recipe of DP-SGD with this noise multiplier, and no target for epsilon."""
    options = {**recipe.defense.options, "noise_multiplier": noise, "target_epsilon": 0.0}
    return replace(recipe, defense=Part(recipe.defense.name, options))
