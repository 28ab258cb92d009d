"""Tables of the interval of one AUC: coverage over designs, and what repairing inverted pairs does to its lower bound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.special import logit as scipy_logit
from scipy.stats import norm

from benchmarks.auc_designs import AUCS, DESIGNS, SIZES, Array, moments, repaired, scores
from hampkit.stats import metrics

STARTS = (*((50, 50, auc) for auc in (0.5, 0.75, 0.9, 0.99)), *((162, 648, auc) for auc in (0.75, 0.9, 0.99, 0.999)),
          *((648, 162, auc) for auc in (0.9, 0.99)), *((1_000, 1_000, auc) for auc in (0.9, 0.99, 0.999)),
          *((3_000, 10_000, auc) for auc in (0.99, 0.999)))  # fmt: skip
ENOUGH = 5  # expected members, and non-members, on the wrong side: from here on an interval may not be too wide
Z = float(norm.ppf(0.975))
_POINTS = 1000  # of a path of repairs


@dataclass(frozen=True)
class Cell:
    """Coverage and median width over the audits of one design."""

    design: str
    auc: float
    m: int
    n: int
    covered: float
    width: float

    @property
    def name(self) -> str:
        return f"{self.design}, AUC {self.auc}, {self.m:,} + {self.n:,}"

    @property
    def at_least(self) -> float:
        """The limit for its coverage: a lower one for scores of two values with few expected errors."""
        errors = {"binary": self.m + self.n, "one-sided": 2 * self.n, "below": self.m}.get(self.design, np.inf)
        return 0.90 if errors * (1 - self.auc) < ENOUGH else 0.93

    @property
    def at_most(self) -> float:
        return 0.975 if min(self.m, self.n) * (1 - self.auc) > ENOUGH - 1e-9 else 1.0


def jeffreys(value: Array, variance: Array, m: int, n: int) -> tuple[Array, Array]:
    """`metrics.auc_interval` of many audits, from their AUCs and variances."""
    return metrics.jeffreys(value, metrics.effective_size(value, variance, m, n))


def wilson(value: Array, variance: Array, m: int, n: int) -> tuple[Array, Array]:
    """Wilson's interval for an effective size with 1/4 in place of 1/5."""
    size = np.maximum(min(m, n), value * (1 - value) / (variance + 1 / (4 * m**2) + 1 / (4 * n**2)))
    center = (value + Z**2 / 2 / size) / (1 + Z**2 / size)
    half = Z / (1 + Z**2 / size) * np.sqrt(value * (1 - value) / size + Z**2 / 4 / size**2)
    return np.maximum(center - half, 0.0), np.minimum(center + half, 1.0)


def logit(value: Array, variance: Array, m: int, n: int) -> tuple[Array, Array]:
    """DeLong's on the logit scale, two pseudo-observations in each group, and the exact bound at 0 and 1: the tool's before."""
    q = value * (1 - value)
    added = (value**2 + (1 - value) ** 2) * (1 / (m * (m + 1)) + 1 / (n * (n + 1)))
    inside = np.where(q > 0, value, 0.5)
    half = Z * np.sqrt(variance + added) / np.where(q > 0, q, 1.0)
    low, high = expit(scipy_logit(inside) - half), expit(scipy_logit(inside) + half)
    bound = metrics.clopper_pearson(min(m, n), min(m, n))[0]
    ends = np.where(value == 1, bound, 0.0), np.where(value == 1, 1.0, 1 - bound)
    return np.where(q > 0, low, ends[0]), np.where(q > 0, high, ends[1])


METHODS = {"jeffreys": jeffreys, "wilson": wilson, "logit": logit}


def coverage(audits: int, method: str) -> None:
    """Prints a row per design and size, a column per true AUC, and how far coverage lies from its limits."""
    print("| design | members + non-members | " + " | ".join(f"AUC {auc}" for auc in AUCS) + " |")
    print("|---|--:|" + "--:|" * len(AUCS))
    cells: list[Cell] = []
    for design in DESIGNS:
        for m, n in SIZES:
            row = [
                None if (design, auc) == ("one-sided", 0.5) else cell(design, auc, m, n, audits, method) for auc in AUCS
            ]
            cells += [c for c in row if c]
            shown = (f"{c.covered:.1%} ({c.width:.2g})" if c else "equal scores" for c in row)
            print(f"| {design} | {m:,} + {n:,} | " + " | ".join(shown) + " |", flush=True)
    _limits(cells)


def cell(design: str, auc: float, m: int, n: int, audits: int, method: str = "jeffreys") -> Cell:
    rng = np.random.default_rng([DESIGNS.index(design), round(auc * 1e6), m, n])
    low, high = METHODS[method](*moments(rng, design, auc, m, n, audits), m, n)
    covered = (low <= auc + 1e-12) & (auc - 1e-12 <= high)
    return Cell(design, auc, m, n, float(covered.mean()), float(np.median(high - low)))


def _limits(cells: list[Cell]) -> None:
    print(f"\n{len(cells)} designs.")
    for limit, words in (
        (0.93, "at least 93 %"),
        (0.90, "at least 90 % (two values, fewer than five expected errors)"),
    ):
        chosen = [c for c in cells if c.at_least == limit]
        least = min(chosen, key=lambda c: c.covered)
        below = sum(c.covered < limit for c in chosen)
        print(f"Limit {words}: {len(chosen)} designs, {below} below; lowest {least.covered:.1%} ({least.name}).")
    chosen = [c for c in cells if c.at_most < 1]
    most, above = max(chosen, key=lambda c: c.covered), sum(c.covered > c.at_most for c in chosen)
    print(f"Limit at most 97.5 %: {len(chosen)} designs, {above} above; highest {most.covered:.1%} ({most.name}).")


def repair(paths: int, method: str) -> None:
    """Prints, per start, the largest fall of the lower bound at one repair and below its running maximum, over the width."""
    print(
        "| members + non-members | AUC at the start | order | largest fall at one repair | largest fall below the maximum |"
    )
    print("|--:|--:|---|--:|--:|")
    for m, n, auc in STARTS:
        for order in ("top", "bottom", "random"):
            found = [falls(*path(design, auc, m, n, order, seed), m, n, method)
                     for design in ("normal", "wider", "narrower", "unexposed") for seed in range(paths)]  # fmt: skip
            once, ever = np.max(found, axis=0)
            print(f"| {m:,} + {n:,} | {auc} | {order} | {once:.4f} | {ever:.3f} |", flush=True)
    print("\nOne inverted pair below AUC 1: by how much of the width at AUC 1 the lower bound moves.\n")
    for m, n in SIZES:
        print(f"- {m:,} + {n:,}: {one_pair(m, n, method):.4f}")


def path(design: str, auc: float, m: int, n: int, order: str, seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng([seed, DESIGNS.index(design), round(auc * 1e6), m, n])
    member = np.argsort(-next(scores(rng, design, auc, m, n, 1))[0]) < m
    return repaired(rng, member, order)


def falls(value: Array, variance: Array, m: int, n: int, method: str = "jeffreys") -> tuple[float, float]:
    """The largest fall of the lower bound at one repair, and below its running maximum, both as shares of the width there.

    Of long paths at about a thousand places, each with the next one, and at the last thousand.
    """
    some = np.unique(
        np.r_[np.linspace(0, len(value) - 1, _POINTS).astype(int), np.arange(max(len(value) - _POINTS, 0), len(value))]
    )
    places = np.unique(np.minimum(np.r_[some, some + 1], len(value) - 1))
    low, high = METHODS[method](value[places], variance[places], m, n)
    width, next_to = high - low, np.diff(places) == 1
    once = ((low[:-1] - low[1:]) / width[:-1])[next_to]
    return float(once.max(initial=0.0)), float(((np.maximum.accumulate(low) - low) / width).max())


def one_pair(m: int, n: int, method: str = "jeffreys") -> float:
    """By how much of the width at AUC 1 the lower bound moves when one pair is inverted."""
    member = np.arange(m + n) < m
    member[[m - 1, m]] = False, True
    low, high = METHODS[method](*repaired(np.random.default_rng(0), member, "top"), m, n)
    return float((low[1] - low[0]) / (high[1] - low[1]))
