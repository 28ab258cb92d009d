"""Coverage of the intervals of a recipe with a few seeds, and verdicts, over simulated audits; part of `benchmarks.intervals`.

Each of S models is judged on its own half of N examples, of which half are members. Scores are N(0, 1), and those of members are
higher by 1. Designs: ``none`` nothing more; ``examples`` N(0, 1) for each example; ``models`` N(0, 1) for each model; ``gain``
N(0, 1/3) for the members of each model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
from scipy.stats import norm

from hampkit.judging.evaluate import measured
from hampkit.judging.seeds import at_levels
from hampkit.stats import metrics
from hampkit.stats.intervals import bonferroni_level
from hampkit.stats.pairs import Pairs
from hampkit.stats.strength import deciding, side

DESIGNS = ("none", "examples", "models", "gain")
SIZES = ((2, 600), (3, 600), (5, 600), (10, 600), (5, 5000))  # seeds, examples
FPR = 0.1
ATTACKS = 8


def table(audits: int) -> None:
    print("| design | true AUC | true TPR | " + " | ".join(f"{s} seeds, {n:,} examples" for s, n in SIZES) + " |")
    print("|---|--:|--:|" + "--:|" * len(SIZES))
    for design in DESIGNS:
        auc, tpr = truth(design)
        cells = [_cell(design, auc, tpr, seeds, examples, audits) for seeds, examples in SIZES]
        print("| " + " | ".join([design, f"{auc:.4f}", f"{tpr:.1%}", *cells]) + " |", flush=True)


def verdicts(audits: int) -> None:
    """How often members are found over S seeds with k = 8 attacks, seven of them useless: false findings in the first row."""
    print("| AUC | " + " | ".join(f"{s} seeds" for s in (2, 3, 5)) + " | one seed alone |")
    print("|--:|--:|--:|--:|--:|")
    for above in (0.0, 0.35, 0.6, 1.0):
        cells = [f"{_found(above, seeds, audits):.1%}" for seeds in (2, 3, 5)]
        print(
            "| " + " | ".join([f"{norm.cdf(above / 2**0.5):.3f}", *cells, f"{_found_alone(above, audits):.1%}"]) + " |",
            flush=True,
        )


def _audits(above: float, seeds: int, audits: int) -> Iterator[list[Pairs]]:
    """Eight attacks on S models, each judged on 200 members and 200 non-members of its own; only the first finds members."""
    rng = np.random.default_rng(4)
    member = np.broadcast_to(np.arange(400) < 200, (seeds, 400))
    rows = np.arange(seeds * 400).reshape(seeds, 400)
    for _ in range(audits):
        scores = rng.standard_normal((ATTACKS, seeds, 400))
        scores[0] += above * member
        yield [Pairs.of(s, member, rows=rows) for s in scores]


def _found(above: float, seeds: int, audits: int) -> float:
    found = 0
    for attacks in _audits(above, seeds, audits):
        levels = (at_levels(pairs, ATTACKS) for pairs in attacks)
        aucs = [deciding(asdict(a["auc_corrected"]), [asdict(auc) for auc in a["auc_by_seed"]]) for a in levels]
        found += any(side(auc["low"], auc["high"]) for auc in aucs)
    return found / audits


def _found_alone(above: float, audits: int) -> float:
    """The same for a verdict on one seed."""
    level, found = bonferroni_level(0.05, ATTACKS), 0
    for attacks in _audits(above, 1, audits):
        aucs = [pairs.auc(level) for pairs in attacks]
        found += any(side(auc.low, auc.high) for auc in aucs)
    return found / audits


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
    """The mean AUC and the mean TPR of 4,000 models."""
    pairs = draw(np.random.default_rng(1), 4000, 4000, design)
    alone = [pairs.alone(t) for t in range(len(pairs))]
    aucs = [metrics.auc(p.scores[0], p.membership[0]) for p in alone]
    rates = [metrics.tpr_at_fpr(p.scores[0], p.membership[0], FPR) for p in alone]
    return float(np.mean(aucs)), float(np.mean(rates))


def _cell(design: str, auc: float, tpr: float, seeds: int, examples: int, audits: int) -> str:
    """Coverage and median width of the AUC's interval, then of the TPR's."""
    rng, covered, widths = np.random.default_rng(2), np.zeros(2), []
    for _ in range(audits):
        found = measured(draw(rng, seeds, examples, design), pooled=False, overlap=0.5)
        rate = found.tpr[2]
        ends = ((found.auc.low, found.auc.high, auc), (rate.outer_low, rate.outer_high, tpr))
        covered += [low <= true <= high for low, high, true in ends]
        widths.append([high - low for low, high, _ in ends])
    (a, b), (wide_a, wide_b) = covered / audits, np.median(widths, axis=0)
    return f"{a:.1%} ({wide_a:.2g}); {b:.1%} ({wide_b:.2g})"
