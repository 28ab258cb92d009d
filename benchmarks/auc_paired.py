"""Tables of the intervals of a difference of two AUCs, and of leave-one-out's AUC, by calling them once per audit.

Pairs of attacks ``a`` and ``b``, on members and non-members that score N(0, 1) plus what is said:

``close``      both N(mu, 1) with correlation 0.92, ``apart`` with correlation 0: members' mu for a and b in brackets
``unexposed``  a separates all, b but for a share of the members, which score as non-members do
``below``      a separates all, in b a share of the members lies below all
``labels``     label-only attacks: b differs from a in a share of all answers
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from benchmarks.clustered import draw
from hampkit.stats import clustered, metrics

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
SIZES = ((50, 50), (162, 648), (1_000, 1_000))
PAIRS = (
    ("close", 0.7, 0.7), ("close", 1.8, 1.5), ("close", 3.3, 3.3), ("close", 4.4, 4.2), ("apart", 1.0, 1.0), ("apart", 3.3, 2.5),
    ("unexposed", 0.002, 0), ("unexposed", 0.01, 0), ("unexposed", 0.1, 0), ("below", 0.002, 0), ("below", 0.01, 0),
    ("below", 0.05, 0), ("labels", 0.005, 0), ("labels", 0.02, 0), ("labels", 0.1, 0),
)  # fmt: skip
TARGETS = ((16, 300), (16, 2000), (64, 300))  # models, examples
REPEATED = (  # design of benchmarks.clustered, how far members lie above
    ("none", 1.0), ("none", 3.3), ("none", 5.3), ("examples", 1.0), ("examples", 4.6), ("models", 1.0), ("models", 4.6),
    ("gain", 1.0), ("gain", 4.0), ("gain", 5.3), ("scale", 1.0), ("scale", 3.3),
)  # fmt: skip


def difference(audits: int) -> None:
    print("| pair | true difference | " + " | ".join(f"{m:,} + {n:,}" for m, n in SIZES) + " |")
    print("|---|--:|" + "--:|" * len(SIZES))
    for pair in PAIRS:
        cells = []
        for m, n in SIZES:
            rng = np.random.default_rng([PAIRS.index(pair), m, n])
            member = np.arange(m + n) < m
            found = [metrics.auc_difference(*_pair(rng, pair, member), member) for _ in range(audits)]
            cells.append(_cell(found, _true_difference(pair)))
        name = f"{pair[0]} ({pair[1]}, {pair[2]})" if pair[0] in ("close", "apart") else f"{pair[0]} ({pair[1]:.1%})"
        print(f"| {name} | {_true_difference(pair):.4f} | " + " | ".join(cells) + " |", flush=True)


def _cell(found: list[metrics.Interval], truth: float) -> str:
    covered = np.mean([i.low <= truth + 1e-12 and truth - 1e-12 <= i.high for i in found])
    return f"{covered:.1%} ({np.median([i.high - i.low for i in found]):.2g})"


def _pair(rng: np.random.Generator, pair: tuple[str, float, float], member: Bools) -> tuple[Array, Array]:
    design, one, other = pair
    a, b, some = rng.standard_normal(len(member)), rng.standard_normal(len(member)), rng.random(len(member)) < one
    if design == "close":
        shared, scale = rng.standard_normal(len(member)), math.hypot(1, 0.3)
        return shared + 0.3 * a + one * scale * member, shared + 0.3 * b + other * scale * member
    if design == "apart":
        return a + one * member, b + other * member
    if design == "labels":
        right = rng.random(len(member)) < np.where(member, 0.8, 0.6)
        return right.astype(float), (right ^ some).astype(float)
    return a + 100 * member, b + 100 * member - (100 if design == "unexposed" else 200) * (member & some)


def _true_difference(pair: tuple[str, float, float]) -> float:
    design, one, other = pair
    if design in ("close", "apart"):
        return float(norm.cdf(one / math.sqrt(2)) - norm.cdf(other / math.sqrt(2)))
    return {"unexposed": one / 2, "below": one, "labels": 0.2 * one}[
        design
    ]  # AUC ½ + (0.8 − 0.6)/2, times 1 − 2 · share


def leave_one_out(audits: int) -> None:
    print(
        "| design | members above by | AUC | which | "
        + " | ".join(f"{m} models, {n:,} examples" for m, n in TARGETS)
        + " |"
    )
    print("|---|--:|--:|---|" + "--:|" * len(TARGETS))
    for design, above in REPEATED:
        found = [_repeated(design, above, *size, audits) for size in TARGETS]
        for k, (which, truth) in enumerate(zip(("pooled", "within"), _true_aucs(design, above), strict=True)):
            cells = [_cell(of[k], truth) for of in found]
            print(f"| {design} | {above} | {truth:.5f} | {which} | " + " | ".join(cells) + " |", flush=True)


def _repeated(design: str, above: float, models: int, examples: int, audits: int) -> list[list[metrics.Interval]]:
    rng, found = np.random.default_rng([models, examples, round(above * 10)]), ([], [])
    for _ in range(audits):
        s, m = draw(rng, models, examples, design, above)
        found[0].append(clustered.auc_interval(s, m))
        found[1].append(clustered.auc_within(s, m))
    return list(found)


def _true_aucs(design: str, above: float) -> tuple[float, float]:
    """Pooled, and the mean within models, of all models and examples there might be: exact, or of 20,000 models."""
    if design in ("gain", "scale"):
        s, m = draw(np.random.default_rng(1), 20_000, 100, design, above)
        return metrics.auc(s.ravel(), m.ravel()), float(np.mean([metrics.auc(*row) for row in zip(s, m, strict=True)]))
    pooled, within = (1.0 if design == "none" else 2.0), (2.0 if design == "examples" else 1.0)
    return tuple(float(norm.cdf(above / math.sqrt(2 * v))) for v in (pooled, within))  # pyright: ignore[reportReturnType]
