"""Which rows of a pool the adversary knows, and which are judged."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hampkit.data.splits import known_split

Rows = NDArray[np.int64]


class Candidates(NamedTuple):
    """Rows of a pool, members first in each part."""

    known: Rows  # (K,) whose membership the adversary knows
    fit: NDArray[np.bool_]  # (K,) of these: for fitting; the others are for choosing
    judged: Rows  # (N,)


def candidates(
    once: NDArray[np.bool_],
    members: int,
    known_train: float,
    known_val: float,
    everyone: bool = False,
    groups: Any = None,
) -> Candidates:
    """The candidates of a pool (P,) whose first ``members`` rows are members.

    once: (P,) the rows that take part. Where no two of them have the same features, no features are known and judged, judged
    twice, or judged as a non-member's where a member has them.
    everyone: the known ones are judged too. groups: (P,), rows of one group are neighbours, and are known or judged as a whole.
    """
    first = np.flatnonzero(once)
    known, fit, judged = [], [], []
    for rows in (first[first < members], first[first >= members]):
        a, b = known_split(len(rows), known_train, known_val)
        if groups is not None:
            a, b = _to_whole_groups(np.asarray(groups)[rows], a, b)
        known.append(rows[:b])
        fit.append(np.arange(b) < a)
        judged.append(rows if everyone else rows[b:])
    return Candidates(np.concatenate(known), np.concatenate(fit), np.concatenate(judged))


def _to_whole_groups(groups: Rows, a: int, b: int) -> tuple[int, int]:
    """The ends of the known parts moved to the nearest ends of groups (n,), with at least one group in each of three parts.

    Fewer than three groups leave a part empty.
    """
    ends = np.r_[0, np.flatnonzero(np.diff(groups)) + 1, len(groups)]
    if len(ends) < 4:
        return 0, 0
    last = int(np.abs(ends[2:-1] - b).argmin()) + 2
    return int(ends[int(np.abs(ends[1:last] - a).argmin()) + 1]), int(ends[last])
