"""How many exposed records are shown to be exposed, and how many claims are false, by the number of shadow models.

    python -m benchmarks.exposed

Simulated signals: 1,000 records with deviations 1/√(χ²₈/8); a tenth of the records has the exposure mu, the others have 0. Means
over ``--audits`` audits, with their standard errors. A claim is that of `hampkit.stats.exposure`: at most 5 % are false in
expectation.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from hampkit.stats.exposure import exposure

RECORDS, SHARE = 1_000, 0.1
MODELS = (4, 8, 16, 32, 64, 128)
MU = (1.0, 2.0, 4.0, 8.0)


def shown(mu: float, models: int, seed: int) -> tuple[float, float, bool]:
    """The share of the exposed records that one audit shows, the share of false claims, and whether it claims anything."""
    rng = np.random.default_rng([seed, models, int(10 * mu)])
    exposed = np.arange(RECORDS) < SHARE * RECORDS
    half = rng.random((models // 2, RECORDS)) < 0.5
    members = np.concatenate([half, ~half])
    deviations = 1 / np.sqrt(rng.chisquare(8, RECORDS) / 8)
    found = exposure((rng.normal(size=members.shape) + mu * exposed * members) * deviations, members).exposed
    return float(found[exposed].mean()), float((found & ~exposed).sum() / max(found.sum(), 1)), bool(found.any())


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each number of models and each mu."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=50)
    audits = parser.parse_args(arguments).audits
    print(f"{'models':>6} {'mu':>4} {'shown, %':>14} {'false, %':>14}")
    for models in MODELS:
        for mu in MU:
            values = 100 * np.array([shown(mu, models, seed)[:2] for seed in range(audits)])
            mean, error = values.mean(0), values.std(0, ddof=1) / np.sqrt(audits)
            print(f"{models:6} {mu:4g} {mean[0]:7.1f} ± {error[0]:4.1f} {mean[1]:7.1f} ± {error[1]:4.1f}")


if __name__ == "__main__":
    main()
