"""Tables of bits with a class label, packed eight to a byte, and their copy in the cache."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from hampkit.data.first_seen import write_whole
from hampkit.errors import UserError


@dataclass(frozen=True)
class Expected:
    """The expected content of a file, and the words for its messages."""

    title: str  # "Purchase100"
    features: int
    classes: int
    remedy: str  # how to get the expected file

    def wrong(self, path: Path, found: str, expected: str) -> NoReturn:
        """Refuse a file.

        Raises: `UserError`, always.
        """
        raise UserError(f"{path} is not {self.title}: {found}, expected {expected}; {self.remedy}")


class Bits(NamedTuple):
    """N rows of d bits, and their classes."""

    packed: np.ndarray  # (N, ceil(d / 8)) uint8, as numpy.packbits gives
    labels: np.ndarray  # (N,) uint8 in [0, C)

    def features(self, count: int) -> np.ndarray:
        """(N, count) uint8 of 0 and 1, the first ``count`` bits of each row."""
        return np.unpackbits(self.packed, axis=1, count=count)


def packed(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """Blocks (n, d) of bits → all rows (N, ceil(d / 8)) uint8. Only one unpacked block is in memory at a time."""
    parts = [np.packbits(block, axis=1) for block in blocks]
    return np.concatenate(parts) if parts else np.empty((0, 0), np.uint8)


def join(path: Path, expected: Expected, bits: np.ndarray, labels: np.ndarray) -> Bits:
    """Packed bits (N, ceil(d / 8)) and labels (N,) as one table.

    Raises: `UserError` for other lengths and for N < 2.
    """
    if len(bits) != len(labels):
        expected.wrong(path, f"{len(bits)} rows of features and {len(labels)} labels", "as many labels as rows")
    if len(bits) < 2:
        expected.wrong(path, f"{len(bits)} rows", "at least 2")
    return Bits(bits, labels.astype(np.uint8))


def save(path: Path, bits: Bits) -> bool:
    """Save a table in the cache; False if the cache cannot be written."""
    return write_whole(path, lambda stream: np.savez(stream, packed=bits.packed, labels=bits.labels))


def restore(path: Path, expected: Expected) -> Bits | None:
    """A table from the cache; None if it is missing or damaged, so that it must be read from its source again."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            bits = Bits(arrays["packed"], arrays["labels"])
    except Exception:  # a damaged file may raise anything
        return None
    n = len(bits.labels) if bits.labels.ndim == 1 else -1
    right = (
        bits.packed.shape == (n, -(-expected.features // 8))
        and bits.packed.dtype == bits.labels.dtype == np.uint8
        and n >= 2
        and int(bits.labels.max()) < expected.classes
    )
    return bits if right else None
