"""Views of an image, as queries: the image, its mirror image, and both shifted by an eighth of their side.

The answers to several views of an example carry more information about its membership than one answer.
Source: Carlini et al. 2022, section VI-C (mirror images and shifts as queries).
"""

from __future__ import annotations

import torch
from torch import Tensor

from hampkit.nets.shift import shifted

SHIFTS = ((0, 0), *((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x))
COUNT = 2 * len(SHIFTS)  # with and without mirroring


def augmented(x: Tensor, k: int) -> Tensor:
    """View k of images (N, channels, height, width), same shape and dtype; a shift fills the border by reflection.

    >>> augmented(torch.arange(4).view(1, 1, 1, 4), 1).flatten().tolist()
    [3, 2, 1, 0]
    """
    assert 0 <= k < COUNT, k
    if k == 0:
        return x
    down, right = SHIFTS[k // 2]
    rows, columns = _shifted_places(x.shape[2], down), _shifted_places(x.shape[3], right)
    view = x[:, :, rows][:, :, :, columns]
    return view.flip(3) if k % 2 else view


def _shifted_places(size: int, direction: int) -> Tensor:
    """(size,) the row (or column) of the image that comes to each place of the view."""
    return shifted(size, torch.tensor(direction * max(1, size // 8)))
