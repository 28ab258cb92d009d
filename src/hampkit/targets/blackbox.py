"""One released model as its users meet it: inputs in, answers out, every query counted. The only door to a model."""

from __future__ import annotations

from torch import Tensor

from hampkit.defenses.base import Release
from hampkit.rng import derive, torch_rng
from hampkit.training import Trainer
from hampkit.training.threads import threads
from hampkit.types import Stack


class BlackBox:
    """A trained network behind its release, in evaluation mode."""

    def __init__(self, stack: Stack, release: Release, trainer: Trainer) -> None:
        assert len(stack) == 1, f"a black box holds one model, not {len(stack)}"
        self._stack, self._release, self._trainer = stack, release, trainer
        self.queries = 0  # rows answered so far

    def query(self, x: Tensor, seed: int) -> Tensor:
        """Released logits (N, C) float64 for raw inputs (N, *shape); the seed is that of the service's own noise."""
        self.queries += len(x)
        with threads(self._trainer.config.threads):
            return self._release(self._ask, x, torch_rng(derive(seed, "release"))).double()

    def _ask(self, x: Tensor) -> Tensor:
        return self._trainer.predict(self._stack, x)[0]
