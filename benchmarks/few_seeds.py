"""Coverage of the intervals of a recipe with a few seeds, over simulated audits; part of `benchmarks.intervals`.

Each of S models is judged on its own half of N examples, of which half are members. Scores are N(0, 1), and those of members are
higher by 1. Designs: ``none`` nothing more; ``examples`` N(0, 1) for each example; ``models`` N(0, 1) for each model; ``gain``
N(0, 1/3) for the members of each model.
"""

from __future__ import annotations

import numpy as np

from hampkit.judging.evaluate import measured
from hampkit.stats import metrics
from hampkit.stats.pairs import Pairs

DESIGNS = ("none", "examples", "models", "gain")
SIZES = ((2, 600), (3, 600), (5, 600), (10, 600), (5, 5000))  # seeds, examples
FPR = 0.1


def table(audits: int) -> None:
    print("| design | true AUC | true TPR | " + " | ".join(f"{s} seeds, {n:,} examples" for s, n in SIZES) + " |")
    print("|---|--:|--:|" + "--:|" * len(SIZES))
    for design in DESIGNS:
        auc, tpr = truth(design)
        cells = [_cell(design, auc, tpr, seeds, examples, audits) for seeds, examples in SIZES]
        print("| " + " | ".join([design, f"{auc:.4f}", f"{tpr:.1%}", *cells]) + " |", flush=True)


def draw(rng: np.random.Generator, seeds: int, examples: int, design: str) -> Pairs:
    """Scores of S models (S, N), each with its own members and its own judged examples."""
    judged, member = rng.random((seeds, examples)) < 0.5, rng.random((seeds, examples)) < 0.5
    scores = rng.standard_normal((seeds, examples)) + member
    if design == "examples":
        scores += rng.standard_normal(examples)
    if design == "models":
        scores += rng.standard_normal((seeds, 1))
    if design == "gain":
        scores += rng.standard_normal((seeds, 1)) / 3 * member
    return Pairs.of(scores, member, judged)


def truth(design: str) -> tuple[float, float]:
    """The mean AUC within models, and the TPR over all pairs, of 20,000 models."""
    pairs = draw(np.random.default_rng(1), 20_000, 400, design)
    assert pairs.judged is not None
    own = [metrics.auc(s[j], m[j]) for s, m, j in zip(pairs.scores, pairs.membership, pairs.judged, strict=True)]
    return float(np.mean(own)), metrics.tpr_at_fpr(*pairs.flat(), FPR)


def _cell(design: str, auc: float, tpr: float, seeds: int, examples: int, audits: int) -> str:
    """Coverage and median width of the AUC's interval, then of the TPR's."""
    rng, covered, widths = np.random.default_rng(2), np.zeros(2), []
    for _ in range(audits):
        found = measured(draw(rng, seeds, examples, design), pooled=False)
        rate = found.tpr[2]
        ends = ((found.auc.low, found.auc.high, auc), (rate.outer_low, rate.outer_high, tpr))
        covered += [low <= true <= high for low, high, true in ends]
        widths.append([high - low for low, high, _ in ends])
    (a, b), (wide_a, wide_b) = covered / audits, np.median(widths, axis=0)
    return f"{a:.1%} ({wide_a:.2g}); {b:.1%} ({wide_b:.2g})"
