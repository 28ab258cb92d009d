"""The problem of an existing run folder."""

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
    """The problem of an existing run, with its data loaded again.

    overrides: section of local.json → options that replace those of the run.

    Raises: `UserError` if the data, the code or the files of the run have changed.
    """
    run = Run.at(folder)
    local = local_of(run.folder)
    local["attacks"] = {name: options for name, options in local["attacks"].items() if name in ATTACKS.classes()}
    for section, values in (overrides or {}).items():
        old = local.get(section, {})
        if section == "attacks":  # options without an override keep their value
            values = {name: {**old.get(name, {}), **options} for name, options in values.items()}
        local[section] = {**old, **values}
    problem = prepare(recipe_of_run(run.recipe(), local), session)
    if problem.folder != run.name:
        _check_code(problem.recipe, run.recipe(), folder)
        raise UserError(
            f"the data differ from those that {folder} was trained on (sha256 {problem.recipe.fingerprint[:12]}…); restore them"
        )
    return problem


def recipe_of_run(training: dict[str, Any], local: dict[str, Any]) -> Recipe:
    """The recipe of a run folder; training: the content of recipe.json, local: of local.json."""
    document = {k: v for k, v in training.items() if k not in ("schema", "version", "code")}
    document["data"] = {k: v for k, v in document["data"].items() if k != "sha256"}
    if local.get("file"):
        document["data"]["file"] = local["file"]
    if local.get("inputs"):
        document["defense"] = {**document["defense"], "file": local["inputs"]}
    document["split"] = {**document["split"], "permutation": local.get("permutation", "")}
    shadows = dict(local.get("shadows", {}))
    if isinstance(shadows.get("keep_models"), bool):  # as earlier versions wrote it
        shadows["keep_models"] = "yes" if shadows["keep_models"] else "auto"
    sections = {"judge": local["judge"], "attacks": local["attacks"], "shadows": shadows}
    return recipe_from_dict({**document, **sections}, place="recipe.json")


def _check_code(recipe: Recipe, training: dict[str, Any], folder: Path) -> None:
    """Check that the code of the defense, the user's network and the defense's file are those of the training.

    Raises: `UserError`.
    """
    now, then = recipe.code(), training.get("code", {})
    names = {"defense": recipe.defense.name, "net": recipe.net, "file": recipe.defense.options.get("file")}
    for part, name in names.items():
        if now.get(part) != then.get(part):
            changed = "content" if part == "file" else "source"
            raise UserError(
                f"the {changed} of {part} {name} has changed since {folder} was trained; restore it, or train again: hampkit run"
            )
