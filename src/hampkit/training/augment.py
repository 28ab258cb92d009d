"""Random mirror images and shifts of training images, on the device; which ones follows from the model's own seed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hampkit.nets.shift import shifted
from hampkit.rng import derive, numpy_rng


def augmented(x: Tensor, kinds: Sequence[str], seeds: Sequence[int], epoch: int, step: int) -> Tensor:
    """Every image of (M, B, channels, height, width) mirrored with probability 1/2 and moved by up to an eighth of its side.

    What a shift uncovers is reflected. A row's draw does not depend on how many rows follow it.
    """
    draws = [numpy_rng(derive(seed, "augment", epoch, step)).random((x.shape[1], 3)) for seed in seeds]
    u = torch.stack([torch.from_numpy(d) for d in draws]).to(x.device)  # (M, B, 3)
    rows, columns = (_places(size, u[..., k], "shift" in kinds) for k, size in enumerate(x.shape[3:]))
    if "flip" in kinds:
        columns = torch.where((u[..., 2] < 0.5).unsqueeze(-1), columns.flip(-1), columns)
    m, b = (torch.arange(n, device=x.device) for n in x.shape[:2])
    # advanced indices around a slice put the channels last
    return x[m.view(-1, 1, 1, 1), b.view(1, -1, 1, 1), :, rows.unsqueeze(-1), columns.unsqueeze(-2)].movedim(-1, 2)


def _places(size: int, u: Tensor, move: bool) -> Tensor:
    """Which old row (or column) comes to each place: (M, B, size)."""
    most = max(1, size // 8)
    by = (u * (2 * most + 1)).floor().long() - most if move else torch.zeros_like(u, dtype=torch.int64)
    return shifted(size, by)
