"""In plain words: what the table means, and what it cannot mean."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

from hampkit.report.view import percent

FAMILY = 0.05  # chance that any of a model's attacks is called a leak where there is none
CAVEATS = {  # flags that change what a model's numbers mean, wherever they occur
    "untrained": "the model {0} learnt next to nothing: its numbers say little about a model that fits its data",
    "shifted": "members and non-members of {0} differ without any model: its attacks may measure that",
    "null": "on shuffled membership {0} shows a difference too: do not trust its numbers",
    "overlapping": "attacks on {0} are judged on examples they were fitted on, which flatters them",
    "randomised": "the answers of {0} are random: who asks many times and averages may learn more",
    "masked": "where {0} is flagged masked, its release hides confidence that a label-only attack does not need",
    "inverted": "an attack on {0} points the wrong way: turned around, it tells members from non-members",
}
DOUBTFUL = ("untrained", "null", "shifted")  # flags of a model of which nothing is claimed in a comparison


def verdict(results: Any) -> str:
    """What the strongest attack found per model, at what price in accuracy, and what the numbers cannot say.

    results: a `hampkit.results.Results`.
    """
    parts = [_model(m) for m in results.models]
    return ". ".join([*parts, *_comparison(results), *_caveats(results.models)]) + "."


def limits(results: Any) -> str:
    """What no table of these attacks can show: a reader must not take a low number for a clearance."""
    needs = {need for m in results.models for a in m.attacks for need in a.needs}
    asks = "one question per record" if "oracle" not in needs else "the questions named"
    missing = "many queries" if "shadows" in needs else "shadow models or many queries"
    return (
        f"These numbers are a lower bound of what leaks: of one model and one seed, with attacks that ask {asks}. Attacks with"
        f" {missing} find more (HAMP went from 2.1 % to 28.5 % TPR at 0.1 % FPR when attacked properly, Aerni et al. 2024)."
    )


def _model(m: Any) -> str:
    best, k = m.strongest(), len(m.attacks)
    of = f"best of {k} attacks" if k > 1 else "the only attack"
    found = f"{m.recipe} (test accuracy {percent(m.accuracy['test'])}): "
    if any(_surely(a.auc, k, above=True) for a in m.attacks):
        return (
            f"{found}members give themselves away, AUC {_interval(best.auc)} by {best.attack}, {of} (0.5 is guessing)"
        )
    turned = [a for a in m.attacks if _surely(a.auc, k, above=False)]
    if turned:
        return (
            f"{found}{turned[0].attack} turned around tells members, AUC {_interval(turned[0].auc)} (0.5 is guessing)"
        )
    none = f"none of these {k} attacks tells" if k > 1 else "this attack does not tell"
    return f"{found}{none} members from non-members beyond chance ({best.attack}: AUC {_interval(best.auc)})"


def _surely(auc: Any, attacks: int, above: bool) -> bool:
    """Whether an AUC differs from 0.5 even though it is one of several: Bonferroni, on the logit scale of its interval."""
    bound = auc.low if above else auc.high
    if auc.value in (0.0, 1.0):  # exact bounds, which no normal scale describes
        return bound > 0.5 if above else bound < 0.5
    if not 0 < bound < 1:
        return False
    center, edge = _logit(auc.value), _logit(bound)
    z = NormalDist().inv_cdf(1 - FAMILY / attacks / 2) / NormalDist().inv_cdf(0.975)
    bound = center + (edge - center) * z
    return bound > 0 if above else bound < 0


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


def _interval(i: Any) -> str:
    return f"{i.value:.3f} [{i.low:.3f}, {i.high:.3f}]"


def _comparison(results: Any) -> list[str]:
    """Two models on the same candidates: whether one is shown to leak less, by the attacks that are strongest on each."""
    d = results.difference
    if d is None:
        return []
    first, second = results.models
    if any(flag in DOUBTFUL for m in (first, second) for a in m.attacks for flag in a.flags):
        return []
    if _attacked(first) != _attacked(second):
        return ["The two models were not attacked with the same attacks and options, so they are not compared"]
    by = d.attacks[0] if d.attacks[0] == d.attacks[1] else " against ".join(d.attacks)
    how = f"difference in AUC {_interval(d)}, {by}, chosen on these candidates"
    if d.low <= 0 <= d.high:
        return [f"On these candidates neither is shown to leak less ({how})"]
    less, more = (second, first) if d.value > 0 else (first, second)
    return [f"{less.recipe} leaks less than {more.recipe} ({how})"]


def _attacked(m: Any) -> set[tuple[str, str]]:
    return {(a.attack, repr(sorted(a.options.items()))) for a in m.attacks}


def _caveats(models: Any) -> list[str]:
    flagged = {flag: [m.recipe for m in models if any(flag in a.flags for a in m.attacks)] for flag in CAVEATS}
    said = [CAVEATS[flag].format(" and ".join(dict.fromkeys(names))) for flag, names in flagged.items() if names]
    short = [a for m in models for a in m.attacks if "unresolved" in a.flags]
    if short:
        others, members = min(a.nonmembers for a in short), min(a.members for a in short)
        few = [
            f"{n} {who} cannot show {rate}"
            for n, who, rate in ((others, "non-members", "TPR at 0.1 % FPR"), (members, "members", "TNR at 0.1 % FNR"))
            if n < 10_000
        ]
        said.append(", ".join(few) + "; that takes 10,000")
    return [s[0].upper() + s[1:] for s in said]
