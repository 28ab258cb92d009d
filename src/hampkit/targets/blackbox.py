"""A model behind its release: inputs in, answers out, with a count of the queries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hampkit import signals
from hampkit.defenses.base import Plain, Release
from hampkit.nets.augmentations import augmented
from hampkit.rng import derive, torch_rng
from hampkit.training import Trainer
from hampkit.training.threads import threads
from hampkit.types import Probe, Stack


class BlackBox:
    """One trained network in evaluation mode behind its release."""

    def __init__(self, stack: Stack, release: Release, trainer: Trainer) -> None:
        assert len(stack) == 1, f"a black box holds one model, not {len(stack)}"
        self._stack, self._release, self._trainer = stack, release, trainer
        self.queries = 0  # rows answered so far

    @property
    def about(self) -> str:
        """A description of the release in one line, for reports."""
        return self._release.about

    def query(self, x: Tensor, seed: int) -> Tensor:
        """Released logits (N, C) float64 for raw inputs x (N, *shape); seed: of the release's random numbers."""
        self.queries += len(x)
        with threads(self._trainer.config.threads):
            return self._release(self._predict, x, torch_rng(derive(seed, "release"))).double()

    def _predict(self, x: Tensor) -> Tensor:
        """The network's own logits (N, C) for x (N, *shape)."""
        return self._trainer.predict(self._stack, x)[0]


def release_for(probe: Probe, release: Release) -> Release:
    """The release through which a probe asks: none if it asks the network, or looks only at what the release keeps."""
    if not probe.released or (probe.order_only and release.keeps_order):
        return Plain()
    return release


def scaled_logits(box: BlackBox, x: Tensor, y: Tensor, seed: int) -> NDArray[np.float32]:
    """Scaled logits (N,) float32 of the released answers to inputs x (N, *shape) with labels y (N,), see `hampkit.signals`."""
    return signals.scaled_logit(box.query(x, seed), y).float().numpy()


def view(x: Tensor, k: int) -> Tensor:
    """View k of images (N, channels, height, width), see `hampkit.nets.augmentations`; view 0 of any inputs is the inputs."""
    return augmented(x, k) if k else x
