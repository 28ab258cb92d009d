"""Variances clustered by target and by unit. A unit is one example, or several that are not independent, as one person's rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hampkit.stats.intervals import codes_of, kish

Array = NDArray[np.float64]


class Units(NamedTuple):
    """Which of N examples are not independent."""

    of_example: NDArray[np.int64] | None  # (N,) numbered from 0; None: all are independent
    number: int
    effective: float  # Kish's number

    @classmethod
    def of(cls, units: Any, examples: int) -> Units:
        codes = codes_of(units, (examples,), "example")
        if codes is None:
            return cls(None, examples, float(examples))
        return cls(codes, int(codes.max()) + 1, kish(codes))

    def unseen(self, q: float) -> float:
        """The variance of a rate p that is due to unseen units: min(q/K, 1/(10 K²)), with q = p (1 − p) and K their number.

        K is Kish's number of units, as in `intervals.size_of_rate`. The variance is 0 if every example is a unit of its own.
        """
        return 0.0 if self.of_example is None else min(q / self.effective, 1 / (10 * self.effective**2))

    def sums(self, row: Array) -> Array:
        """(G,) contributions (N,) summed over each unit."""
        return row if self.of_example is None else np.bincount(self.of_example, row, self.number).astype(np.float64)


class Variances(NamedTuple):
    """The clustered variance of a sum of contributions (M, N)."""

    by_model: float  # between models
    by_unit: float  # what units add to it
    effective_models: float  # Kish's number: how many models make up `by_model`
    n_models: int
    units: Units


def variances(rows: Iterable[Array], n_models: int, units: Units) -> Variances:
    """The variances of the contributions of each model, (N,) each, which sum to 0 over all models.

    Rows come one at a time: for 128 models and 40,000 examples, an array of all contributions would take 40 MB. NumPy sums the
    squares: a scalar product is BLAS's, and its last digits depend on the number of threads.
    """
    of_units, of_models, both = np.zeros(units.number), [], 0.0
    for row in rows:
        of_models.append(float(row.sum()))
        sums = units.sums(row)
        both += float(np.square(sums).sum())
        of_units += sums
    squares = np.square(of_models)
    by_unit = units.number / max(units.number - 1, 1) * float(np.square(of_units).sum())
    fourth = float(np.square(squares).sum())
    effective = squares.sum() ** 2 / fourth if fourth > 0 else float(n_models)
    by_model = n_models / (n_models - 1) * float(squares.sum())
    return Variances(by_model, max(by_unit - both, 0.0), float(effective), n_models, units)
