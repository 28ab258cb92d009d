"""An order of rows in which every part holds its share of each class, and rows of one unit stay neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
GOLDEN = (5**0.5 - 1) / 2


def stratified(labels: Ints, units: Ints, rng: np.random.Generator, first: int) -> Ints:
    """A permutation (N,) of rows with labels (N,) in units (N,); units of one row each: no two rows belong together.

    A unit counts to the rarest class that it holds. The units of a class, in random order, are spread evenly from 0 to 1: each
    lies at (rows before it + offset · its own) / rows of the class. Offsets are uniform on [0, 1): any two parts of equal length
    hold, on average, equally many rows of a class. A class must not be likelier in one of two parts, or its label alone would be
    evidence of membership.

    The ``first`` rows, which become the members, hold every class if they are enough for all. Where an even spread might leave
    them without a class of few units, one of its units, drawn at random, comes before all others and only its rest is spread.
    """
    _, unit, sizes = np.unique(units, return_inverse=True, return_counts=True)
    strata = _rarest(labels, unit)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(strata[order], kind="stable")]
    stratum, sizes = strata[order], sizes[order]
    # one draw for all, and far from those of the classes before: many classes of one size must not all miss the same part
    offsets = (rng.random() + np.arange(stratum[-1] + 1) * GOLDEN) % 1
    largest, rows = np.zeros(len(offsets)), np.bincount(stratum, sizes)
    np.maximum.at(largest, stratum, sizes)
    ahead = largest * len(labels) > first * rows
    while True:
        rank = np.empty(len(order), dtype=np.int64)
        rank[order[_spread(stratum, sizes, offsets, ahead)]] = np.arange(len(order))
        found = np.argsort(rank[unit], kind="stable")
        missing = np.bincount(strata[unit[found[:first]]], minlength=len(offsets)) == 0
        if not (missing & ~ahead).any():
            return found
        ahead |= missing  # among very many classes: a place is a share of the rows only on average


def _spread(stratum: Ints, sizes: Ints, offsets: NDArray[np.float64], ahead: NDArray[np.bool_]) -> Ints:
    """The order of units (U,) that are sorted by stratum: one unit of each stratum that is ``ahead``, then all others, spread."""
    first = np.r_[True, stratum[1:] != stratum[:-1]] & ahead[stratum]
    spread = np.where(first, 0, sizes)
    rows = np.bincount(stratum, spread)
    before = spread.cumsum() - spread - (rows.cumsum() - rows)[stratum]
    places = (before + offsets[stratum] * spread) / np.maximum(rows[stratum], 1)
    return np.lexsort((places, ~first))


def _rarest(labels: Ints, unit: Ints) -> Ints:
    """(U,) for each unit the rarest of its classes, numbered from the rarest on; of equally rare ones the first."""
    _, label, counts = np.unique(labels, return_inverse=True, return_counts=True)
    rarity = np.empty(len(counts), dtype=np.int64)
    rarity[np.argsort(counts, kind="stable")] = np.arange(len(counts))
    found = np.full(unit.max() + 1, len(counts))
    np.minimum.at(found, unit, rarity[label])
    return found
