"""An order of rows in which every part holds its share of each class, and rows of one unit stay neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
GOLDEN = (5**0.5 - 1) / 2


def stratified(labels: Ints, units: Ints, rng: np.random.Generator) -> Ints:
    """A permutation (N,) of rows with labels (N,) in units (N,); units of one row each: no two rows belong together.

    A unit counts to the rarest class that it holds. The units of a class, in random order, are spread evenly from 0 to 1: each
    lies at (rows before it + offset · its own) / rows, counted within the class. Offsets lie in (0, 1) and differ by class, or
    many classes of the same size would all miss the same part. The first unit of every class comes before all others, so that
    the first n rows hold all classes as soon as n is no smaller than their number.
    How many rows of a class a part of the permutation gets does not depend on ``rng`` where units have one row.
    """
    _, unit, sizes = np.unique(units, return_inverse=True, return_counts=True)
    stratum = _rarest(labels, unit)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(stratum[order], kind="stable")]
    ends, rows = sizes[order].cumsum(), np.bincount(stratum, sizes)
    before = ends - sizes[order] - (rows.cumsum() - rows)[stratum[order]]
    offsets = (np.arange(1, len(rows) + 1) * GOLDEN) % 1  # far from those of the classes before, however many there are
    places = (before + offsets[stratum[order]] * sizes[order]) / rows[stratum[order]]
    order = order[np.lexsort((stratum[order], places, before > 0))]
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
