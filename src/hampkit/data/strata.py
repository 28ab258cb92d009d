"""An order of rows in which every part has its share of each class, and rows of one unit are neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
GOLDEN = (5**0.5 - 1) / 2


def stratified(labels: Ints, units: Ints, rng: np.random.Generator, first: int) -> Ints:
    """A permutation (N,) of rows with labels (N,) in units (N,), such as groups; without groups each row is a unit.

    A unit with rows of several classes counts as one of the rarest class among them. The units of a class, in random order, are
    spread evenly over [0, 1]: each has the position (rows before it + offset · its rows) / rows of the class. With uniform
    offsets on [0, 1), two parts of equal length have on average equally many rows of a class. Otherwise the label alone would be
    evidence of membership.

    The ``first`` rows become the members. They include every class, if they are enough for all classes: where an even spread
    might leave out a class with few units, a random unit of it comes before all other rows, and the rest is spread.
    """
    _, unit, sizes = np.unique(units, return_inverse=True, return_counts=True)
    strata = _rarest(labels, unit)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(strata[order], kind="stable")]
    stratum, sizes = strata[order], sizes[order]
    # one draw, and distant offsets for successive classes: many classes of one size must not all miss the same part
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
        ahead |= missing  # with many classes a position is a share of the rows only on average


def _spread(stratum: Ints, sizes: Ints, offsets: NDArray[np.float64], ahead: NDArray[np.bool_]) -> Ints:
    """An order of units (U,) sorted by stratum: one of each stratum in ``ahead`` (S,) bool first, then all others, spread."""
    first = np.r_[True, stratum[1:] != stratum[:-1]] & ahead[stratum]
    spread = np.where(first, 0, sizes)
    rows = np.bincount(stratum, spread)
    before = spread.cumsum() - spread - (rows.cumsum() - rows)[stratum]
    places = (before + offsets[stratum] * spread) / np.maximum(rows[stratum], 1)
    return np.lexsort((places, ~first))


def _rarest(labels: Ints, unit: Ints) -> Ints:
    """(U,) for each unit the rarest of its classes, numbered from 0 for the rarest; labels (N,), unit (N,)."""
    _, label, counts = np.unique(labels, return_inverse=True, return_counts=True)
    rarity = np.empty(len(counts), dtype=np.int64)
    rarity[np.argsort(counts, kind="stable")] = np.arange(len(counts))
    found = np.full(unit.max() + 1, len(counts))
    np.minimum.at(found, unit, rarity[label])
    return found
