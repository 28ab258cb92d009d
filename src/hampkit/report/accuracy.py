"""The interval of an accuracy, which training keeps without one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hampkit.stats.metrics import clopper_pearson


def exact(rate: float, n: float) -> tuple[float, float]:
    """The exact 95 % interval (Clopper-Pearson) of a rate counted over n, which need not be whole: rows may be in groups.

    >>> tuple(round(bound, 4) for bound in exact(0.0, 10))
    (0.0, 0.3085)
    """
    return clopper_pearson(round(rate * n) if n == int(n) else rate * n, n)


def size(model: Mapping[str, Any], part: str, n: int) -> float:
    """How many independent rows an accuracy over n is worth: fewer where rows are in groups."""
    return (model.get("groups") or {}).get("sizes", {}).get(part, n)
