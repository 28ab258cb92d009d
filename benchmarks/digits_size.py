"""How much the undefended digits model gives away, by the number of its training examples.

    python -m benchmarks.digits_size [T ...]

Prints loss-attack AUC over all members and non-members, and accuracies, as mean and standard deviation over ten seeds.
`train_size` of the digits recipes was chosen by it, once, for an AUC of about 0.65; no defense was looked at.
"""

from __future__ import annotations

import sys

import numpy as np

from hampkit import signals
from hampkit.config.recipe import load_recipe
from hampkit.stats import metrics
from hampkit.workflows.prepare import prepare
from hampkit.workflows.session import Session

SEEDS = range(10)


def measure(train_size: int, seed: int) -> tuple[float, float, float]:
    problem = prepare(load_recipe("digits/undefended", {"seed": str(seed), "train_size": str(train_size)}), Session())
    stack = problem.defense.fit(problem.task, problem.trainer).stack
    pool, member = problem.task.pool, problem.task.members[0]
    logits = problem.trainer.predict(stack, pool.x)[0]
    leak = metrics.auc(-signals.loss(logits, pool.y).numpy(), member.numpy())
    right = problem.trainer.predict(stack, problem.test.x)[0].argmax(-1) == problem.test.y
    return leak, float((logits.argmax(-1) == pool.y)[member].double().mean()), float(right.double().mean())


def main() -> None:
    print("| T | loss-attack AUC | train accuracy | test accuracy |\n|---|---|---|---|")
    for train_size in [int(word) for word in sys.argv[1:]] or [160, 200, 240]:
        runs = np.array([measure(train_size, seed) for seed in SEEDS])
        cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(runs.mean(0), runs.std(0, ddof=1), strict=True)]
        print(f"| {train_size} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
