"""Which of several attacks on a model is the strongest: one rule for verdicts, tables and charts."""

from __future__ import annotations


def side(value: float, low: float, high: float) -> int:
    """1 if the interval of an AUC lies above 0.5, −1 if it lies below, 0 if it contains 0.5.

    >>> side(0.6, 0.51, 0.68), side(0.6, 0.48, 0.7), side(0.3, 0.2, 0.49)
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
