"""Which shadow models attack one of them in leave-one-out, so that no example's membership is seen in the sizes of its sides.

Axes: N examples, M shadow models.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hampkit.rng import derive, numpy_rng


class Left(NamedTuple):
    """The models that are left out when one model is the target, and the numbers that remain: for IN and for OUT."""

    rows: tuple[NDArray[np.int64], NDArray[np.int64]]  # (N,) each: the model that is left out; −1: none
    sizes: tuple[NDArray[np.int64], NDArray[np.int64]]  # (N,) each: the number of models that remain
    used: NDArray[np.bool_]  # (M,) models with an answer that is used


class HeldOut:
    """The answers that are left out when each of M models is the target: its own, and for each example one of the other side.

    The sides of an example are its IN models and its OUT models. Leaving out the target alone would make its own side the
    smaller one: the sizes of the sides would reveal membership, and the mean of the smaller side is less certain. LiRA then
    ranked members below non-members of targets that leak nothing (simulated AUC 0.42 with 4 models, 0.46 with 8). So one model
    of the other side is left out too. If the target has a twin, a model that was trained on exactly the other examples, the twin
    is left out, because its answers would reveal more than any adversary has. Otherwise the model is drawn at random.

    Without twins the sides of each example are made equal first: models of the larger side are drawn and left out. Sides are
    unequal where models that learnt nothing are missing. Half of all models were trained on each example, so unequal sizes would
    be evidence of the target's membership. If the target is among the drawn models of an example, no other model is left out.
    """

    def __init__(self, members: Any, counted: Any = None) -> None:
        """members: (M, N) bool; counted: (M, N) bool, which answers are used, default all."""
        self.members = np.asarray(members, dtype=bool)
        self.twins = _twins(self.members)
        counts = np.ones(self.members.shape, dtype=bool) if counted is None else np.asarray(counted, dtype=bool)
        self.counted = counts if (self.twins >= 0).any() else _balanced(self.members, counts)

    def partner(self, t: int) -> NDArray[np.int64]:
        """For each example the model (N,) of the other side that is left out with model t; −1: none."""
        n = self.members.shape[1]
        if self.twins[t] >= 0:
            return np.full(n, self.twins[t])
        partner = self.drawn(self.members[t].astype(np.int64), t)
        partner[~self.counted[t]] = -1
        return partner

    def drawn(self, side: Any, seed: int, gone: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """For each example a random one (N,) of its IN (side 0) or OUT (side 1) models that are used; −1: there is none.

        side: a number or (N,). gone: (N,), a model of that side that cannot be drawn; −1: none.
        """
        order, place = self._order
        columns = np.arange(self.members.shape[1])
        size = np.where(side, self.sizes[1], self.sizes[0])
        left = False if gone is None else self.counted[gone, columns] & (gone >= 0)
        k = (numpy_rng(derive(seed, "held out")).random(len(columns)) * (size - left)).astype(np.int64)
        if gone is not None:
            k += left & (k >= place[gone, columns])
        return np.where(size > left, order[side, np.minimum(k, order.shape[1] - 1), columns], -1)

    def without(self, t: int) -> Left:
        """The models that are left out when model t is the target, and the numbers that remain."""
        member, partner = self.members[t], self.partner(t)
        columns, models = np.arange(len(partner)), len(self.members)
        counts = self.counted[partner, columns] & (partner >= 0)  # a twin's answer may be missing anyway
        gone = self.counted[t].astype(np.int64), counts.astype(np.int64)
        own, other = (np.where(member == side, *gone) for side in (True, False))
        inside, outside = self.sizes
        used = self._counted_per_model > np.bincount(partner[counts], minlength=models)
        used[t] = False
        return Left((np.where(member, t, partner), np.where(member, partner, t)), (inside - own, outside - other), used)

    def counts(self, t: int) -> NDArray[np.bool_]:
        """(M, N) bool: the answers that are used when model t is the target."""
        counts, partner = self.counted.copy(), self.partner(t)
        counts[t] = False
        columns = np.flatnonzero(partner >= 0)
        counts[partner[columns], columns] = False
        return counts

    @functools.cached_property
    def _counted_per_model(self) -> NDArray[np.int64]:
        return self.counted.sum(1)

    @functools.cached_property
    def sizes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The numbers of IN and of OUT models that are used for each example: (N,), (N,)."""
        inside, outside = sides(self.members, self.counted)
        return inside.sum(0), outside.sum(0)

    @functools.cached_property
    def _order(self) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
        """The models of each example, used ones first, for IN and OUT (2, M, N); the place of each model among them (M, N)."""
        both = sides(self.members, self.counted)
        order, place = np.empty((2, *self.members.shape), dtype=np.int16), np.empty(self.members.shape, dtype=np.int16)
        for rows in blocks(self.members.shape[1], 512):
            for k, side in enumerate(both):
                order[k][:, rows] = np.argsort(~side[:, rows], axis=0, kind="stable")
            inside, outside = (np.cumsum(side[:, rows], axis=0) - 1 for side in both)
            place[:, rows] = np.where(self.members[:, rows], inside, outside)
        return order, place


def _twins(members: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(M,) for each model the first one that was trained on exactly the other examples; −1: there is none."""
    first: dict[bytes, int] = {}
    for m, row in enumerate(np.packbits(members, axis=1)):
        first.setdefault(row.tobytes(), m)
    return np.array([first.get(row.tobytes(), -1) for row in np.packbits(~members, axis=1)])


def _balanced(members: NDArray[np.bool_], counted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``counted`` (M, N) without drawn models of each example's larger side, so that both sides are equal."""
    inside, outside = sides(members, counted)
    more = inside.sum(0) - outside.sum(0)
    columns = np.flatnonzero(more)
    if not len(columns):
        return counted
    larger = np.where(more[columns] > 0, inside[:, columns], outside[:, columns])
    keys = np.where(larger, numpy_rng(derive(0, "balanced sides")).random(larger.shape), np.inf)
    place = np.argsort(np.argsort(keys, axis=0), axis=0)
    balanced = counted.copy()
    balanced[:, columns] &= place >= np.abs(more[columns])
    return balanced


def sides(members: Any, counted: Any = None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The used IN models and the used OUT models of each example: (M, N) bool, (M, N) bool."""
    m = np.asarray(members, dtype=bool)
    return (m, ~m) if counted is None else (m & counted, ~m & counted)


def blocks(n: int, rows: int = 4096) -> Iterator[slice]:
    """Slices of n examples, which bound the memory in use."""
    for start in range(0, n, rows):
        yield slice(start, min(start + rows, n))
