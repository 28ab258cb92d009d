"""LiRA and RMIA over M = 128 shadow models and N = 40,000 examples: seconds against one target, and leave-one-out.

    python -m benchmarks.scoring [--models M] [--examples N] [--short] [--no-save]

LiRA's statistics are also taken with SciPy, one example at a time, on a part of the examples: equal to 1e-9, and the time
extrapolated. Leave-one-out is timed on a few targets and multiplied; its judging (pooled ROC, clustered intervals) is timed
whole. The signals are those of shadow models in numbers and sizes only: normal, members higher.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import norm

from benchmarks import machine
from hampkit.attacks import Shadows, SignalAttack
from hampkit.attacks.lira import lira_scores
from hampkit.data.splits import shadow_members
from hampkit.leave_one_out import judge_repeated, scores_of
from hampkit.registry import ATTACKS

POPULATION = 10_000
TARGETS = 3  # of leave-one-out that are timed
LOOP = 400  # examples of the loop


def problem(models: int, examples: int) -> tuple[Shadows, np.ndarray, np.ndarray]:
    """Signals of shadow models, and a target's of the candidates (N, 1) and of the population (Z,)."""
    rng = np.random.default_rng(0)
    members = shadow_members(models, examples, 0, "paired").numpy()
    scores = (rng.normal(size=(models, examples)) + 2 * members).astype(np.float32)[..., None]
    others = rng.normal(size=(models, POPULATION)).astype(np.float32)
    shadows = Shadows((scores,), members, others, np.arange(examples), np.arange(models))
    return shadows, rng.normal(size=(examples, 1)) + 1, rng.normal(size=POPULATION)


def loop(scores: np.ndarray, members: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Online LiRA as published, example by example."""
    found = []
    for i in range(len(target)):
        inside, outside = scores[members[:, i], i], scores[~members[:, i], i]
        found.append(
            norm.logpdf(target[i], np.median(inside), inside.std())
            - norm.logpdf(target[i], np.median(outside), outside.std())
        )
    return np.array(found)


def seconds(call: Callable[[], Any], times: int = 3) -> float:
    found = []
    for _ in range(times):
        clock = time.perf_counter()
        call()
        found.append(time.perf_counter() - clock)
    return min(found)


def measure(models: int, examples: int) -> tuple[list[dict[str, str]], list[str]]:
    shadows, target, background = problem(models, examples)
    attacks = [cls() for cls in ATTACKS.classes().values() if issubclass(cls, SignalAttack)]
    rows = []
    for attack in attacks:
        single = seconds(lambda a=attack: a.compare(target, background, shadows), 2)
        clock = time.perf_counter()
        scores = np.stack([scores_of(t, attack, shadows) for t in range(TARGETS)])
        repeated = (time.perf_counter() - clock) / TARGETS * models
        everything = np.tile(scores, (-(-models // TARGETS), 1))[:models]
        judging = seconds(lambda a=attack, s=everything: judge_repeated(a, s, shadows.membership()), 1)
        rows.append(
            {
                "attack": attack.name,
                "one target, s": f"{single:.2f}",
                f"leave-one-out, {models} targets, s": f"{repeated:.0f}",
                "judging them, s": f"{judging:.1f}",
            }
        )
        print(*rows[-1].values(), sep="  ", flush=True)
    s, m = shadows.signals().astype(np.float64), shadows.membership()
    part = slice(0, min(LOOP, examples))
    slow = seconds(lambda: loop(s[:, part], m[:, part], target[part, 0]), 1) * examples / min(LOOP, examples)
    fast = seconds(lambda: lira_scores(s, m, target[:, 0], "online", "per-example"))
    error = lira_scores(s, m, target[:, 0], "online", "per-example")[part] - loop(
        s[:, part], m[:, part], target[part, 0]
    )
    assert np.abs(error).max() < 1e-9, np.abs(error).max()
    return rows, [
        f"M = {models}, N = {examples:,}, population {POPULATION:,}; online LiRA's statistics alone: {fast:.2f} s,"
        f" example by example with SciPy {slow:.1f} s (from {min(LOOP, examples)}), ratio {slow / fast:.0f}."
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", type=int, default=128)
    parser.add_argument("--examples", type=int, default=40_000)
    parser.add_argument("--short", action="store_true", help="4,000 examples")
    parser.add_argument("--no-save", action="store_true", help="print only")
    asked = parser.parse_args()
    examples = 4000 if asked.short else asked.examples
    rows, notes = measure(asked.models, examples)
    print(*notes, sep="\n")
    if not asked.no_save:
        command = f"python -m benchmarks.scoring --models {asked.models} --examples {examples}"
        print(machine.save("scoring", {"command": command, "rows": rows, "notes": notes}))


if __name__ == "__main__":
    main()
