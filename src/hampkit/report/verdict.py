"""What the table means in plain words: what was found, when not to believe it, what cannot be seen in this way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hampkit.report import view
from hampkit.report.view import Json, percent

ENOUGH = 10  # wrong ones that must be allowed for a rate to count as resolved, as in hampkit.checks
CAVEATS = {  # flags that change what a finding means; {} stands for the models that carry them
    "null": "Do not trust the numbers of {}: the attack on shuffled membership finds something, so the evaluation leaks (null)",
    "untrained": "{} learnt next to nothing (untrained): how little it gives away says nothing of a model that fits its data",
    "shifted": "Members and non-members of {} differ without any model (shifted): attacks may measure that instead",
    "inverted": "Attacks on {} flagged inverted point the wrong way: turned around they find what their AUC hides",
    "duplicated": "Members of {} have copies in other parts of the split (duplicated): accuracies on these are too high",
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


def side(auc: Json) -> int:
    """1 where an interval of an AUC lies above 0.5, −1 below, 0 where it holds 0.5.

    >>> side({"value": 0.6, "low": 0.51, "high": 0.68}), side({"value": 0.6, "low": 0.48, "high": 0.7})
    (1, 0)
    """
    return int(auc["low"] > 0.5) - int(auc["high"] < 0.5)


def _corrected(found: Json, plain: Json) -> Json:
    """The interval for the best of the attacks (Bonferroni), or the plain one where there is no other."""
    return found.get("auc_corrected") or found.get("corrected") or plain


def _distinct(model: Json) -> int:
    """How many attacks there are, those with one order of the examples being one."""
    return len({a.get("same_as") or a["attack"] for a in model["attacks"]})


def _model(title: str, model: Json) -> str:
    attacks = model["attacks"]
    n = model.get("rows", {}).get("test")
    size = f", n = {n:,}" if n else ""
    head = f"{title} (test accuracy {percent(model['accuracy']['test'])}{size}): "
    sides = [(a, _corrected(a, a["auc"])) for a in attacks]
    above, below = ([pair for pair in sides if side(pair[1]) == s] for s in (1, -1))
    k = _distinct(model)
    counted = "0.5 is guessing" + ("; the interval takes the number of attacks into account" if k > 1 else "")
    if above:
        best = max(above, key=lambda pair: pair[1]["low"])
        which = f"; best of {k} attacks: " if k > 1 else " to the one attack: "
        return f"{head}members give themselves away{which}{_auc(*best)} ({counted})"
    if below:
        best = min(below, key=lambda pair: pair[1]["high"])
        which = f"; best of {k} attacks, turned around: " if k > 1 else " to the one attack, turned around: "
        return f"{head}members give themselves away{which}{_auc(*best)} as it stands ({counted})"
    if not attacks:
        return head + "no attack was made"
    highest = max(sides, key=lambda pair: pair[1]["low"])
    which = f"none of these {k} attacks tells" if k > 1 else "this one attack does not tell"
    return f"{head}{which} members from non-members beyond chance (highest: {_auc(*highest)}; {counted})"


def _auc(attack: Json, interval: Json) -> str:
    return f"{view.attack_label(attack)}, AUC {_interval(interval)}"


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
    # the choice on the model that seems to leak less needs no correction: it can only make the difference smaller
    interval = _corrected(difference, difference)
    measured = f"AUC of {one} on {first} minus that of {other} on {second}: {_interval(interval)}"
    if (k := difference.get("tried", 1)) > 1:
        measured += f"; the interval takes the choice among {k} attacks into account"
    if interval["low"] <= 0 <= interval["high"]:
        return [f"Neither is shown to leak less ({measured})"]
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
