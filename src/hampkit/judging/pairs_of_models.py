"""Which of several models is shown to leak less than another, in words and as data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hampkit.judging.results.attacks import found_side, of_target, strongest, turned
from hampkit.judging.results.wording import n_seeds, off_null

Json = Mapping[str, Any]
Titled = Sequence[tuple[str, Json]]  # a model under the name that no other has

BASE, MOST = "undefended", 6  # pairs with this defense come first; as many pairs are named
NO_RANKS = "The words of the verdict do not rank the models"
SHOWN = "Shown under these attacks (difference of two AUCs; the intervals allow for all attacks and pairs)"
MEANINGLESS = ("null", "untrained", "constant")  # flags of a model whose numbers mean too little to be compared


def comparison(titled: Titled, document: Json) -> tuple[list[str], list[dict[str, str]]]:
    """Sentences on two or more models, and the pairs of which one model is shown to leak less: its title and the other's.

    document: results.json with the differences of models on the same candidates. Their intervals allow for the choice among the
    attacks, and among the pairs if there are several. Models whose numbers mean little are not compared, and neither is a model
    with its twin without canaries.
    """
    if len(titled) < 2 or _twins([model for _, model in titled]):
        return [], []
    if unlike := _unlike([model for _, model in titled]):
        return [f"The models were not {unlike} alike: their numbers cannot be compared"], []
    found = document.get("differences") or []
    if len(titled) == 2:
        found = [document["difference"]] if document.get("difference") else []
    if not found:
        return [_apart(titled)], []
    return _of_two(titled, found[0]) if len(titled) == 2 else _of_several(titled, found)


def _twins(models: Sequence[Json]) -> bool:
    """Whether these are two models of one recipe, one trained with canaries and one without."""
    recipes, kinds = {model["recipe"] for model in models}, {bool(model.get("canaries")) for model in models}
    return len(models) == 2 and len(recipes) == 1 and len(kinds) == 2


def flags_of(model: Json) -> set[str]:
    """The flags of the attacks on the target, and ``null`` if the attack on shuffled membership finds something."""
    raised = {flag for attack in of_target(model) for flag in attack["flags"]}
    return raised | ({"null"} if off_null(model) else set())


def _apart(titled: Titled) -> str:
    """The sentence on models of which no two were judged on the same candidates."""
    seeds = any(n_seeds(model) > 1 for _, model in titled)
    why = "means over seeds have no paired interval" if seeds else "they were not judged on the same records"
    return f"The models are not compared, as {why}. {NO_RANKS}"


def _of_two(titled: Titled, difference: Json) -> tuple[list[str], list[dict[str, str]]]:
    for flag in MEANINGLESS:
        if marked := [title for title, model in titled if flag in flags_of(model)]:
            carry = "carries" if len(marked) == 1 else "carry"
            return [f"The models are not compared, as {' and '.join(marked)} {carry} the flag {flag}"], []
    if hidden := [title for title, model in titled if _turned(model)]:
        return [
            f"The models are not compared, because the strongest attack on {' and '.join(hidden)} is one turned around (inverted)"
        ], []
    (first, _), (second, _) = titled
    one, other = difference["attacks"]
    measured = f"AUC of {one} on {first} minus that of {other} on {second}: {_interval(_deciding(difference))}"
    pair = _shown(titled, difference)
    if pair is None:
        return [f"Neither is shown to leak less ({measured})"], []
    return [f"Under these attacks {pair['leaks_less']} leaks less than {pair['leaks_more']} ({measured})"], [pair]


def _of_several(titled: Titled, differences: Sequence[Json]) -> tuple[list[str], list[dict[str, str]]]:
    excluded = {title: why for title, model in titled if (why := _excluded(model))}
    compared = [d for d in differences if not any(titled[k][0] in excluded for k in d["models"])]
    found = [(pair, d) for d in compared if (pair := _shown([titled[k] for k in d["models"]], d))]
    base = {title for title, model in titled if model["defense"] == BASE}
    found.sort(key=lambda each: each[0]["leaks_more"] not in base and each[0]["leaks_less"] not in base)
    said = [f"{_pairs(len(compared))} judged on the same records"] if compared else []
    if compared and not found:
        said.append("In no pair is one of the two shown to leak less")
    if found:
        named = [f"{pair['leaks_less']} leaks less than {pair['leaks_more']} ({_size(d)})" for pair, d in found[:MOST]]
        more = f"; and {len(found) - MOST:,} more, see verdict.pairs in results.json" if found[MOST:] else ""
        said.append(f"{SHOWN}: {'; '.join(named)}{more}")
        if len(found) < len(compared):
            said.append("In no other pair is one of the two shown to leak less")
    if excluded:
        said.append("Not compared: " + ", ".join(f"{title} ({why})" for title, why in excluded.items()))
    return [*said, NO_RANKS], [pair for pair, _ in found]


def _pairs(n: int) -> str:
    return f"{n:,} pairs of models were" if n > 1 else "1 pair of models was"


def _excluded(model: Json) -> str:
    """Why a model is compared with no other: a flag, or nothing."""
    raised = flags_of(model)
    return next((flag for flag in MEANINGLESS if flag in raised), "inverted" if _turned(model) else "")


def _shown(titled: Titled, difference: Json) -> dict[str, str] | None:
    """The title of the model of two that is shown to leak less, and of the other; None if neither is."""
    interval = _deciding(difference)
    leaking = 0 if interval["value"] > 0 else 1
    (less, model), (more, _) = titled[1 - leaking], titled[leaking]
    # on the model that leaks less, the highest attack counts: choosing another one could only make the difference larger
    proven = _has_highest(model, difference["attacks"][1 - leaking])
    best = strongest(of_target(titled[leaking][1]))
    # an attack below guessing on the other model makes a difference without a leak on either
    leaks = best is not None and bool(found_side(best))
    if interval["low"] <= 0 <= interval["high"] or not (proven and leaks):
        return None
    return {"leaks_less": less, "leaks_more": more}


def _deciding(difference: Json) -> Json:
    return difference.get("corrected") or difference


def _size(difference: Json) -> str:
    """The difference as a positive number with its interval."""
    auc = _deciding(difference)
    if auc["value"] > 0:
        return _interval(auc)
    return _interval({"value": -auc["value"], "low": -auc["high"], "high": -auc["low"]})


def _interval(i: Json) -> str:
    return f"{i['value']:.3f} [{i['low']:.3f}, {i['high']:.3f}]"


def _has_highest(model: Json, name: str) -> bool:
    """Whether no attack on this model has a higher AUC than the named one."""
    aucs = {attack["attack"]: attack["auc"]["value"] for attack in of_target(model)}
    return aucs[name] >= max(aucs.values())


def _turned(model: Json) -> bool:
    """Whether the strongest attack is one turned around; a difference of AUCs does not turn attacks around."""
    best = strongest(of_target(model))
    return best is not None and turned(best)


def _unlike(models: Sequence[Json]) -> str:
    """How the treatment of the models differs: attacked, judged, both, or an empty text."""
    judged = {_canonical(m.get("judge")) for m in models}
    differs = {"attacked": not _attacked_alike(models), "judged": len(judged) > 1}
    return " or ".join(word for word, found in differs.items() if found)


def _attacked_alike(models: Sequence[Json]) -> bool:
    """Whether every attack on one model was made on all, with the same options.

    An attack that is made for some defenses may be missing on a model of another defense, or where it would find nothing else.
    """
    made = [{a["attack"]: _canonical(a.get("options")) for a in of_target(m)} for m in models]
    everything = {pair for attacks in made for pair in attacks.items()}
    names = {name for name, _ in everything}
    adaptive = {name for m in models for name in m.get("adaptive") or []}
    for attacks, model in zip(made, models, strict=True):
        wanted = (names - adaptive) | (names & set(model.get("adaptive") or []))
        if wanted - set(attacks) - set(model.get("skipped") or {}):
            return False
    return len(everything) == len(names)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
