"""The problem of a run folder that exists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hampkit.config.recipe import Recipe, recipe_from_dict
from hampkit.errors import UserError
from hampkit.registry import ATTACKS
from hampkit.runs.run_files import local_of
from hampkit.runs.store import Run
from hampkit.workflows.prepare import prepare
from hampkit.workflows.problem import Problem
from hampkit.workflows.session import Session


def open_run(folder: Path, session: Session, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Problem:
    """The problem of an existing run, its data loaded again. Errors: `UserError` where the data are others by now."""
    run = Run.at(folder)
    local = local_of(run.folder)
    local["attacks"] = {name: options for name, options in local["attacks"].items() if name in ATTACKS.classes()}
    for section, values in (overrides or {}).items():
        before = local.get(section, {})
        if section == "attacks":  # options that are not given stay the recipe's
            values = {name: {**before.get(name, {}), **options} for name, options in values.items()}
        local[section] = {**before, **values}
    problem = prepare(recipe_of_run(run.recipe(), local), session)
    if problem.folder != run.name:
        _check_code(problem.recipe, run.recipe(), folder)
        raise UserError(
            f"the data of {folder} are not those it was trained on (sha256 {problem.recipe.fingerprint[:12]}…); put them back"
        )
    return problem


def recipe_of_run(training: dict[str, Any], local: dict[str, Any]) -> Recipe:
    """The recipe of a run folder, from its recipe.json and its local.json."""
    document = {k: v for k, v in training.items() if k not in ("schema", "version", "code")}
    document["data"] = {k: v for k, v in document["data"].items() if k != "sha256"}
    if local.get("file"):
        document["data"]["file"] = local["file"]
    if local.get("inputs"):
        document["defense"] = {**document["defense"], "file": local["inputs"]}
    document["split"] = {**document["split"], "permutation": local.get("permutation", "")}
    how = {"judge": local["judge"], "attacks": local["attacks"], "shadows": local.get("shadows", {})}
    return recipe_from_dict({**document, **how}, place="recipe.json")


def _check_code(recipe: Recipe, training: dict[str, Any], where: Path) -> None:
    """Errors: `UserError` where a run was trained by other code of its defense or of the user's network."""
    now, then = recipe.code(), training.get("code", {})
    names = {"defense": recipe.defense.name, "net": recipe.net, "file": recipe.defense.options.get("file")}
    for what in (what for what in names if now.get(what) != then.get(what)):
        part = "content" if what == "file" else "source"
        raise UserError(
            f"the {part} of {what} {names[what]} is no longer what {where} was trained with; put it back, or train anew:"
            " hampkit run"
        )
