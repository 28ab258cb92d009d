"""Variances clustered by target and by unit. A unit is one example, or several that are not independent, as one person's rows.

Axes: M models (targets) and N examples. A pair is one model and one example; pairs may be left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hampkit.stats.intervals import codes_of, kish, kish_of_sizes

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Units(NamedTuple):
    """The units of M × N pairs."""

    # (N,) or (M, N) numbered from 0; None: every column is a unit of its own
    codes: NDArray[np.int64] | None
    number: int
    effective: float  # Kish's number, by the pairs of each unit
    share: float  # Kish's numbers of the units of single models, divided by the numbers of their examples

    @classmethod
    def of(cls, units: Any, judged: Bools | tuple[int, int]) -> Units:
        """The units of pairs (M, N).

        units: (N,) or (M, N), one number for each unit; None: every column is a unit.
        judged: (M, N) bool, the pairs that count; or (M, N) itself if all of them do.

        Raises: `ValueError` for units of another shape.
        """
        if not isinstance(judged, tuple):
            return cls._masked(units, judged)
        given = None if units is None else np.asarray(units)
        if given is not None and given.ndim == 2:
            return cls._masked(given, np.ones(judged, dtype=bool))
        codes = codes_of(given, judged[1:], "example")
        if codes is None:
            return cls(None, judged[1], float(judged[1]), 1.0)
        effective = kish(codes)
        return cls(codes, int(codes.max()) + 1, effective, effective / judged[1])

    @classmethod
    def _masked(cls, units: Any, judged: Bools) -> Units:
        given = np.arange(judged.shape[1]) if units is None else np.asarray(units)
        if given.shape not in (judged.shape, judged.shape[1:]):
            raise ValueError(f"units {given.shape} must be {judged.shape} or {judged.shape[1:]}, one for each example")
        every = np.broadcast_to(given, judged.shape)
        kinds, found = np.unique(every[judged], return_inverse=True)
        codes = np.zeros(judged.shape, dtype=np.int64)  # of pairs that are left out: any unit
        codes[judged] = found
        own = [np.bincount(codes[m][inside]) for m, inside in enumerate(judged) if inside.any()]
        share = sum(map(kish_of_sizes, own)) / len(found)
        return cls(codes, len(kinds), kish_of_sizes(np.bincount(found)), share)

    def unseen(self, q: float) -> float:
        """The variance of a rate p that is due to unseen units: min(q/K, 1/(10 K²)), with q = p (1 − p) and K their number.

        K is Kish's number of units, as in `intervals.size_of_rate`. The variance is 0 if no model has two examples of one unit.
        """
        return 0.0 if self.share == 1 else min(q / self.effective, 1 / (10 * self.effective**2))

    def sums(self, row: Array, m: int) -> Array:
        """(G,) the contributions (N,) of the pairs of model m, summed over each unit."""
        if self.codes is None:
            return row
        codes = self.codes if self.codes.ndim == 1 else self.codes[m]
        return np.bincount(codes, row, self.number).astype(np.float64)


class Variances(NamedTuple):
    """The clustered variance of a sum of contributions (M, N)."""

    by_model: float  # between models
    by_unit: float  # what units add to it
    effective_models: float  # Kish's number: how many models make up `by_model`
    n_models: int
    units: Units


def variances(rows: Iterable[Array], n_models: int, units: Units) -> Variances:
    """The variances of the contributions of each model, (N,) each, which sum to 0 over all models; 0 for pairs that are left out.

    Rows come one at a time: for 128 models and 40,000 examples, an array of all contributions would take 40 MB. NumPy sums the
    squares: a scalar product is BLAS's, and its last digits depend on the number of threads.
    """
    of_units, of_models, both = np.zeros(units.number), [], 0.0
    for m, row in enumerate(rows):
        of_models.append(float(row.sum()))
        sums = units.sums(row, m)
        both += float(np.square(sums).sum())
        of_units += sums
    squares = np.square(of_models)
    by_unit = units.number / max(units.number - 1, 1) * float(np.square(of_units).sum())
    fourth = float(np.square(squares).sum())
    effective = squares.sum() ** 2 / fourth if fourth > 0 else float(n_models)
    by_model = n_models / (n_models - 1) * float(squares.sum())
    return Variances(by_model, max(by_unit - both, 0.0), float(effective), n_models, units)
