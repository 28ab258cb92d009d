"""Which attacks a run is attacked with: named ones, families, or all whose evidence it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from hampkit.attacks import Attack
from hampkit.config.recipe import Recipe
from hampkit.config.schema import build
from hampkit.errors import UserError
from hampkit.registry import ATTACKS
from hampkit.runs.store import Run, read_json


def choose(recipe: Recipe, names: Sequence[str]) -> list[Attack]:
    """The named attacks with the recipe's options; without names all whose evidence the run holds.

    A name that is no attack but the beginning of several, as lira of lira-online, means all of these.
    """
    classes, options = ATTACKS.classes(), recipe.attacks
    held = {"known", "shadows", "population"} if recipe.shadows.models else {"known"}
    wanted = [name for name, cls in classes.items() if set(cls.needs) <= held]
    if names:
        wanted = [n for name in names for n in family(name)]
    for name in wanted:
        missing = set(classes[name].needs) - held - {"population"}
        if missing:
            raise UserError(f"attack {name} needs {', '.join(sorted(missing))}; add --shadows M")
    return [build(classes[name], options.get(name, {}), f"attacks.{name}") for name in dict.fromkeys(wanted)]


def family(name: str) -> list[str]:
    """The attack of that name, or all whose names begin with it. Errors: `UserError` where there is none."""
    classes = ATTACKS.classes()
    family = [n for n in classes if n.startswith(f"{name}-")]
    return family if name not in classes and family else [ATTACKS.get(name).name]


def earlier(run: Run, recipe: Recipe, names: Sequence[str]) -> list[Attack]:
    """The attacks that the run's result holds besides these, judged in the same way: a report goes on showing them."""
    try:
        document, classes = read_json(run.folder / "result.json", "judge", "attacks"), ATTACKS.classes()
    except UserError:  # not there yet, or damaged: it follows from the attacks' own files and is written anew
        return []
    if document.get("judge") != asdict(recipe.judge):
        return []
    rows = document["attacks"] if isinstance(document["attacks"], list) else []
    found: list[Attack] = []
    for row in rows:
        if not isinstance(row, dict) or row.get("unit") != "target":
            continue
        name, options = row.get("attack"), row.get("options", {})
        if not isinstance(name, str) or name not in classes or name in names:
            continue
        if "shadows" in classes[name].needs and not recipe.shadows.models:
            continue
        try:
            found.append(build(classes[name], options, f"attacks.{name}"))
        except UserError:  # edited by hand: it is a convenience, and the rest still holds
            continue
    return found
