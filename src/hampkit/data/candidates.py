"""The rows of a pool whose membership the adversary knows, and the rows that are judged."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hampkit.config.sections import JudgeConfig
from hampkit.data.splits import known_split

Rows = NDArray[np.int64]


class Candidates(NamedTuple):
    """Rows of a pool; each array has members first."""

    known: Rows  # (K,) rows whose membership the adversary knows
    fit: NDArray[np.bool_]  # (K,) known rows for fitting; the others are for choosing
    judged: Rows  # (N,)


def candidates(once: NDArray[np.bool_], n_members: int, judge: JudgeConfig, groups: Any = None) -> Candidates:
    """The candidates of a pool of P rows, of which the first ``n_members`` are members.

    once: (P,) bool, the rows that take part. If several rows have the same features, only one should take part. Otherwise
    these features may be known and judged, judged twice, or judged as a non-member's although a member has them.
    groups: (P,); rows of one group are neighbours, and are known or judged together.
    """
    first = np.flatnonzero(once)
    known, fit, judged = [], [], []
    for rows in (first[first < n_members], first[first >= n_members]):
        a, b = known_split(len(rows), judge.known_train, judge.known_val)
        if groups is not None:
            a, b = _to_whole_groups(np.asarray(groups)[rows], a, b)
        known.append(rows[:b])
        fit.append(np.arange(b) < a)
        judged.append(rows if judge.candidates == "all" else rows[b:])
    return Candidates(np.concatenate(known), np.concatenate(fit), np.concatenate(judged))


def _to_whole_groups(groups: Rows, a: int, b: int) -> tuple[int, int]:
    """The ends of both known parts, moved to the nearest ends of groups (n,) so that each of the three parts has a group.

    With fewer than three groups nothing is known: (0, 0).
    """
    ends = np.r_[0, np.flatnonzero(np.diff(groups)) + 1, len(groups)]
    if len(ends) < 4:
        return 0, 0
    last = int(np.abs(ends[2:-1] - b).argmin()) + 2
    return int(ends[int(np.abs(ends[1:last] - a).argmin()) + 1]), int(ends[last])
