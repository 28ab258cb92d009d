"""An order of rows in which every part holds its share of each class, and rows of one unit stay neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
GOLDEN = (5**0.5 - 1) / 2


def stratified(labels: Ints, units: Ints, rng: np.random.Generator) -> Ints:
    """A permutation (N,) of rows with labels (N,) in units (N,); units of one row each: no two rows belong together.

    A unit counts to the rarest class that it holds. The first unit of every class, drawn at random, comes before all others, so
    that the first n rows hold all classes as soon as n is no smaller than their number. The others of a class, in random order,
    are spread evenly from 0 to 1: each lies at (rows before it + offset · its own) / rows, counted within the class without its
    first unit. Offsets are uniform on [0, 1): any two parts of equal length behind the first units hold, on average, equally
    many rows of a class. A class must not be likelier in one of two parts, or its label alone would be evidence of membership.
    """
    _, unit, sizes = np.unique(units, return_inverse=True, return_counts=True)
    stratum = _rarest(labels, unit)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(stratum[order], kind="stable")]
    stratum, sizes = stratum[order], sizes[order]
    first = np.r_[True, stratum[1:] != stratum[:-1]]
    spread = np.where(first, 0, sizes)
    rows = np.bincount(stratum, spread)
    before = spread.cumsum() - spread - (rows.cumsum() - rows)[stratum]
    # one draw for all, and far from those of the classes before: many classes of one size must not all miss the same part
    offsets = (rng.random() + np.arange(len(rows)) * GOLDEN) % 1
    places = (before + offsets[stratum] * spread) / np.maximum(rows[stratum], 1)
    order = order[np.lexsort((places, ~first))]
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return np.argsort(rank[unit], kind="stable")


def _rarest(labels: Ints, unit: Ints) -> Ints:
    """(U,) for each unit the rarest of its classes, numbered from the rarest on; of equally rare ones the first."""
    _, label, counts = np.unique(labels, return_inverse=True, return_counts=True)
    rarity = np.empty(len(counts), dtype=np.int64)
    rarity[np.argsort(counts, kind="stable")] = np.arange(len(counts))
    found = np.full(unit.max() + 1, len(counts))
    np.minimum.at(found, unit, rarity[label])
    return found
