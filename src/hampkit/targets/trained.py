"""A model that was trained here, as a `hampkit.types.Target`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hampkit.defenses import Defense, Models
from hampkit.rng import forked
from hampkit.runs.store import Run, load_tensors
from hampkit.targets.blackbox import BlackBox, release_for
from hampkit.training import Trainer
from hampkit.types import Dataset, Domain, History, Probe, Stack, Task


@dataclass(frozen=True)
class Trained:
    """A trained model on disk, with the data for attacking it."""

    run: Run
    title: str  # DATA/DEFENSE
    fingerprint: str  # sha256 of the weights
    models: Models
    defense: Defense
    trainer: Trainer
    domain: Domain
    pool: Dataset = field(repr=False)  # P rows, members and non-members
    membership: NDArray[np.bool_] = field(repr=False)  # (P,)
    population: Dataset | None = field(repr=False)  # Z rows of the same distribution that no model was trained on
    test: Dataset = field(repr=False)
    accuracy: Mapping[str, float]  # fraction of "train", "val", "test"; of the network without its release
    history: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        return self.run.folder

    @property
    def facts(self) -> Mapping[str, Any]:
        """Facts that the defense reports about this model; "summary" is a text."""
        return self.history.get("facts", {})

    @property
    def own_logits(self) -> Tensor:
        """The network's logits (P, C) float64 for the pool, without the release."""
        return self.trainer.predict(self.models.stack, self.pool.x)[0].double()

    def query(self, x: Tensor, seed: int) -> Tensor:
        """Released logits (N, C) float64 for raw inputs x (N, *shape); seed: of the release's random numbers."""
        return self.black_box().query(x, seed)

    def black_box(self, probe: Probe | None = None) -> BlackBox:
        """The model behind its release, with a new count of queries; as a probe asks it, if one is given."""
        release = self.defense.release(self.models.state_of(0), self.domain)
        return BlackBox(self.models.stack, release if probe is None else release_for(probe, release), self.trainer)

    def network(self) -> nn.Module:
        """The trained network on the CPU in evaluation mode, without the release: raw inputs (N, *shape) float32 → logits (N, C).

        To serve HAMP's release too, wrap the network in `hampkit.nn.HampModel`.
        """
        return network_of(self.models.stack)


def network_of(stack: Stack) -> nn.Module:
    """The one network of a stack on the CPU in evaluation mode."""
    assert len(stack) == 1, f"one network, not {len(stack)}"
    net, values = copy.deepcopy(stack.net).cpu().eval(), stack.state(0)
    with torch.no_grad():  # load_state_dict would leave out buffers that are not persistent
        for name, tensor in (*net.named_parameters(), *net.named_buffers()):
            if name in values:
                tensor.copy_(values[name])
    return net


def read_models(task: Task, folder: Path, history: Mapping[str, Any]) -> Models:
    """The models in a step folder; history: the content of its history.json."""
    groups: dict[str, dict[str, Tensor]] = {"params": {}, "buffers": {}, "state": {}}
    for key, tensor in load_tensors(folder / "stack.safetensors").items():
        kind, _, name = key.partition(".")
        groups[kind][name] = tensor
    with forked(0):
        net = task.net()
    past = tuple(
        History(tuple(h["seeds"]), h["epoch"], tuple(h["val_accuracy"]), h["diverged"]) for h in history["models"]
    )
    return Models(Stack(net, groups["params"], groups["buffers"], past), groups["state"])
