"""The interval of an accuracy, which training keeps without one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def exact(rate: float, n: float) -> tuple[float, float]:
    """The exact 95 % interval (Clopper-Pearson) of a rate that was counted over n.

    >>> tuple(round(bound, 4) for bound in exact(0.0, 10))
    (0.0, 0.3085)
    """
    from scipy.stats import beta  # SciPy takes a second to import

    k = round(rate * n) if n == int(n) else rate * n  # the size of rows in groups need not be whole
    low = 0.0 if k == 0 else float(beta.ppf(0.025, k, n - k + 1))
    return low, 1.0 if k == n else float(beta.ppf(0.975, k + 1, n - k))


def size(model: Mapping[str, Any], part: str, n: int) -> float:
    """How many independent rows an accuracy over n is worth: fewer where rows are in groups."""
    return (model.get("groups") or {}).get("sizes", {}).get(part, n)
