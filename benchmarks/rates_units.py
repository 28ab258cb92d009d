"""Tables of leave-one-out's intervals where examples come in units, such as persons, whose rows are not independent."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from benchmarks.auc_groups import FPRS, cell
from hampkit.data.splits import shadow_members
from hampkit.stats import clustered

MODELS, EXAMPLES = 16, 304
FEW = ((5, 20), (10, 20), (20, 10), (50, 4))  # units, rows of each
GAINS = (0.0, 1.0, 3.0)  # deviation between units of what members' scores gain, 1 on average
UNEXPOSED, EFFECTS = 0.05, (5.0, 100.0)  # share of the units, and by how much the members of the others lie higher


def table(audits: int) -> None:
    """Prints two tables: examples in units of one size, by unit and by row, and examples in few units."""
    _by_unit_and_by_row(audits)
    print()
    few(audits)


def _by_unit_and_by_row(audits: int) -> None:
    """A score is N(0, 0.25) plus 1.5 u, u ~ N(0, 1) of the group: for all models (``level``), or where it is IN (``gain``)."""
    print(
        "| group shares | rows each | members above by | AUC by group | rows alone | TPR@1.0% by group | rows alone |\n"
        "|---|--:|--:|--:|--:|--:|--:|"
    )
    for shares in ("level", "gain"):
        for above in (0.0, 1.0):
            for size in (1, 2, 8):
                cells = _repeated(shares, above, size, audits)
                print(f"| {shares} | {size} | {above} | " + " | ".join(cells) + " |", flush=True)


def _repeated(shares: str, above: float, size: int, audits: int) -> list[str]:
    group, found = np.arange(EXAMPLES) // size, []
    for k in range(audits):
        rng = np.random.default_rng([k, size, round(above), len(shares)])
        m = shadow_members(MODELS, EXAMPLES, k, "paired", group * size).numpy()
        own = 1.5 * rng.standard_normal(group.max() + 1)[group]
        s = 0.5 * rng.standard_normal(m.shape) + above * m + own * (m if shares == "gain" else 1)
        aucs = (clustered.auc_interval(s, m, units) for units in (group, None))
        rates = (clustered.tpr_point(s, m, 0.01, units=units) for units in (group, None))
        found.append([(i.low, i.high) for i in (*aucs, *rates)])
    inside, outside = np.sqrt(2.5), np.sqrt(2.5 if shares == "level" else 0.25)
    auc = float(norm.cdf(above / np.hypot(inside, outside)))
    tpr = float(norm.sf((norm.isf(0.01) * outside - above) / inside))
    return [cell([f[k] for f in found], truth) for k, truth in enumerate((auc, auc, tpr, tpr))]


def few(audits: int) -> None:
    """A score is N(0, 1); members' are higher by 1 + N(0, sd²) of the unit, or in all units but an unexposed share of these."""
    print("| models | units | members above by | " + " | ".join(f"TPR@{fpr:.1%}" for fpr in FPRS) + " | AUC |")
    print("|--:|--:|---|" + "--:|" * (len(FPRS) + 1))
    for models in (16, 128):
        for units, size in FEW:
            for sd in GAINS:
                said = f"1 + N(0, {sd:g}²)" if sd else "1"
                print(
                    f"| {models} | {units} | {said} | {_few(models, units, size, 1.0, sd, 0.0, audits)} |", flush=True
                )
            for effect in EFFECTS:
                said = f"{effect:g}, but for {UNEXPOSED:.0%}"
                cells = _few(models, units, size, effect, 0.0, UNEXPOSED, audits)
                print(f"| {models} | {units} | {said} | {cells} |", flush=True)


def _few(models: int, units: int, size: int, effect: float, sd: float, unexposed: float, audits: int) -> str:
    of, found = np.repeat(np.arange(units), size), []
    for k in range(audits):
        rng = np.random.default_rng([k, models, units, round(effect), round(sd)])
        member = shadow_members(models, len(of), k, "paired", of * size).numpy()
        gain = np.where(rng.random(units) < unexposed, 0.0, effect + sd * rng.standard_normal(units))
        s = rng.standard_normal(member.shape) + member * gain[of]
        points = clustered.tpr_points(s, member, FPRS, units=of)
        found.append([(i.low, i.high) for i in (*points, clustered.auc_interval(s, member, of))])
    rates = [norm.sf((norm.isf(fpr) - effect) / np.hypot(1, sd)) for fpr in FPRS]
    truths = [(1 - unexposed) * rate + unexposed * fpr for rate, fpr in zip(rates, FPRS, strict=True)]
    truths.append((1 - unexposed) * norm.cdf(effect / np.sqrt(2 + sd**2)) + unexposed / 2)
    return " | ".join(cell([f[k] for f in found], float(truth)) for k, truth in enumerate(truths))
