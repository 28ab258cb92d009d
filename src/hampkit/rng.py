"""Randomness with an address: every random number comes from a seed derived from the recipe's seed and a purpose."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import numpy as np
import torch


def derive(seed: int, *purpose: object) -> int:
    """A new seed in [0, 2^63) for one purpose; equal arguments give equal seeds, others independent ones.

    >>> derive(0, "init") == derive(0, "init"), derive(0, "init") == derive(0, "batches")
    (True, False)
    """
    text = repr((int(seed), *(str(word) for word in purpose))).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1


def torch_rng(seed: int) -> torch.Generator:
    """A CPU generator: numbers are drawn on the CPU and moved, so that every device sees the same ones."""
    return torch.Generator().manual_seed(seed)


def numpy_rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@contextlib.contextmanager
def forked(seed: int) -> Iterator[None]:
    """Code that uses torch's global generator (module initialisation, dropout) runs seeded; the global state is put back."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
