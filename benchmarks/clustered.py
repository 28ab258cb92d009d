"""How often clustered intervals of TPR at FPR cover that of many models, over simulated leave-one-outs of M models, N examples.

python -m benchmarks.clustered [--audits 200]

Scores are N(member, 1), in paired halves, and more of them by design: ``none`` nothing; ``examples`` N(0, 1) for each example;
``models`` N(0, 1) for each model; ``gain`` N(0, 1) for the members of each model; ``scale`` everything times exp N(0, ½) for each
model.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
from scipy.stats import norm

from hampkit.data.splits import shadow_members
from hampkit.stats import clustered, metrics

SIZES = ((16, 300), (16, 2000), (64, 1000), (128, 1000))  # models, examples
DESIGNS = ("none", "examples", "models", "gain", "scale")


def draw(
    rng: np.random.Generator, models: int, examples: int, design: str, above: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    member = shadow_members(models, examples, int(rng.integers(2**31)), "paired").numpy()
    s = rng.standard_normal((models, examples)) + above * member
    each = rng.standard_normal((models, 1))
    if design == "examples":
        s += rng.standard_normal(examples)
    if design == "models":
        s += each
    if design == "gain":
        s += each * member
    if design == "scale":
        s *= np.exp(each / 2)
    return s, member


def true_tpr(design: str, fpr: float) -> float:
    """The pooled TPR of all models and examples there might be: exact, or of 20,000 models."""
    if design in ("gain", "scale"):
        s, member = draw(np.random.default_rng(1), 20_000, 100, design)
        return metrics.tpr_at_fpr(s.ravel(), member.ravel(), fpr)
    return float(norm.sf(norm.isf(fpr) - (1 if design == "none" else math.sqrt(0.5))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=200)
    audits = parser.parse_args().audits
    print("| design | FPR | true TPR | models | examples | covers | truth above | truth below | median width |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for design in DESIGNS:
        for fpr in (0.001, 0.01):
            truth = true_tpr(design, fpr)
            for models, examples in SIZES:
                print(_row(design, fpr, truth, models, examples, audits), flush=True)


def _row(design: str, fpr: float, truth: float, models: int, examples: int, audits: int) -> str:
    rng, above, below, widths = np.random.default_rng(2), 0, 0, []
    for _ in range(audits):
        point = clustered.tpr_point(*draw(rng, models, examples, design), fpr)
        above, below = above + (truth > point.high), below + (truth < point.low)
        widths.append(point.high - point.low)
    shares = (f"{k / audits:.1%}" for k in (audits - above - below, above, below))
    cells = (design, f"{fpr:.1%}", f"{truth:.2%}", models, f"{examples:,}", *shares, f"{np.median(widths):.2%}")
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
