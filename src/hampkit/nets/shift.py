"""Shifts of images."""

from __future__ import annotations

import torch
from torch import Tensor


def shifted(size: int, by: Tensor) -> Tensor:
    """Places 0 … size − 1, each moved by the numbers ``by`` (…) int64 and reflected at both ends: (…, size) int64."""
    places = (torch.arange(size, device=by.device) + by.unsqueeze(-1)).abs()
    return torch.where(places >= size, 2 * (size - 1) - places, places).clamp(0, size - 1)
