"""Which rows of a pool the adversary knows, and which are judged."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hampkit.data.splits import known_split

Rows = NDArray[np.int64]


class Candidates(NamedTuple):
    """Rows of a pool, members first in each part."""

    known: Rows  # (K,) whose membership the adversary knows
    fit: NDArray[np.bool_]  # (K,) of these: for fitting; the others are for choosing
    judged: Rows  # (N,)


def candidates(alike: Rows, members: int, known_train: float, known_val: float, everyone: bool = False) -> Candidates:
    """The candidates of a pool (P,) whose first ``members`` rows are members.

    alike: (P,) for each row the first one with the same features; only first ones take part. So no features are known and judged,
    judged twice, or judged as a non-member's where a member has them. With ``arange(P)`` all rows take part.
    everyone: the known ones are judged too.
    """
    first = np.flatnonzero(alike == np.arange(len(alike)))
    known, fit, judged = [], [], []
    for group in (first[first < members], first[first >= members]):
        a, b = known_split(len(group), known_train, known_val)
        known.append(group[:b])
        fit.append(np.arange(b) < a)
        judged.append(group if everyone else group[b:])
    return Candidates(np.concatenate(known), np.concatenate(fit), np.concatenate(judged))
