"""Recipes over several seeds: every accuracy and every attack as mean and standard deviation, as Markdown.

    python -m benchmarks.seeds location30/undefended location30/hamp --seeds 5 --data-dir DIR [--runs-dir DIR] [KEY=VALUE ...]

A seed decides the split, the initialisation, the batches and the noise, so the deviation is that of the whole experiment. With
too few examples for a rate, the column has the mean number of members (or non-members) that are found, and of how many.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import hampkit
from hampkit.judging.results import AttackResult, ModelResult, Rate

COLUMNS: dict[str, Callable[[Sequence[AttackResult]], str]] = {
    "TPR@0.1%FPR": lambda same: _rate([a.tpr_at_fpr[0] for a in same], same[0].members),
    "TNR@0.1%FNR": lambda same: _rate([a.tnr_at_fnr[0] for a in same], same[0].nonmembers),
    "TPR@1%FPR": lambda same: _rate([a.tpr_at_fpr[1] for a in same], same[0].members),
    "AUC": lambda same: _spread([a.auc.value for a in same], 3),
    "balanced accuracy": lambda same: _spread(
        [100 * a.balanced_accuracy.value if a.balanced_accuracy else float("nan") for a in same], 2
    ),
}


def table(models: Sequence[ModelResult]) -> str:
    """One recipe: a row per attack, mean ± standard deviation over the seeds (sample deviation, n − 1)."""
    first = models[0]
    accuracy = ", ".join(f"{k} {_spread([100 * m.accuracy[k] for m in models], 1)} %" for k in first.accuracy)
    lines = [
        f"**{first.recipe}**, {len(models)} seeds, accuracy: {accuracy}",
        "",
        f"| attack | n | {' | '.join(COLUMNS)} | flagged |",
    ]
    lines.append("|" + "---|" * (len(COLUMNS) + 3))
    for k, attack in enumerate(first.attacks):
        same = [m.attacks[k] for m in models]
        cells = [cell(same) for cell in COLUMNS.values()]
        flags = sorted({f for a in same for f in a.flags})
        counted = " ".join(f"{f} {sum(f in a.flags for a in same)}/{len(same)}" for f in flags)
        lines.append(f"| {attack.attack} | {attack.members}+{attack.nonmembers} | {' | '.join(cells)} | {counted} |")
    nulls = [m.null.value for m in models]
    return "\n".join([*lines, "", f"Null (membership shuffled): AUC {_spread(nulls, 3)}."])


def _rate(rates: Sequence[Rate], n: int) -> str:
    """The rates in percent, or the counts of n where any of them is not shown."""
    if any(rate.reason for rate in rates):
        return f"{_spread([rate.hits for rate in rates], 1)} of {n}"
    return _spread([100 * rate.value for rate in rates], 2)


def _spread(values: Sequence[float], digits: int) -> str:
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("words", nargs="+", help="recipes, and KEY=VALUE")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data-dir")
    parser.add_argument("--runs-dir", default="runs")
    asked = parser.parse_args()
    recipes = [w for w in asked.words if "=" not in w]
    options = dict(w.split("=", 1) for w in asked.words if "=" in w)
    runs = [
        hampkit.run(
            *recipes,
            options=options,
            seed=s,
            data_dir=asked.data_dir,
            runs_dir=asked.runs_dir,
            out=Path(asked.runs_dir) / f"seed{s}",
        )
        for s in range(asked.seeds)
    ]
    print("\n\n".join(table([run.models[k] for run in runs]) for k in range(len(recipes))))


if __name__ == "__main__":
    main()
