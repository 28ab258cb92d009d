"""The exposure of records as a table: one row for each record, or one for each person, the most exposed first."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hampkit.stats.exposure import FDR, Exposure, benjamini_hochberg
from hampkit.stats.permutation import least_p

COLUMNS = (
    "record", "label", "mu", "low", "high", "low_all", "high_all", "p", "adjusted_p", "exposed", "tpr_at_0.1%_fpr",
    "tpr_at_1%_fpr", "in_models", "out_models",
)  # fmt: skip


@dataclass(frozen=True)
class Records:
    """The exposure of R records or persons, most exposed first: by the lower end of mu."""

    names: tuple[str, ...]  # (R,)
    labels: tuple[str, ...]
    exposure: Exposure  # (R,) each
    of: str = "records"  # records or persons
    persons: tuple[str, ...] = ()  # (R,) the names of the persons, if they have names

    @property
    def exposed(self) -> int:
        """The number of those that are shown to be exposed, at a false discovery rate of 5 %."""
        return int(self.exposure.exposed.sum())

    def __len__(self) -> int:
        return len(self.names)

    @property
    def judged(self) -> int:
        """Those with models of both kinds."""
        return int(np.isfinite(self.exposure.mu).sum())

    def rows(self, most: int | None = None) -> list[list[str]]:
        """The cells of `COLUMNS` of the first ones."""
        e, n = self.exposure, len(self) if most is None else min(most, len(self))
        rates = [e.tpr(fpr) for fpr in (0.001, 0.01)]
        return [
            [
                self.names[i],
                self.labels[i],
                *(f"{v[i]:.6g}" for v in (e.mu, e.low, e.high, e.low_all, e.high_all, e.p, e.adjusted)),
                "yes" if e.exposed[i] else "no",
                *(f"{rate[i]:.6g}" for rate in rates),
                str(e.inside[i]),
                str(e.outside[i]),
            ]
            for i in range(n)
        ]

    def to_csv(self, safe: Any) -> str:
        """The table as text; safe: what makes a user's text harmless in a spreadsheet."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow((*COLUMNS, *(["person"] if self.persons else [])))
        persons = [[safe(name)] for name in self.persons] or [[]] * len(self)
        rows = zip(self.rows(), persons, strict=True)
        writer.writerows([safe(row[0]), safe(row[1]), *row[2:], *person] for row, person in rows)
        return out.getvalue()

    def summary(self) -> dict[str, Any]:
        """The numbers for results.json."""
        models = int((self.exposure.inside + self.exposure.outside).max(initial=0))
        found = {"of": self.of, "exposed": self.exposed, "judged": self.judged, "models": models}
        return {**found, "least_p": least_p(models), "false_discovery_rate": FDR}


def exposed_records(
    found: Exposure,
    names: Sequence[str],
    labels: Sequence[str],
    group: NDArray[np.int64] | None = None,
    persons: Sequence[str] = (),
) -> Records:
    """The table of N records; with groups (N,), of the persons. persons: (N,) their names, if they have any.

    The row of a person is that of the record with the smallest p; its p is multiplied by the number of the person's records
    (Bonferroni), and Benjamini and Hochberg's adjustment is over persons.
    """
    if group is None:
        return _sorted(found, list(names), list(labels), "records")
    finite = np.where(np.isfinite(found.p), found.p, np.inf)
    order = np.lexsort((finite, group))
    first: NDArray[np.int64] = order[np.r_[True, np.diff(group[order]) != 0]]
    count = np.bincount(group, weights=np.isfinite(found.p))[group[first]]
    p = np.minimum(1.0, found.p[first] * np.maximum(count, 1))
    judged = np.isfinite(p)
    adjusted = np.full(len(p), np.nan)
    adjusted[judged] = benjamini_hochberg(p[judged])
    of_persons = replace(found.take(first), p=p, adjusted=adjusted)
    chosen: list[int] = first.tolist()
    named = [persons[i] for i in chosen] if persons else []
    return _sorted(of_persons, [names[i] for i in chosen], [labels[i] for i in chosen], "persons", named)


def _sorted(found: Exposure, names: list[str], labels: list[str], of: str, persons: Sequence[str] = ()) -> Records:
    low = np.where(np.isfinite(found.low), found.low, -np.inf)
    order = np.lexsort((np.arange(len(low)), np.nan_to_num(found.p, nan=2.0), -low))
    named: tuple[str, ...] = tuple(str(persons[i]) for i in order) if persons else ()
    return Records(tuple(names[i] for i in order), tuple(labels[i] for i in order), found.take(order), of, named)
