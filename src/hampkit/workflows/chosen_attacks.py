"""The choice of attacks on a run: by name, by family, or all whose evidence the run contains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hampkit.attacks import Attack
from hampkit.config.recipe import Recipe
from hampkit.config.schema import build
from hampkit.errors import UserError
from hampkit.registry import ATTACKS, DEFENSES
from hampkit.runs.store import Run, read_json
from hampkit.shadow_models.base import ShadowSet
from hampkit.targets.probing import SAME_ANSWERS
from hampkit.types import Probe
from hampkit.workflows.query import Answers


def choose(recipe: Recipe, names: Sequence[str]) -> list[Attack]:
    """The named attacks with the recipe's options; without names, all whose evidence the run contains.

    An attack that is made for some defenses is chosen for these alone, see `Defense.adaptive`. names: of attacks or of families,
    such as ``lira`` of ``lira-online``.

    Raises: `UserError` for an unknown name, an invalid option or missing evidence.
    """
    classes, options = ATTACKS.classes(), recipe.attacks
    available = {"known", "oracle"}
    if recipe.shadows.models:
        available |= {"shadows", "population", "reference", "probes"}
    others = adaptive_attacks() - set(DEFENSES.get(recipe.defense.name).adaptive)
    chosen = [name for name, cls in classes.items() if set(cls.needs) <= available and name not in others]
    if names:
        chosen = [attack for name in names for attack in family(name)]
    for name in chosen:
        missing = set(classes[name].needs) - available - {"population", "reference", "probes"}
        if missing:
            raise UserError(f"attack {name} needs {', '.join(sorted(missing))}; add --shadows M")
    return [build(classes[name], options.get(name, {}), f"attacks.{name}") for name in dict.fromkeys(chosen)]


def suited(attacks: Sequence[Attack], answers: Answers, named: bool) -> tuple[list[Attack], dict[str, str]]:
    """The attacks that can find something else on a target with these answers, and name → reason for the others.

    named: the user named the attacks; then all of them are made.
    """
    skipped: dict[str, str] = {}
    for attack in () if named else attacks:
        probes = attack.probes()
        if probes and not any(probe.released for probe in probes) and not answers.modified:
            skipped[attack.name] = "the release changes nothing, so that this is the same attack on the answers"
        elif any(probe.repeats for probe in probes) and not answers.randomised:
            skipped[attack.name] = SAME_ANSWERS
    return [attack for attack in attacks if attack.name not in skipped], skipped


def without_answers(
    chosen: Sequence[Attack], others: Sequence[Attack], found: ShadowSet, named: bool
) -> tuple[list[Attack], list[Attack], dict[str, str]]:
    """The attacks whose probes these shadow models of another run answered, of both lists, and name → reason for the others.

    Raises: `UserError` for an attack that the user named.
    """

    def answered(attack: Attack) -> bool:
        return all(probe in found.probes for probe in attack.shadow_probes())

    reason = "the weights of the other run's shadow models were not kept, so that they cannot be asked"
    if found.differences:
        reason = "the shadow models are of another recipe, and cannot be asked"
    missing = [attack.name for attack in chosen if not answered(attack)]
    if missing and named:
        raise UserError(
            f"attack {missing[0]} is not possible: {reason}; train some of this recipe (--shadows M), with"
            " shadows.keep_models=yes to lend them, or leave it out"
        )
    kept, stay = ([attack for attack in attacks if answered(attack)] for attacks in (chosen, others))
    return kept, stay, dict.fromkeys(missing, reason)


def adaptive_attacks() -> set[str]:
    """The attacks that any defense names as made for it."""
    return {attack for defense in DEFENSES.classes().values() for attack in defense.adaptive}


def probes_of(attacks: Iterable[Attack]) -> tuple[Probe, ...]:
    """What attacks want asked beyond one question per example; equal probes of several attacks once."""
    return tuple(dict.fromkeys(probe for attack in attacks for probe in attack.probes()))


def shadow_probes_of(attacks: Iterable[Attack]) -> tuple[Probe, ...]:
    """What attacks want shadow models asked, see `probes_of`."""
    return tuple(dict.fromkeys(probe for attack in attacks for probe in attack.shadow_probes()))


def attacks_to_json(attacks: Iterable[Attack]) -> list[list[Any]]:
    """The attacks that have probes, as JSON values for worker processes."""
    return [[attack.name, asdict(attack)] for attack in attacks if attack.shadow_probes()]  # pyright: ignore[reportArgumentType]


def attacks_from_json(values: Iterable[Any]) -> list[Attack]:
    """The attacks that `attacks_to_json` wrote."""
    return [build(ATTACKS.get(name), options, f"attacks.{name}") for name, options in values]


def family(name: str) -> list[str]:
    """The attack of this name, or all attacks of this family.

    Raises: `UserError` if there is none.
    """
    classes = ATTACKS.classes()
    attacks = [attack for attack in classes if attack.startswith(f"{name}-")]
    return attacks if name not in classes and attacks else [ATTACKS.get(name).name]


def earlier(run: Run, recipe: Recipe, names: Sequence[str]) -> list[Attack]:
    """The attacks of the run's last result beside the named ones, if it was judged alike: reports keep showing them."""
    try:
        document = read_json(run.folder / "result.json", "judge", "attacks")
    except UserError:  # missing or damaged: it is written again from the files of the attacks
        return []
    if document.get("judge") != asdict(recipe.judge):
        return []
    rows = document["attacks"] if isinstance(document["attacks"], list) else []
    attacks = [_attack_of(row, recipe) for row in rows if isinstance(row, dict) and row.get("attack") not in names]
    return [attack for attack in attacks if attack is not None]


def _attack_of(row: Mapping[str, Any], recipe: Recipe) -> Attack | None:
    """The attack on the target in a row of result.json; None without its evidence, or if the row was edited."""
    name, classes = row.get("attack"), ATTACKS.classes()
    if row.get("unit") != "target" or not isinstance(name, str) or name not in classes:
        return None
    if "shadows" in classes[name].needs and not recipe.shadows.models:
        return None
    try:
        return build(classes[name], row.get("options", {}), f"attacks.{name}")
    except UserError:
        return None
