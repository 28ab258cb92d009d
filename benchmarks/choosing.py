"""The worst of ten attacks, as `hampkit compare` takes it: mean and coverage of its AUC over simulated audits.

    python -m benchmarks.choosing [--audits 1000]
    python -m benchmarks.choosing --sides [--audits 1000]

``useless``: ten attacks whose scores have nothing to do with membership. ``one good``: one attack with N(d, 1) for members and
N(0, 1) for non-members, nine useless ones. ``labels``: one attack sees only whether the answer is right, as it is for all
members and for 1 − 2d of the non-members (AUC 0.5 + d), nine useless ones. ``alike``: ten attacks whose scores are those of
the good one with N(0, 1) added. With models: leave-one-out of so many models, each the target in turn, and a common N(0, 1)
for each example.

Beside the way of the tool (each half chooses, the other half judges, mean of both): the first half
alone chooses, by the AUC, and the highest of all attacks on all examples. ``covers``: how often the interval holds the AUC of
the good attack (0.5 where there is none). ``--sides``: of ten useless attacks, how often the interval lies above 0.5, as if
they found something, and how often below.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import norm

from hampkit.data.splits import shadow_members
from hampkit.judging.strongest import (
    CORRELATION,
    REPEATED,
    TARGET,
    Halves,
    _best,
    _half,
    _highest_end,
    half_of_each,
    judged_by_halves,
)
from hampkit.stats import clustered, metrics

ATTACKS = 10
DESIGNS = (("useless", 0.0), ("one good", 0.25), ("one good", 1.0), ("labels", 0.035), ("alike", 1.0))
NAMES = [f"attack-{k}" for k in range(ATTACKS)]
Scores = dict[str, tuple[Any, Any]]


def scores(rng: np.random.Generator, member: np.ndarray, design: str, distance: float) -> Scores:
    """Of ten attacks, with one draw of membership."""
    good = rng.standard_normal(member.shape) + distance * member
    if design == "labels":
        good = (member | (rng.random(member.shape) >= 2 * distance)).astype(float)
    elif member.ndim == 2:
        good += rng.standard_normal(member.shape[1])
    if design == "alike":
        return {name: (good + rng.standard_normal(member.shape), member) for name in NAMES}
    found = {name: (rng.standard_normal(member.shape), member) for name in NAMES}
    return found if design == "useless" else {**found, NAMES[0]: (good, member)}


def truth(design: str, distance: float, models: int) -> float:
    """The AUC of the good attack."""
    if design == "labels":
        return 0.5 + distance
    variance = 2 * (1 + (models > 0) + (design == "alike"))
    return 0.5 if design == "useless" else float(norm.cdf(distance / math.sqrt(variance)))


def halves(found: Scores, mine: np.ndarray) -> Halves:
    return Halves(*({name: (s[part], m[part]) for name, (s, m) in found.items()} for part in (mine, ~mine)))


def audits(
    design: str, distance: float, size: tuple[int, int], models: int, count: int
) -> Iterator[tuple[Any, Any, float]]:
    """Per audit the interval of the tool, that of one way alone, and the highest AUC of all."""
    for seed in range(count):
        rng = np.random.default_rng([seed, *size, models])
        if models:
            member = shadow_members(models, sum(size), seed, "paired").numpy()
            mine = np.repeat(_half(models // 2, seed), 2)
        else:
            member = np.arange(sum(size)) < size[0]
            mine = half_of_each(member, seed)
        found = scores(rng, member, design, distance)
        case = halves(found, mine)
        of: Callable[..., metrics.Interval] = clustered.auc_interval if models else metrics.auc_interval
        best = max(NAMES, key=lambda name, case=case, of=of: of(*case.one[name]).value)
        interval = _of_models(case) if models else judged_by_halves([case], TARGET).auc
        yield interval, of(*case.other[best]), max(of(*found[name]).value for name in NAMES)


def _of_models(case: Halves) -> metrics.Interval:
    """The AUC as `judged_by_halves` has it; the rates of leave-one-out take long and are not looked at."""
    first, second = (_best([half], REPEATED) for half in (case.one, case.other))
    found = clustered.mean_auc([case.other[first], case.one[second]], correlation=CORRELATION)
    return replace(found, high=max(found.high, _highest_end(case)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument(
        "--sides", action="store_true", help="on which side of 0.5 useless attacks are, few to many judged"
    )
    asked = parser.parse_args()
    if asked.sides:
        sides(asked.audits)
    else:
        designs(asked.audits)


def designs(count: int) -> None:
    """A row per number that is judged and design."""
    print("| design | AUC | members + non-members | models | mean (s.d.) | covers | median width | one way: mean (s.d.) |"
          " covers | highest of all: mean |")  # fmt: skip
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for size, models in (((162, 648), 0), ((1000, 1000), 0), ((150, 150), 16)):
        for design, distance in DESIGNS:
            print(_row(design, distance, size, models, count), flush=True)


def sides(count: int) -> None:
    """Useless attacks alone: a row per number that is judged."""
    print("| members + non-members | above 0.5 | below 0.5 | median width |\n|--:|--:|--:|--:|")
    for size in ((4, 4), (5, 5), (10, 10), (50, 50), (162, 648)):
        intervals = [interval for interval, *_ in audits("useless", 0.0, size, 0, count)]
        above, below = np.mean([i.low > 0.5 for i in intervals]), np.mean([i.high < 0.5 for i in intervals])
        width = np.median([i.high - i.low for i in intervals])
        print(f"| {size[0]} + {size[1]} | {above:.1%} | {below:.1%} | {width:.3f} |", flush=True)


def _row(design: str, distance: float, size: tuple[int, int], models: int, count: int) -> str:
    right = truth(design, distance, models)
    both, one, highest = zip(*audits(design, distance, size, models, count), strict=True)
    cells = [design, f"{right:.3f}", f"{size[0]:,} + {size[1]:,}", str(models or "–")]
    for intervals in (both, one):
        values = [i.value for i in intervals]
        cells += [
            f"{np.mean(values):.3f} ({np.std(values):.3f})",
            f"{np.mean([i.low <= right <= i.high for i in intervals]):.1%}",
        ]
        if intervals is both:
            cells.append(f"{np.median([i.high - i.low for i in intervals]):.3f}")
    return f"| {' | '.join([*cells, f'{np.mean(highest):.3f}'])} |"


if __name__ == "__main__":
    main()
