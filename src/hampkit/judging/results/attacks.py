"""What an attack of a results document amounts to, and which of several is the strongest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from hampkit.config.command_line import written
from hampkit.stats.strength import deciding, finding, side

Json = Mapping[str, Any]


def of_target(model: Json) -> list[Json]:
    """The attacks on the target, or on the targets of several seeds."""
    return [attack for attack in model["attacks"] if attack["unit"] != "leave-one-out"]


def of_models(model: Json) -> list[Json]:
    """The attacks of leave-one-out: every shadow model in turn is the target."""
    return [attack for attack in model["attacks"] if attack["unit"] == "leave-one-out"]


def twins_of(models: Sequence[Json]) -> list[Json | None]:
    """For each model with canaries the model of the same recipe and seed without them; None for all others."""
    clean = {(model["recipe"], model.get("seed")): model for model in models if not model.get("canaries")}
    return [clean.get((model["recipe"], model.get("seed"))) if model.get("canaries") else None for model in models]


def deciding_auc(attack: Json) -> Json:
    """The AUC that decides, with the interval that allows for the choice among the attacks, see `strength.deciding`."""
    return deciding(attack.get("auc_corrected") or attack["auc"], attack.get("auc_by_seed") or [])


def order_of(attack: Json) -> str:
    """The attack whose order of the examples this one has: attacks with one order are one attack."""
    return attack.get("same_as") or attack["attack"]


def strongest(attacks: Iterable[Json]) -> Json | None:
    """The attack that finds most, as in `hampkit.judging.results.ModelResult.strongest`; of equals the first."""
    return max(attacks, key=lambda attack: finding(**deciding_auc(attack)), default=None)


def family(attack: Json) -> str:
    """The family that the results name for an attack, see `hampkit.attacks.base.family_of`."""
    return attack.get("family") or attack["attack"]


def leaders(attacks: Sequence[Json]) -> list[Json]:
    """The strongest attack of each family, in the order of the families."""
    families = dict.fromkeys(family(attack) for attack in attacks)
    found = (strongest([attack for attack in attacks if family(attack) == name]) for name in families)
    return [attack for attack in found if attack is not None]


def ranked(attacks: Iterable[Json]) -> list[Json]:
    """The attacks by how much they find, the strongest first; of attacks with one order only the first."""
    ordered = sorted(attacks, key=lambda attack: finding(**deciding_auc(attack)), reverse=True)
    return list({order_of(attack): attack for attack in reversed(ordered)}.values())[::-1]


def shown_first(models: Iterable[Json], most: int = 5) -> list[str]:
    """The names of the strongest attacks: the strongest one on each model, then the second one on each, and so on."""
    places = zip_longest(*([attack["attack"] for attack in ranked(of_target(model))] for model in models))
    return list(dict.fromkeys(name for place in places for name in place if name is not None))[:most]


def turned(attack: Json) -> bool:
    """Whether the interval of the AUC lies below 0.5: the attack finds members when it is turned around."""
    return found_side(attack) < 0


def found_side(attack: Json) -> int:
    """1 if the attack finds members, −1 if it finds them when it is turned around, 0 if it is not shown to find any."""
    auc = deciding_auc(attack)
    return side(auc["low"], auc["high"])


def tier_of(attack: Json) -> str:
    """What of an answer the attack uses, see `hampkit.attacks.base.Tier`; documents of earlier versions have ``label_only``."""
    return attack.get("tier") or ("label" if attack.get("label_only") else "probabilities")


def tpr_at(attack: Json, fpr: float) -> Json:
    """The TPR of an attack at one of the false-positive rates of the document."""
    return next(point for point in attack["tpr_at_fpr"] if point["fpr"] == fpr)


def as_found(attack: Json, auc: Json) -> dict[str, float]:
    """An AUC of this attack with its interval: 1 − AUC where the attack is turned around."""
    if not turned(attack):
        return dict(auc)
    return {"value": 1 - auc["value"], "low": 1 - auc["high"], "high": 1 - auc["low"]}


def exposure_of(model: Json) -> Json:
    """The summary of a model's exposed records or persons, with their number. It is empty without shadow models."""
    return model.get("exposure") or (model.get("audit") or {}).get("exposure") or {}


def few_models(exposure: Json) -> str:
    """Why so few shadow models cannot show single exposed records; empty if they can show them from 1 % of all records on.

    With p of at least ``least_p``, Benjamini and Hochberg's procedure claims records only if a share least_p / FDR of all has it.

    >>> few_models({"models": 8, "least_p": 1 / 70, "false_discovery_rate": 0.05})
    '8 shadow models show exposed records only if 29% of all are exposed'
    """
    share = exposure.get("least_p", 0.0) / exposure.get("false_discovery_rate", 1.0)
    if share <= 0.01:
        return ""
    models = f"{exposure['models']} shadow models"
    if share > 1:
        return f"{models} cannot show that a record is exposed"
    return f"{models} show exposed records only if {100 * share:.0f}% of all are exposed"


def attack_label(attack: Json) -> str:
    """The attack's name with those of its options that are not the defaults, and the variance that it chose by itself.

    >>> attack_label({"attack": "neural", "options": {"epochs": 4, "wide": True}})
    'neural (epochs=4, wide=true)'
    >>> attack_label({"attack": "lira-online", "options": {}, "variance": "pooled"})
    'lira-online (pooled variance)'
    """
    options = attack.get("options") or {}
    said = [f"{key}={option_text(value)}" for key, value in options.items()]
    said += [f"{attack['variance']} variance"] if attack.get("variance") and "variance" not in options else []
    return f"{attack['attack']} ({', '.join(said)})" if said else attack["attack"]


def found_label(attack: Json) -> str:
    """`attack_label`, and that the numbers are those of the attack turned around."""
    return attack_label(attack) + (", turned around" if turned(attack) else "")


def option_text(value: Any) -> str:
    """An option as one writes it on the command line, and nothing as ``none``.

    >>> option_text(True), option_text([60, 90]), option_text(["a, b"]), option_text(None)
    ('true', '[60, 90]', '["a, b"]', 'none')
    """
    return "none" if value is None else written(value)
