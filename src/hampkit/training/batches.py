"""Which rows make which batch, per model: a function of a model's own members and seed, never of its neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hampkit.config.recipe import TrainConfig
from hampkit.rng import derive, torch_rng
from hampkit.types import Batch, Dataset


@dataclass(frozen=True)
class EpochBatches:
    """The batches of one epoch. Padding repeats a model's own rows and has weight 0; no other model's row is touched."""

    rows: Tensor  # (M, S, B) int64
    weight: Tensor  # (M, S, B) float32
    active: Tensor  # (M, S) bool: false once a model has gone through its members


def plan_epoch(members: list[Tensor], seeds: tuple[int, ...], epoch: int, config: TrainConfig) -> EpochBatches:
    """Batches of every model for one epoch."""
    if config.sampling == "poisson":
        return _poisson(members, seeds, epoch, config)
    b = config.batch_size
    streams = [_stream(rows, seed, epoch, config) for rows, seed in zip(members, seeds, strict=True)]
    steps = max(-(-len(s) // b) for s in streams)
    rows = torch.stack([s[torch.arange(steps * b) % len(s)] for s in streams]).view(len(streams), steps, b)
    place = torch.arange(steps * b).view(steps, b)
    sizes = torch.tensor([len(s) for s in streams]).view(-1, 1, 1)
    weight = (place < sizes).float()
    active = weight[:, :, 0] > 0
    return EpochBatches(rows, weight, active)


def batches(
    plan: EpochBatches,
    pool: Dataset,
    targets: Tensor | None,
    device: torch.device,
    pad: bool,
    dtype: torch.dtype = torch.float32,
) -> Iterator[tuple[Batch, Tensor | None]]:
    """The batches of an epoch on the device, each (M, B, …), and which models have no more rows (M,), or None while all have.

    What is decided here is decided from the plan, which lies on the CPU: a question to a GPU would wait for its step.
    ``pad`` keeps rows that no model of the stack fills: batch norm sees them, so they must not depend on neighbours.
    ``dtype`` is that of the inputs.
    """
    rows_on_device, weight, idle = plan.rows.to(device), plan.weight.to(device), ~plan.active.to(device)
    filled, everyone = plan.weight.sum(-1).amax(0).long().tolist(), plan.active.all(0).tolist()
    models = torch.arange(len(rows_on_device), device=device).unsqueeze(-1)
    for s in range(plan.rows.shape[1]):
        b = plan.rows.shape[2] if pad else max(filled[s], 1)
        rows, w = rows_on_device[:, s, :b], weight[:, s, :b]
        y = pool.y[rows]
        if targets is None:
            target = torch.empty((*rows.shape, 0), device=device)
        else:
            target = targets[rows] if targets.ndim == 2 else targets[models, rows]
        yield Batch(pool.x[rows].to(dtype), y, target, w), None if everyone[s] else idle[:, s]


def poisson_steps(members: int, batch_size: int) -> int:
    """Batches of an epoch; every row enters each of them with probability 1 / steps.

    >>> poisson_steps(18_000, 128), poisson_steps(1350, 128)
    (141, 11)
    """
    return -(-members // batch_size)


def _poisson(members: list[Tensor], seeds: tuple[int, ...], epoch: int, config: TrainConfig) -> EpochBatches:
    """Batches whose size is random; the first places hold the rows that were drawn, the others have weight 0."""
    chosen = []
    for rows, seed in zip(members, seeds, strict=True):
        rng, steps = torch_rng(derive(seed, "batches", epoch)), poisson_steps(len(rows), config.batch_size)
        steps *= config.passes_per_epoch
        chosen.append([torch.rand(len(rows), generator=rng) < config.passes_per_epoch / steps for _ in range(steps)])
    steps = max(map(len, chosen))
    size = max(int(batch.sum()) for batches in chosen for batch in batches) or 1
    rows = torch.stack([m[:1].expand(steps * size) for m in members]).view(len(members), steps, size).clone()
    weight = torch.zeros(rows.shape)
    for m, batches in enumerate(chosen):
        for s, batch in enumerate(batches):
            n = int(batch.sum())
            rows[m, s, :n], weight[m, s, :n] = members[m][batch], 1.0
    lengths = torch.tensor([len(batches) for batches in chosen])
    return EpochBatches(rows, weight, torch.arange(steps) < lengths.unsqueeze(-1))


def _stream(rows: Tensor, seed: int, epoch: int, config: TrainConfig) -> Tensor:
    """A model's members in the order of this epoch, as often as the recipe passes over them."""
    if not config.shuffle:
        return rows.repeat(config.passes_per_epoch)
    rng = torch_rng(derive(seed, "batches", epoch))
    return torch.cat([rows[torch.randperm(len(rows), generator=rng)] for _ in range(config.passes_per_epoch)])
