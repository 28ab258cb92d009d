"""What the table means in plain words: what was found, when not to believe it, what cannot be seen in this way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist
from typing import Any

from hampkit.report import view
from hampkit.report.view import Json, percent

ERROR = 0.05  # that any of a model's attacks is wrongly said to find something
ENOUGH = 10  # wrong ones that must be allowed for a rate to count as resolved, as in hampkit.checks
CAVEATS = {  # flags that change what a finding means; {} stands for the models that carry them
    "null": "Do not trust the numbers of {}: the attack on shuffled membership finds something, so the evaluation leaks (null)",
    "untrained": "{} learnt next to nothing (untrained): how little it gives away says nothing of a model that fits its data",
    "shifted": "Members and non-members of {} differ without any model (shifted): attacks may measure that instead",
    "inverted": "Attacks on {} flagged inverted point the wrong way: turned around they find what their AUC hides",
    "duplicated": "Members of {} have copies among non-members or test rows (duplicated): test accuracy is too high",
    "overlapping": "Attacks on {} flagged overlapping are judged on examples they were fitted on: the numbers flatter them",
    "randomised": "The answers of {} are random (randomised): who asks many times and averages may find more",
    "masked": "On {} a label-only attack beats those flagged masked: the release hides what training still leaks",
}
Titled = Sequence[tuple[str, Json]]  # a model under the name that no other has


def verdict(results: Any) -> str:
    """One or two lines: what was found; the flags that change its meaning.

    results: a `hampkit.results.Results`.
    """
    document = results.to_json()
    titled = list(zip(view.model_titles(document), document["models"], strict=True))
    found = [_model(title, model) for title, model in titled] + _comparison(titled, document.get("difference"))
    parts = (found, _caveats(titled))
    return "\n".join(". ".join(part) + "." for part in parts if part)


def side(auc: Json, attacks: int) -> int:
    """1 where an AUC is above 0.5 beyond doubt, −1 below, 0 in doubt, for the best of so many attacks (Bonferroni).

    The lower bound L of the 95 % interval leads to the bound at the corrected level as in a score test: there the distance from
    the AUC A is z times a standard deviation that goes with √(L (1 − L)), and at ½ with ½.

    >>> side({"value": 0.6, "low": 0.51, "high": 0.68}, 1), side({"value": 0.6, "low": 0.51, "high": 0.68}, 10)
    (1, 0)
    """
    value, low = auc["value"], auc["low"]
    if value < 0.5:
        return -side({"value": 1 - value, "low": 1 - auc["high"], "high": 1 - low}, attacks)
    if low <= 0.5:
        return 0  # in doubt already for a single attack
    return int((value - 0.5) * 2 * sqrt(low * (1 - low)) >= (value - low) * _widened(attacks))


def apart(difference: Json, attacks: int) -> bool:
    """Whether two models surely differ, where the attack on the one that seems to leak more is the best of so many.

    The other model's choice needs no correction: it can only make that model seem to leak more, so the difference smaller.

    >>> apart({"value": 0.1, "low": 0.02, "high": 0.18}, 1), apart({"value": 0.1, "low": 0.02, "high": 0.18}, 10)
    (True, False)
    """
    half = max(difference["high"] - difference["value"], difference["value"] - difference["low"])
    return abs(difference["value"]) > half * _widened(attacks)


def _widened(attacks: int) -> float:
    """By what factor a 95 % interval grows for the best of so many attacks (Bonferroni)."""
    single, corrected = (NormalDist().inv_cdf(1 - ERROR / 2 / k) for k in (1, attacks))
    return corrected / single


def _model(title: str, model: Json) -> str:
    attacks = model["attacks"]
    n = model.get("rows", {}).get("test")
    size = f", n = {n:,}" if n else ""
    head = f"{title} (test accuracy {percent(model['accuracy']['test'])}{size}): "
    above, below = ([a for a in attacks if side(a["auc"], len(attacks)) == s] for s in (1, -1))
    many = len(attacks) > 1
    if above:
        best = max(above, key=view.low_auc)
        which = f"; best of {len(attacks)} attacks: " if many else " to the one attack: "
        return f"{head}members give themselves away{which}{_auc(best)} (0.5 is guessing)"
    if below:
        best = min(below, key=lambda a: a["auc"]["high"])
        which = f"; best of {len(attacks)} attacks, turned around: " if many else " to the one attack, turned around: "
        return f"{head}members give themselves away{which}{_auc(best)} as it stands (0.5 is guessing)"
    if not attacks:
        return head + "no attack was made"
    highest = max(attacks, key=view.low_auc)
    which, corrected = "this one attack does not tell", ""
    if many:
        which, corrected = f"none of these {len(attacks)} attacks tells", " for the best of so many"
    return (
        f"{head}{which} members from non-members beyond chance{corrected} (highest: {_auc(highest)}; 0.5 is guessing)"
    )


def _auc(attack: Json) -> str:
    return f"{view.attack_label(attack)}, AUC {_interval(attack['auc'])}"


def _interval(i: Json) -> str:
    return f"{i['value']:.3f} [{i['low']:.3f}, {i['high']:.3f}]"


def _comparison(titled: Titled, difference: Json | None) -> list[str]:
    """Two models on the same candidates: whether one is shown to leak less, the choice of the attacks taken into account.

    Never where that would mislead.
    """
    models = [model for _, model in titled]
    if unlike := _unlike(models):
        return [f"The models were not {unlike} alike: their numbers are not to be compared"]
    if difference is None:
        return []
    for flag in ("null", "untrained"):
        if marked := [title for title, model in titled if flag in _flags(model)]:
            return [f"The models are not compared, as {' and '.join(marked)} {_carry(marked)} the flag {flag}"]
    if hidden := [title for title, model in titled if _turned(model)]:
        return [
            f"The models are not compared, as the AUCs of {' and '.join(hidden)} tell most turned around (inverted)"
        ]
    (first, _), (second, _) = titled
    one, other = difference["attacks"]
    attacks = max(len(model["attacks"]) for model in models)
    measured = f"AUC of {one} on {first} minus that of {other} on {second}: {_interval(difference)}"
    if not apart(difference, attacks):
        doubt = (
            ""
            if difference["low"] <= 0 <= difference["high"]
            else f"; for the best of {attacks} attacks it is in doubt"
        )
        return [f"Neither is shown to leak less ({measured}{doubt})"]
    measured += f"; sure also for the best of {attacks} attacks" if attacks > 1 else ""
    less, more = (second, first) if difference["value"] > 0 else (first, second)
    return [f"To these attacks {less} leaks less than {more} ({measured})"]


def _turned(model: Json) -> bool:
    """Whether an attack that points the wrong way tells more than the strongest one, whose AUC the comparison takes."""
    attacks = model["attacks"]
    turned = max((0.5 - a["auc"]["high"] for a in attacks), default=0)
    return turned > max(0, *(a["auc"]["low"] - 0.5 for a in attacks))


def _unlike(models: Sequence[Json]) -> str:
    """In what way the models were not treated alike; nothing where they were."""
    attacked = {_canonical(sorted((a["attack"], _canonical(a.get("options"))) for a in m["attacks"])) for m in models}
    judged = {_canonical(m.get("judge")) for m in models}
    return " or ".join(word for word, ways in (("attacked", attacked), ("judged", judged)) if len(ways) > 1)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _carry(names: Sequence[str]) -> str:
    return "carries" if len(names) == 1 else "carry"


def _flags(model: Json) -> set[str]:
    raised = {flag for attack in model["attacks"] for flag in attack["flags"]}
    return raised | ({"null"} if view.off_null(model) else set())


def _caveats(titled: Titled) -> list[str]:
    said = []
    for flag, text in CAVEATS.items():
        if marked := [title for title, model in titled if flag in _flags(model)]:
            said.append(text.format(" and ".join(marked)))
    repeated = [found for _, model in titled for found in model.get("leave_one_out") or []]
    return said + _unresolved([attack for _, model in titled for attack in model["attacks"]], repeated)


def _unresolved(attacks: Sequence[Json], repeated: Sequence[Json]) -> list[str]:
    """Which rate at the smallest operating point says little, for want of whom, and how many of them it takes."""
    sides = (
        ("TPR", "tpr_at_fpr", "fpr", "nonmembers", "non-members"),
        ("TNR", "tnr_at_fnr", "fnr", "members", "members"),
    )
    said = []
    rates = {point[key] for a in attacks for _, curve, key, *_ in sides for point in a[curve]}
    for name, curve, key, of, who in sides:
        few = {a[of] for a in attacks for p in a[curve] if p[key] == min(rates) and not p["resolved"]}
        if few:
            have = " or ".join(f"{n:,}" for n in sorted(few))
            many = sorted({f["models"] * f["examples"] // 2 for f in repeated})
            more = f" (leave-one-out: about {' or '.join(f'{n:,}' for n in many)})" if many else ""
            said.append(f"{name} takes {round(ENOUGH / min(rates)):,} {who}, here are {have}{more}")
    return [f"At {view.level_label(min(rates))} little can be seen (unresolved): {'; '.join(said)}"] if said else []


def limits(results: Any) -> str:
    """What no number of these attacks rules out; it claims nothing of a kind of attack that is among them."""
    needs = {need for model in results.models for attack in model.attacks for need in attack.needs}
    model = "the model" if "shadows" in needs else "one model"
    bound = "What these attacks find is a lower bound of what leaks"
    if "oracle" not in needs:
        bound = f"These attacks ask {model} one question per record; what they find is a lower bound of what leaks"
    missing = [what for need, what in (("shadows", "shadow models"), ("oracle", "many queries")) if need not in needs]
    if missing:
        bound += f": attacks with {' or '.join(missing)} find more"
    if "shadows" not in needs:
        bound += " (Aerni et al. 2024: HAMP's TPR at 0.1% FPR from 2.1% to 28.5%)"
    if any(model.repeated for model in results.models):
        return (
            f"{bound}. Numbers against the target are of one model, one seed; leave-one-out is of many models of one recipe,"
            " on one pool of examples."
        )
    return f"{bound}. Every number is of one model, one seed."
