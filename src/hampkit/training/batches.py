"""Which rows make up which batch: per model, a function of its own members and seed, whatever else is in the stack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hampkit.config.sections import TrainConfig
from hampkit.rng import derive, torch_rng
from hampkit.types import Batch, Dataset


@dataclass(frozen=True)
class EpochBatches:
    """The batches of one epoch: S steps of B rows for each of M models. Padding repeats rows of the same model."""

    rows: Tensor  # (M, S, B) int64, rows of the pool
    weight: Tensor  # (M, S, B) float32, 0 for padding
    active: Tensor  # (M, S) bool; false once a model has used all its rows


def plan_epoch(members: list[Tensor], seeds: tuple[int, ...], epoch: int, config: TrainConfig) -> EpochBatches:
    """The batches of one epoch for every model; members: rows (n,) of the pool per model."""
    if config.sampling == "poisson":
        return _poisson(members, seeds, epoch, config)
    b = config.batch_size
    orders = [_order(rows, seed, epoch, config) for rows, seed in zip(members, seeds, strict=True)]
    steps = max(-(-len(s) // b) for s in orders)
    rows = torch.stack([s[torch.arange(steps * b) % len(s)] for s in orders]).view(len(orders), steps, b)
    place = torch.arange(steps * b).view(steps, b)
    sizes = torch.tensor([len(s) for s in orders]).view(-1, 1, 1)
    weight = (place < sizes).float()
    return EpochBatches(rows, weight, weight[:, :, 0] > 0)


def batches(
    plan: EpochBatches,
    pool: Dataset,
    targets: Tensor | None,
    pad: bool,
    dtype: torch.dtype = torch.float32,
) -> Iterator[tuple[Batch, Tensor | None]]:
    """Per step, the batch (M, B, …) on the pool's device and which models (M,) bool have no rows, or None if all have rows.

    targets: (N, C) or (M, N, C), or None. pad: keep rows that are padding in every model, because batch norm sees padding and a
    model must not depend on the others of its stack. dtype: of the inputs.
    """
    # sizes come from the plan, which is on the CPU: reading them from a GPU would wait for the step under way
    device = pool.x.device
    rows_on_device, weight, idle = plan.rows.to(device), plan.weight.to(device), ~plan.active.to(device)
    filled, all_active = plan.weight.sum(-1).amax(0).long().tolist(), plan.active.all(0).tolist()
    for s in range(plan.rows.shape[1]):
        b = plan.rows.shape[2] if pad else max(filled[s], 1)
        rows = rows_on_device[:, s, :b]
        x, target = pool.x[rows].to(dtype), _targets_of(rows, targets)
        yield Batch(x, pool.y[rows], target, weight[:, s, :b]), None if all_active[s] else idle[:, s]


def poisson_steps(n_members: int, batch_size: int) -> int:
    """Number of batches in one pass over the members; each row is drawn into each batch with probability 1 / number.

    >>> poisson_steps(18_000, 128), poisson_steps(1350, 128)
    (141, 11)
    """
    return -(-n_members // batch_size)


def block_members(sizes: list[int]) -> Tensor:
    """Members (M, Σ sizes) bool of a pool that consists of one block of rows per model, in the order of the models."""
    owner = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return owner == torch.arange(len(sizes)).unsqueeze(-1)


def _targets_of(rows: Tensor, targets: Tensor | None) -> Tensor:
    """Targets (M, B, C) of rows (M, B), or (M, B, 0) where there are none."""
    if targets is None:
        return torch.empty((*rows.shape, 0), device=rows.device)
    if targets.ndim == 2:
        return targets[rows]
    return targets[torch.arange(len(rows), device=rows.device).unsqueeze(-1), rows]


def _poisson(members: list[Tensor], seeds: tuple[int, ...], epoch: int, config: TrainConfig) -> EpochBatches:
    """Batches of random size: rows that were drawn come first, padding has weight 0."""
    drawn = [_draws(len(rows), seed, epoch, config) for rows, seed in zip(members, seeds, strict=True)]
    steps = max(map(len, drawn))
    size = max(int(chosen.sum()) for masks in drawn for chosen in masks) or 1
    rows = torch.stack([m[:1].expand(steps * size) for m in members]).view(len(members), steps, size).clone()
    weight = torch.zeros(rows.shape)
    for m, masks in enumerate(drawn):
        for s, chosen in enumerate(masks):
            n = int(chosen.sum())
            rows[m, s, :n], weight[m, s, :n] = members[m][chosen], 1.0
    lengths = torch.tensor([len(masks) for masks in drawn])
    return EpochBatches(rows, weight, torch.arange(steps) < lengths.unsqueeze(-1))


def _draws(n_members: int, seed: int, epoch: int, config: TrainConfig) -> list[Tensor]:
    """Per step, which members (n,) bool are in the batch."""
    rng, passes = torch_rng(derive(seed, "batches", epoch)), config.passes_per_epoch
    steps = poisson_steps(n_members, config.batch_size) * passes
    return [torch.rand(n_members, generator=rng) < passes / steps for _ in range(steps)]


def _order(rows: Tensor, seed: int, epoch: int, config: TrainConfig) -> Tensor:
    """The members (n,) of one model in the order of this epoch: (n · passes,)."""
    if not config.shuffle:
        return rows.repeat(config.passes_per_epoch)
    rng = torch_rng(derive(seed, "batches", epoch))
    return torch.cat([rows[torch.randperm(len(rows), generator=rng)] for _ in range(config.passes_per_epoch)])
