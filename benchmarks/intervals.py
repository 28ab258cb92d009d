"""How often intervals cover the truth, over simulated audits: TPR at FPR, the AUC, the difference of two AUCs, leave-one-out.

python -m benchmarks.intervals [tpr auc repair difference clustered seeds verdicts groups units] [--audits N] [--method NAME]

``tpr``         the two intervals of TPR at FPR: scores N(mu, 1) against N(0, 1)
``auc``         coverage (median width) of the interval of the AUC, over the designs of `benchmarks.auc_designs`
``repair``      (N paths) what its lower bound does while inverted pairs are repaired one at a time, up to AUC 1
``difference``  coverage of the interval of the difference of two AUCs on the same examples
``clustered``   coverage of the intervals of leave-one-out's AUC, pooled and within models
``seeds``       coverage of the intervals over a few seeds: means of AUC and TPR at FPR
``verdicts``    how often a verdict over a few seeds finds members, and finds some where there is no leak
``groups``      coverage of the intervals of AUC, TPR at FPR and accuracy where rows come in groups
``units``       coverage of the intervals of leave-one-out's AUC and TPR at FPR where examples come in units, such as persons
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import norm

from benchmarks import auc_groups, auc_paired, auc_single, few_seeds, rates_units
from hampkit.stats import metrics

SETTINGS = (  # members, non-members, false-positive rate
    (10_000, 10_000, 0.001), (1_000, 10_000, 0.001), (162, 648, 0.001), (162, 648, 0.01),
    (162, 648, 0.1), (675, 675, 0.01), (50, 50, 0.1), (1_000, 200, 0.01),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=[*TABLES, []], help="default: all")
    parser.add_argument("--audits", type=int, help="per design; default: what docs/intervals.md was computed with")
    parser.add_argument(
        "--method", choices=auc_single.METHODS, default="jeffreys", help="for auc and repair: the tool's, or another"
    )
    given = parser.parse_args()
    for name in given.what or TABLES:
        table, audits = TABLES[name]
        if name in ("auc", "repair"):
            table(given.audits or audits, given.method)
        else:
            table(given.audits or audits)
        print(flush=True)


def tpr(audits: int) -> None:
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


TABLES = {  # name: table, audits per design
    "tpr": (tpr, 400),
    "auc": (auc_single.coverage, 5000),
    "repair": (auc_single.repair, 3),
    "difference": (auc_paired.difference, 1000),
    "clustered": (auc_paired.leave_one_out, 400),
    "seeds": (few_seeds.table, 400),
    "verdicts": (few_seeds.verdicts, 400),
    "groups": (auc_groups.table, 1000),
    "units": (rates_units.table, 250),
}


if __name__ == "__main__":
    main()
