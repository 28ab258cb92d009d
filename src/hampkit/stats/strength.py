"""Which of several attacks on a model is the strongest: one rule for verdicts, tables and charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

Auc = TypeVar("Auc", bound=Mapping[str, float])


def side(low: float, high: float) -> int:
    """1 if the interval of an AUC lies above 0.5, −1 if it lies below, 0 if it contains 0.5.

    >>> side(0.51, 0.68), side(0.48, 0.7), side(0.2, 0.49)
    (1, 0, -1)
    """
    return int(low > 0.5) - int(high < 0.5)


def finding(value: float, low: float, high: float) -> tuple[bool, float]:
    """The sort key of an attack by its AUC, the strongest last; an AUC below 0.5 counts like the same distance above it.

    Attacks with an interval that excludes 0.5 come after all others, ordered by the distance from 0.5 to the interval. The
    others are ordered by abs(value − 0.5).

    >>> tied, wide, turned = (0.5, 0.499, 0.501), (0.525, 0.45, 0.6), (0.3, 0.28, 0.35)
    >>> max(tied, wide, key=lambda auc: finding(*auc)) == wide, max(wide, turned, key=lambda auc: finding(*auc)) == turned
    (True, True)
    """
    distance = max(low - 0.5, 0.5 - high)
    return (True, distance) if distance > 0 else (False, abs(value - 0.5))


def deciding(mean: Auc, by_seed: Sequence[Auc] = ()) -> Auc:
    """The AUC that decides whether an attack finds members: the mean over seeds, or else the clearest of the single seeds.

    The mean decides if its interval excludes 0.5, or if no interval does. All intervals must allow for the choice among them.

    >>> one, other = {"value": 0.7, "low": 0.6, "high": 0.8}, {"value": 0.8, "low": 0.7, "high": 0.9}
    >>> deciding({"value": 0.75, "low": 0.0, "high": 1.0}, [one, other]) == other
    True
    """
    clear = [auc for auc in by_seed if side(auc["low"], auc["high"])]
    if side(mean["low"], mean["high"]) or not clear:
        return mean
    return max(clear, key=lambda auc: finding(auc["value"], auc["low"], auc["high"]))
