"""One released model as its users meet it: inputs in, answers out, every query counted. The only door to a model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hampkit import signals
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

    @property
    def about(self) -> str:
        """What the release does, in a line for reports."""
        return self._release.about

    def query(self, x: Tensor, seed: int) -> Tensor:
        """Released logits (N, C) float64 for raw inputs (N, *shape); the seed is that of the service's own noise."""
        self.queries += len(x)
        with threads(self._trainer.config.threads):
            return self._release(self._ask, x, torch_rng(derive(seed, "release"))).double()

    def _ask(self, x: Tensor) -> Tensor:
        return self._trainer.predict(self._stack, x)[0]


def scaled_logits(box: BlackBox, x: Tensor, y: Tensor, seed: int) -> NDArray[np.float32]:
    """Scaled logits (N,) of the released answers to inputs x (N, *shape) with labels y (N,): see `hampkit.signals`."""
    return signals.scaled_logit(box.query(x, seed), y).float().numpy()
