"""Tables of the intervals where rows come in groups: of the AUC, of TPR at FPR, and of an accuracy.

A score is √ρ u + √(1 − ρ) e, u of the group and e of the row, both N(0, 1); members score mu higher. Groups of members and
of non-members, in numbers as the table says:

``even``       eight rows each
``uneven``     one row and a geometric number of mean 8 more
``unexposed``  eight rows each; 2 (1 − A) of the groups score as non-members do, the other members' above all
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from hampkit.stats import grouped, metrics

Array = NDArray[np.float64]
NUMBERS = ((6, 6), (15, 15), (20, 80), (100, 100), (400, 400))
DESIGNS = (
    ("even", 0.0),
    ("even", 0.3),
    ("even", 0.9),
    ("uneven", 0.0),
    ("uneven", 0.3),
    ("uneven", 0.9),
    ("unexposed", 0.3),
)
AUCS = (0.5, 0.75, 0.9, 0.99, 0.999)
FPRS = (0.001, 0.01, 0.1)
Audit = tuple[Array, NDArray[np.bool_], NDArray[np.int64]]  # scores, membership, groups


def table(audits: int) -> None:
    """Prints two tables: the AUC, and rates with accuracies."""
    print("| groups | design | ρ | " + " | ".join(f"AUC {auc}" for auc in AUCS) + " | rows alone, at AUC 0.75 |")
    print("|--:|---|--:|" + "--:|" * (len(AUCS) + 1))
    for numbers in NUMBERS:
        for design, rho in DESIGNS:
            cells = [_auc(numbers, design, rho, auc, audits, grouped.auc_interval) for auc in AUCS]
            rows = _auc(numbers, design, rho, 0.75, audits, lambda s, m, g: metrics.auc_interval(s, m))
            print(f"| {_of(numbers)} | {design} | {rho} | " + " | ".join([*cells, rows]) + " |", flush=True)
    print(
        "\n| groups | design | ρ | "
        + " | ".join(f"TPR@{fpr:.1%}" for fpr in FPRS)
        + " | rows alone, at 1.0% | accuracy |"
    )
    print("|--:|---|--:|" + "--:|" * (len(FPRS) + 2))
    for numbers in NUMBERS:
        for design, rho in DESIGNS[:-1]:
            cells = [_tpr(numbers, design, rho, fpr, audits, True) for fpr in FPRS]
            cells += [_tpr(numbers, design, rho, 0.01, audits, False), _accuracy(numbers, design, rho, audits)]
            print(f"| {_of(numbers)} | {design} | {rho} | " + " | ".join(cells) + " |", flush=True)


def draw(rng: np.random.Generator, numbers: tuple[int, int], design: str, rho: float, auc: float, mu: float) -> Audit:
    """One audit; members score mu higher, or as ``unexposed`` has it."""
    sizes = 1 + rng.geometric(1 / 8, sum(numbers)) if design == "uneven" else np.full(sum(numbers), 8)
    group = np.repeat(np.arange(sum(numbers)), sizes)
    member = group < numbers[0]
    scores = np.sqrt(rho) * rng.standard_normal(sum(numbers))[group] + np.sqrt(1 - rho) * rng.standard_normal(
        len(group)
    )
    if design == "unexposed":
        return scores + 100 * (member & (rng.random(sum(numbers)) >= 2 * (1 - auc))[group]), member, group
    return scores + mu * member, member, group


def _audits(numbers: tuple[int, int], design: str, rho: float, auc: float, mu: float, audits: int) -> Iterator[Audit]:
    rng = np.random.default_rng([*numbers, len(design), round(10 * rho), round(1e6 * auc), round(100 * mu)])
    return (draw(rng, numbers, design, rho, auc, mu) for _ in range(audits))


def _auc(
    numbers: tuple[int, int], design: str, rho: float, auc: float, audits: int, of: Callable[..., metrics.Interval]
) -> str:
    mu = float(norm.ppf(auc) * np.sqrt(2))
    return cell([(lambda i: (i.low, i.high))(of(*a)) for a in _audits(numbers, design, rho, auc, mu, audits)], auc)


def _tpr(numbers: tuple[int, int], design: str, rho: float, fpr: float, audits: int, by_group: bool) -> str:
    found = []
    for scores, member, group in _audits(numbers, design, rho, 0.0, 1.0, audits):
        point, outer = grouped.tpr_point(scores, member, fpr, groups=group if by_group else None)
        found.append((min(outer[0], point.low), max(outer[1], point.high)))
    return cell(found, float(norm.sf(norm.isf(fpr) - 1.0)))


def _accuracy(numbers: tuple[int, int], design: str, rho: float, audits: int) -> str:
    """The share of members' scores above 0, with mu = 1: 84 %."""
    found = []
    for scores, member, group in _audits(numbers, design, rho, 0.0, 1.0, audits):
        one = grouped.rate(scores[member] > 0, group[member])
        found.append((one.low, one.high))
    return cell(found, float(norm.cdf(1.0)))


def cell(found: list[tuple[float, float]], truth: float) -> str:
    low, high = np.array(found).T
    return f"{np.mean((low <= truth) & (truth <= high)):.1%} ({np.median(high - low):.2g})"


def _of(numbers: tuple[int, int]) -> str:
    return " + ".join(map(str, numbers))
