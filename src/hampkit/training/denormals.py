"""Denormal numbers, the floats next to zero: a processor may need a hundred times as long for them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Treat numbers below 1e-38 as 0 in this thread; Adam's averages of squared gradients become that small."""
    smallest = torch.tensor(1e-310, dtype=torch.float64)
    was = not bool(smallest * 1.0)  # torch has a function to set this and none to read it
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was)
