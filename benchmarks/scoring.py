"""LiRA and RMIA over M = 128 shadow models and N = 40,000 examples: seconds against one target, and leave-one-out.

    python -m benchmarks.scoring [--models M] [--examples N] [--scheme paired|published] [--short] [--no-save]

LiRA's statistics are also taken with SciPy, one example at a time, on a part of the examples: equal to 1e-9, and the time
extrapolated. Leave-one-out of all targets at once is timed whole. One by one, every target starting anew, it is timed on a few
and multiplied, and the scores of these are compared. The judging (pooled ROC, clustered intervals) is timed whole. The signals
are those of shadow models in numbers and sizes only: normal, members higher.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from scipy.stats import norm

from benchmarks import machine
from hampkit.attacks import Shadows, ShadowScores, SignalAttack
from hampkit.attacks.lira import LiraOnline, LiraOptions, lira_scores
from hampkit.attacks.rmia import Rmia
from hampkit.data.splits import shadow_members
from hampkit.judging.evaluate import evaluate, unusual
from hampkit.judging.leave_one_out import repeated_scores, scores_of
from hampkit.judging.results.attacks import attack_label
from hampkit.registry import ATTACKS

Scheme = Literal["paired", "published"]

POPULATION = 10_000
TARGETS = 3  # of leave-one-out that are timed one by one
LOOP = 400  # examples of the loop


def problem(models: int, examples: int, scheme: Scheme = "paired") -> tuple[Shadows, np.ndarray, np.ndarray]:
    """Signals of shadow models, and a target's of the candidates (N, 1) and of the population (Z,)."""
    rng = np.random.default_rng(0)
    members = shadow_members(models, examples, 0, scheme).numpy()
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


def repeated(attack: SignalAttack, shadows: Shadows) -> tuple[np.ndarray, float, float]:
    """Leave-one-out scores, and seconds of all targets: one by one (extrapolated) and at once. Errors: where they differ."""
    clock = time.perf_counter()
    slow = np.stack([scores_of(t, attack, shadows) for t in range(TARGETS)])
    anew = (time.perf_counter() - clock) / TARGETS * len(shadows)
    fresh = replace(shadows)  # which keeps nothing of what the others took
    clock = time.perf_counter()
    scores = repeated_scores(attack, fresh)
    at_once = time.perf_counter() - clock
    assert np.allclose(scores[:TARGETS], slow, rtol=1e-9, atol=1e-9), attack
    return scores, anew, at_once


def measure(models: int, examples: int, scheme: Scheme) -> tuple[list[dict[str, str]], list[str]]:
    shadows, target, background = problem(models, examples, scheme)
    attacks = [cls() for cls in ATTACKS.classes().values() if issubclass(cls, SignalAttack)]
    attacks += [LiraOnline(variance="moderated"), Rmia(score="share")]
    rows = []
    for attack in attacks:
        single = seconds(lambda a=attack: a.score_signals(target, background, shadows), 2)
        scores, anew, at_once = repeated(attack, shadows)
        judging = seconds(lambda a=attack, s=scores: evaluate(s, shadows.membership()), 1)
        rows.append(
            {
                "attack": attack_label({"attack": attack.name, "options": unusual(attack)}),
                "one target, s": f"{single:.2f}",
                f"leave-one-out, {models} targets one by one, s": f"{anew:.1f}",
                "all at once, s": f"{at_once:.1f}",
                "in the time of so many targets": f"{at_once / anew * models:.1f}",
                "judging them, s": f"{judging:.1f}",
            }
        )
        print(*rows[-1].values(), sep="  ", flush=True)
    s, m = shadows.signals().astype(np.float64), shadows.membership()
    part = slice(0, min(LOOP, examples))
    slow = seconds(lambda: loop(s[:, part], m[:, part], target[part, 0]), 1) * examples / min(LOOP, examples)
    options = LiraOptions("online", "per-example", "median")
    fast = seconds(lambda: lira_scores(ShadowScores(s, m), target[:, 0], options))
    found = lira_scores(ShadowScores(s, m), target[:, 0], options)
    error = found[part] - loop(s[:, part], m[:, part], target[part, 0])
    assert np.abs(error).max() < 1e-9, np.abs(error).max()
    return rows, [
        f"M = {models}, N = {examples:,}, population {POPULATION:,}, {scheme} masks; online LiRA's statistics alone:"
        f" {fast:.2f} s, example by example with SciPy {slow:.1f} s (from {min(LOOP, examples)}), ratio {slow / fast:.0f}."
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", type=int, default=128)
    parser.add_argument("--examples", type=int, default=40_000)
    parser.add_argument("--scheme", default="paired", choices=["paired", "published"])
    parser.add_argument("--short", action="store_true", help="4,000 examples")
    parser.add_argument("--no-save", action="store_true", help="print only")
    asked = parser.parse_args()
    examples = 4000 if asked.short else asked.examples
    rows, notes = measure(asked.models, examples, asked.scheme)
    print(*notes, sep="\n")
    if not asked.no_save:
        command = f"python -m benchmarks.scoring --models {asked.models} --examples {examples} --scheme {asked.scheme}"
        print(machine.save("scoring", {"command": command, "rows": rows, "notes": notes}))


if __name__ == "__main__":
    main()
