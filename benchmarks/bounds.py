"""Null rates and power of the bounds on epsilon and mu: ``python -m benchmarks.bounds``. The tables stand in docs/bounds.md.

Each audit draws m canaries, included by fair coins, with normal scores whose mean is mu higher for the included ones. That is
mu-Gaussian differential privacy exactly, so the true epsilon is `epsilon_of_mu(mu, delta)`.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from hampkit.stats.bounds import audit_scores, clopper_pearson_epsilon, clopper_pearson_mu, epsilon_of_mu
from hampkit.stats.intervals import clopper_pearson

DELTA = 1e-5


def audits(mu: float, canaries: int, repeats: int, seed: int = 0) -> list[Any]:
    """The bounds of this many simulated audits."""
    found = []
    for k in range(repeats):
        rng = np.random.default_rng([seed, canaries, k])
        included = rng.random(canaries) < 0.5
        found.append(audit_scores(rng.normal(size=canaries) + mu * included, included, DELTA, seed=k))
    return found


def null(canaries: int, repeats: int) -> str:
    """A row: the share of audits without a leak that have a bound above 0."""
    found = audits(0.0, canaries, repeats)
    cells = []
    for count in (sum(f.epsilon > 0 for f in found), sum(f.mu > 0 for f in found)):
        low, high = clopper_pearson(count, repeats)
        cells.append(f"{100 * count / repeats:.2f} [{100 * low:.2f}, {100 * high:.2f}]")
    return f"| {canaries:,} | {repeats:,} | {' | '.join(cells)} |"


def power(mu: float, canaries: int, repeats: int) -> str:
    """A row: the mean bounds of audits with a leak, and the share that lies above the truth."""
    found, truth = audits(mu, canaries, repeats, seed=1), epsilon_of_mu(mu, DELTA)
    over = sum(f.epsilon > truth or f.mu > mu for f in found)
    cells = [f"{np.mean([f.epsilon for f in found]):.2f}", f"{np.mean([f.mu for f in found]):.2f}"]
    cells.append(f"{np.mean([f.epsilon_of_mu for f in found]):.2f}")
    return f"| {mu:g} | {truth:.2f} | {canaries:,} | {repeats:,} | {' | '.join(cells)} | {over} |"


def many_trainings(mu: float, trainings: int, repeats: int) -> str:
    """A row: Clopper and Pearson on trainings of their own, with a threshold that was chosen beforehand."""
    rng, epsilons, mus = np.random.default_rng(2), [], []
    for _ in range(repeats):
        tp = int((rng.normal(size=trainings) + mu > mu / 2 + 1).sum())
        fp = int((rng.normal(size=trainings) > mu / 2 + 1).sum())
        epsilons.append(clopper_pearson_epsilon(tp, trainings, fp, trainings, DELTA))
        mus.append(clopper_pearson_mu(tp, trainings, fp, trainings))
    above = sum(value > mu for value in mus)
    return f"| {mu:g} | {trainings:,} | {repeats:,} | {np.mean(epsilons):.2f} | {np.mean(mus):.2f} | {above} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=2000)
    repeats = parser.parse_args().repeats
    print("| canaries | audits | Steinke et al. above 0, % | Mahloujifar et al. above 0, % |\n|--:|--:|---|---|")
    for canaries in (100, 1000, 10_000):
        print(null(canaries, repeats), flush=True)
    print(
        "\n| mu | true epsilon | canaries | audits | mean epsilon, Steinke | mean mu | its epsilon | above the truth |"
    )
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    for mu, canaries in ((0.5, 1000), (1.0, 1000), (2.0, 1000), (2.0, 10_000), (4.0, 1000)):
        print(power(mu, canaries, repeats // 10), flush=True)
    print(
        "\n| mu | trainings of each kind | audits | mean epsilon | mean mu | mu above the truth |\n|--:|--:|--:|--:|--:|--:|"
    )
    for mu in (0.0, 1.0, 2.0):
        print(many_trainings(mu, 500, repeats), flush=True)


if __name__ == "__main__":
    main()
