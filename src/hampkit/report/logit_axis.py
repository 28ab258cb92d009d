"""Ticks of an axis of probabilities on a logit scale, ln p − ln(1 − p)."""

from __future__ import annotations

from math import exp, log
from typing import Any

MOST, FEWEST = 7, 3  # ticks
BETWEEN = (0.02, 0.05, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.95, 0.98)


def logit_ticks(low: float, high: float) -> dict[str, Any]:
    """Places and texts of a few ticks between two logits: 50 % and powers of ten, on a narrow axis further probabilities.

    >>> logit_ticks(-3, 5)["ticktext"], logit_ticks(-2.5, -0.5)["ticktext"]
    (['10%', '50%', '90%', '99%'], ['10%', '20%', '30%'])
    """
    places = _inside(_decades(), low, high)
    if len(places) < FEWEST:
        places = _inside([*_decades(), *((log(p / (1 - p)), f"{100 * p:.0f}%") for p in BETWEEN)], low, high)
    if len(places) < FEWEST:
        places = [(at, f"{100 / (1 + exp(-at)):.3g}%") for at in (low, (low + high) / 2, high)]
    step = -(-len(places) // MOST)
    first = next((i for i, (at, _) in enumerate(places) if at == 0), 0) % step  # 50 % stays where it is seen
    shown = places[first::step]
    return {"tickvals": [at for at, _ in shown], "ticktext": [text for _, text in shown]}


def _inside(places: list[tuple[float, str]], low: float, high: float) -> list[tuple[float, str]]:
    return sorted((at, text) for at, text in places if low <= at <= high)


def _decades() -> list[tuple[float, str]]:
    """0.5, the powers of ten down to 10⁻¹⁸ and one minus these."""
    found = [(0.0, "50%")]
    for k in range(1, 19):
        at, digits = log(10**k - 1), max(0, k - 2)
        small, large = f"{100 * 10.0**-k:.{digits}f}%", f"{100 - 100 * 10.0**-k:.{digits}f}%"
        found += (
            [(-at, small), (at, large)] if k <= 4 else [(-at, f"10<sup>−{k}</sup>"), (at, f"1 − 10<sup>−{k}</sup>")]
        )
    return found
