"""How often the two intervals of TPR at FPR cover the true one, over simulated audits: scores N(mu, 1) against N(0, 1).

python -m benchmarks.intervals [--audits 400]
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import norm

from hampkit import metrics

SETTINGS = (  # members, non-members, false-positive rate
    (10_000, 10_000, 0.001), (1_000, 10_000, 0.001), (162, 648, 0.001), (162, 648, 0.01),
    (162, 648, 0.1), (675, 675, 0.01), (50, 50, 0.1), (1_000, 200, 0.01),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audits", type=int, default=400)
    audits = parser.parse_args().audits
    rng = np.random.default_rng(0)
    print("| members | non-members | FPR | true TPR | outer interval covers | exact one, threshold as given |")
    print("|--:|--:|--:|--:|--:|--:|")
    for members, others, fpr in SETTINGS:
        for mu in (0, 1, 3):
            truth = 1 - norm.cdf(norm.ppf(1 - fpr) - mu)
            member = np.arange(members + others) < members
            outer = exact = 0
            for _ in range(audits):
                scores = np.r_[rng.normal(mu, 1, members), rng.normal(0, 1, others)]
                low, high = metrics.tpr_bounds(scores, member, fpr)
                point = metrics.tpr_point(scores, member, fpr)
                outer, exact = outer + (low <= truth <= high), exact + (point.low <= truth <= point.high)
            row = (
                f"{members:,}",
                f"{others:,}",
                f"{fpr:.1%}",
                f"{truth:.2%}",
                f"{outer / audits:.1%}",
                f"{exact / audits:.1%}",
            )
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
