"""Asks models what a probe wants asked, in blocks of bounded memory.

Axes: M models, P examples, R questions about each, k numbers that are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hampkit.errors import UserError
from hampkit.rng import derive, torch_rng
from hampkit.types import Dataset, Domain, InputSpace, Probe

SAME_ANSWERS = "equal questions have equal answers"  # why a repeated question finds nothing
BLOCK = 2**23  # values of all questions of a block: 32 MB in float32


class Asked(Protocol):
    """A model that answers questions."""

    def query(self, x: Tensor, seed: int) -> Tensor:
        """Answers (N, C) float64 to raw inputs x (N, *shape); seed: of the release's random numbers."""
        ...


def ask(
    models: Sequence[Asked], probe: Probe, data: Dataset, space: InputSpace, seeds: Sequence[int]
) -> NDArray[np.float32]:
    """The numbers (M, P, k) that a probe keeps of the answers of M models about the P examples of ``data``.

    All models get the same questions, which depend on the probe and on the place of an example in ``data`` alone. seeds: (M,),
    one of each model's release.
    """
    parts = []
    for block, asked in questions(probe, data, space):
        flat, shape = asked.flatten(0, 1), asked.shape[:2]
        answers = (
            m.query(flat, derive(seed, block.start)).unflatten(0, shape) for m, seed in zip(models, seeds, strict=True)
        )
        parts.append(torch.stack([probe.keep(answer, data.y[block]).float() for answer in answers]))
    return torch.cat(parts, dim=1).numpy()


def questions(probe: Probe, data: Dataset, space: InputSpace) -> Iterator[tuple[slice, Tensor]]:
    """The questions (B, R, *shape) about the examples of ``data``, in blocks, each with its slice of the examples."""
    for block in _blocks(probe, data):
        yield block, probe.inputs(data.x[block], space, torch_rng(derive(0, "probe", probe.name, block.start)))


def check_kept(kept: NDArray[np.float32], probe: Probe, defense: str, whose: str = "") -> None:
    """Raises: `UserError` for numbers that are not finite; whose: a prefix that names the models."""
    if bad := int((~np.isfinite(kept)).sum()):
        raise UserError(
            f"{whose}{bad} of {kept.size} numbers that the probe {probe.name} keeps of the answers of defense {defense} are NaN"
            " or infinite; correct the release of the defense, then run again"
        )


def input_space(domain: Domain, population: Tensor, rows: Tensor) -> InputSpace:
    """What an adversary knows of the inputs, from a population (Z, *shape) of the same kind and the candidates (P, *shape)."""
    spread = population.flatten(1).double()
    deviation = spread.std(0, correction=0) if len(spread) else torch.zeros(spread.shape[1])
    return InputSpace(domain, deviation.float().view(population.shape[1:]), rows)


def _blocks(probe: Probe, data: Dataset) -> list[slice]:
    """Slices of the examples; their size depends on the questions alone."""
    size = max(1, BLOCK // (probe.questions(data.shape) * max(1, math.prod(data.shape))))
    return [slice(start, min(start + size, len(data))) for start in range(0, len(data), size)]
