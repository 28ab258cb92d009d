"""Durations in words."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """A duration in seconds, minutes or hours, in the unit that a reader would choose.

    >>> duration(0.42), duration(95), duration(250), duration(7300)
    ('0.4 s', '95 s', '4 min', '2 h 2 min')
    """
    if seconds < 120:
        return f"{seconds:.{0 if seconds >= 10 else 1}f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
