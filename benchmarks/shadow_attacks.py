"""Leave-one-out of the shadow models of some runs, by LiRA and RMIA with their options: what each option finds.

    hampkit shadow digits/undefended --models 16
    python -m benchmarks.shadow_attacks runs/digits-undefended-… [--models M] [--data-dir DIR] [--attacks NAME …]

Every finished set of M shadow models (16) of the runs is taken, in the order of `shadows.scheme` and `shadows.seed` where a run
holds several. `difference` is the mean AUC within targets minus that of the
first row of the attack, ± 1.96 standard errors over the targets, which share their examples. Prints Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from hampkit.attacks import SignalAttack
from hampkit.attacks.lira import LiraOffline, LiraOnline
from hampkit.attacks.rmia import Rmia, RmiaOffline
from hampkit.config.recipe import ShadowConfig
from hampkit.judging.evaluate import evaluate, unusual
from hampkit.judging.leave_one_out import repeated_scores
from hampkit.judging.results import Rate
from hampkit.judging.results.attacks import attack_label
from hampkit.runs.store import Run
from hampkit.shadow_models.base import ShadowSet
from hampkit.shadow_models.reuse import Lender, finished
from hampkit.stats import metrics
from hampkit.stats.metrics import Interval
from hampkit.workflows.open_run import open_run
from hampkit.workflows.session import Session
from hampkit.workflows.shadow import for_each_other

SPREADS = [
    ("pooled", "median"),
    ("pooled", "mean"),
    ("moderated", "mean"),
    ("moderated", "median"),
    ("per-example", "mean"),
    ("per-example", "median"),
]
WAYS: dict[str, Sequence[SignalAttack]] = {
    "rmia": [Rmia(score="share"), Rmia(score="share", gamma=1.0), Rmia()],
    "rmia-offline": [RmiaOffline(score="share"), RmiaOffline(score="share", gamma=1.0), RmiaOffline()],
    "lira-online": [LiraOnline(v, c) for v, c in SPREADS],  # pyright: ignore[reportArgumentType]
    "lira-offline": [LiraOffline(v, c) for v, c in SPREADS],  # pyright: ignore[reportArgumentType]
}
COLUMNS = ("attack", "AUC over all pairs", "AUC within", "difference", "TPR@0.1%FPR", "TNR@0.1%FNR")


def rows(shadowed: ShadowSet, attacks: Sequence[SignalAttack], keep: bool) -> list[list[str]]:
    """A row per attack. keep: with the shadow models that learnt nothing."""
    targets, shadows = shadowed.targets(), for_each_other(replace(shadowed, untrained=()) if keep else shadowed)
    members = shadows.membership()[targets]
    found, first = [], None
    for attack in attacks:
        scores = repeated_scores(attack, shadows, targets)
        within = np.array([metrics.auc(s, m) for s, m in zip(scores, members, strict=True)])
        first = within if first is None else first
        gain, result = within - first, evaluate(scores, members)
        assert result.auc_within is not None
        difference = f"{gain.mean():+.3f} ± {1.96 * gain.std(ddof=1) / np.sqrt(len(gain)):.3f}" if gain.any() else ""
        label = attack_label({"attack": attack.name, "options": unusual(attack)})
        sides = (int(members.sum()), int((~members).sum()))
        rates = [_rate(r, n) for r, n in zip((result.tpr[0], result.tnr[0]), sides, strict=True)]
        found.append([label, _shown(result.auc), _shown(result.auc_within), difference, *rates])
    return found


def _rate(rate: Rate, n: int) -> str:
    return f"{rate.hits:,} of {n:,}" if rate.reason else _shown(rate, 100, 2)


def _shown(i: Interval, factor: int = 1, digits: int = 3) -> str:
    value, low, high = (f"{factor * x:.{digits}f}" for x in (i.value, i.low, i.high))
    return f"{value} [{low}, {high}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--models", type=int, default=16)
    parser.add_argument("--attacks", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--keep-untrained", action="store_true", help="with the shadow models that learnt nothing")
    asked = parser.parse_args()
    for folder in asked.runs:
        for shadowing, shadowed in sets(folder, asked.models, asked.data_dir):
            word = "with" if asked.keep_untrained else "without"
            left = f", {word} {len(shadowed.untrained)} untrained" if shadowed.untrained else ""
            place, n = f"{shadowing.scheme}-{shadowing.seed}", shadowed.members.shape[1]
            print(f"\n{folder.name}, {shadowing.models} shadow models ({place}){left}, {n:,} examples\n")
            print("| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS), sep="\n")
            for name in asked.attacks:
                for row in rows(shadowed, WAYS[name], asked.keep_untrained):
                    print("| " + " | ".join(row) + " |", flush=True)


def sets(folder: Path, models: int, data_dir: Path | None) -> Iterator[tuple[ShadowConfig, ShadowSet]]:
    """Every finished set of so many shadow models of a run, by scheme and by the seed of its masks (`shadows.seed`)."""
    found = [s for s in finished(Run.at(folder)) if s.models == models]
    for shadowing in sorted(found, key=lambda s: (s.scheme, s.seed, s.views, s.keep_models)):
        # with shadow models the pool is another one: half of it is a training set as large as the target's
        problem = open_run(folder, Session(folder.parent, data_dir), {"shadows": asdict(shadowing)})
        yield shadowing, Lender(Run.at(folder), shadowing, False).load_for(problem.shadow_task())


if __name__ == "__main__":
    main()
