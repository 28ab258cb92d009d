"""Numbers too small for an ordinary float: a processor takes a hundred times as long for them, and training needs none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Numbers below 1e-38 count as 0 in this thread. Adam's squares of small gradients are such numbers."""
    smallest = torch.tensor(1e-310, dtype=torch.float64)
    was = not bool(smallest * 1.0)  # torch can set it and does not tell
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was)
