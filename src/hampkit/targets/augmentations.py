"""Views of one image: the image itself, then its mirror image, then both shifted by an eighth of their side.

A network was trained on the image as it is, or on just such views of it; more answers about one example tell more of it.
Source: Carlini et al. 2022, section VI-C (mirror images and shifts as queries).
"""

from __future__ import annotations

import torch
from torch import Tensor

from hampkit.nets.shift import shifted

SHIFTS = ((0, 0), *((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x))
COUNT = 2 * len(SHIFTS)  # with and without mirroring


def augmented(x: Tensor, k: int) -> Tensor:
    """View k of images (N, channels, height, width), the same shape and dtype; what a shift uncovers is reflected.

    >>> augmented(torch.arange(4).view(1, 1, 1, 4), 1).flatten().tolist()
    [3, 2, 1, 0]
    """
    assert 0 <= k < COUNT, k
    if k == 0:
        return x
    y, z = SHIFTS[k // 2]
    rows, columns = (_moved(size, direction) for size, direction in ((x.shape[2], y), (x.shape[3], z)))
    moved = x[:, :, rows][:, :, :, columns]
    return moved.flip(3) if k % 2 else moved


def _moved(size: int, direction: int) -> Tensor:
    """Which old row (or column) comes to each place."""
    return shifted(size, torch.tensor(direction * max(1, size // 8)))
