"""The AUC of the strongest attack within each subgroup of the records, such as the values of a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hampkit.judging.results import ERROR
from hampkit.stats import grouped
from hampkit.stats.intervals import bonferroni_level
from hampkit.stats.roc import same_order
from hampkit.stats.strength import finding

LEAST = 50  # judged members, and non-members: below it an interval covers almost everything


def subgroups(
    scores: Mapping[str, NDArray[np.float64]], member: Any, by: Sequence[str], group: Any = None
) -> list[dict[str, Any]]:
    """For each subgroup its judged members and non-members, the attack that finds most there, and the AUC of that attack.

    scores: attack → (N,). member: (N,) bool. by: (N,) the names of the subgroups. group: (N,) rows of one group are not
    independent. The intervals hold for the best of all distinct attacks in every subgroup that is judged (Bonferroni). A subgroup
    with fewer than 50 members or non-members has a ``reason`` in place of numbers.
    """
    members, names, found = np.asarray(member, dtype=bool), np.asarray(by), []
    rows_of = {name: names == name for name in sorted(set(names.tolist()))}
    sizes = {name: (int((rows & members).sum()), int((rows & ~members).sum())) for name, rows in rows_of.items()}
    judged = sum(min(size) >= LEAST for size in sizes.values())
    level = bonferroni_level(ERROR, len(set(same_order(dict(scores)).values())) * max(judged, 1))
    for name, rows in rows_of.items():
        n1, n0 = sizes[name]
        counts = {"name": name, "members": n1, "nonmembers": n0}
        if min(n1, n0) < LEAST:
            found.append({**counts, "reason": f"{n1:,} judged members and {n0:,} non-members, {LEAST} of each needed"})
            continue
        own = None if group is None else np.asarray(group)[rows]
        aucs = {a: grouped.auc_interval(values[rows], members[rows], own, level) for a, values in scores.items()}
        best = max(aucs, key=lambda a: finding(**vars(aucs[a])))
        found.append({**counts, "attack": best, "auc": dict(vars(aucs[best]))})
    return found
