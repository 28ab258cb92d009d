"""Seeds and generators. Every random number comes from a seed that is derived from the recipe's seed and a purpose."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import numpy as np
import torch


def derive(seed: int, *purpose: object) -> int:
    """A new seed in [0, 2^63) for one purpose. Equal arguments give equal seeds, different arguments give independent seeds.

    >>> derive(0, "init") == derive(0, "init"), derive(0, "init") == derive(0, "batches")
    (True, False)
    """
    text = repr((int(seed), *(str(word) for word in purpose))).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1


def torch_rng(seed: int) -> torch.Generator:
    """A generator on the CPU. Numbers are drawn there and then moved, so that they are the same for every device."""
    return torch.Generator().manual_seed(seed)


def numpy_rng(seed: int) -> np.random.Generator:
    """NumPy's default generator with this seed."""
    return np.random.default_rng(seed)


@contextlib.contextmanager
def forked(seed: int) -> Iterator[None]:
    """Seed torch's global generators for code that uses them (initialisation, dropout), and restore their state afterwards."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
