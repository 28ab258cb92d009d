"""The command line that trains and attacks the model of a recipe again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import PurePath
from typing import Any

from hampkit.config.command_line import written
from hampkit.config.recipe import Recipe, load_recipe
from hampkit.errors import UserError
from hampkit.registry import ATTACKS
from hampkit.text import dotted
from hampkit.workflows.recipes import RecipeOptions, texts_of

FLAGS = {"data.file": "--data", "data.label": "--label", "seed": "--seed", "shadows.models": "--shadows"}


def command_of(recipe: Recipe, usual_threads: int = 0) -> str:
    """``hampkit run DATA/DEFENSE KEY=VALUE … --seed N``, with what differs from the shipped recipe.

    usual_threads: the number that the data's kind has by default, which need not be given.
    Empty if there is no shipped recipe of this name, or if the command would not give the same recipe.
    """
    if recipe.train.threads == usual_threads:
        recipe = replace(recipe, train=replace(recipe.train, threads=0))
    file, label = (str(recipe.data.options.get(key) or "") for key in ("file", "label"))
    file = file if recipe.data.name == "file" else ""
    reference = recipe.defense.name if file else f"{recipe.data.name}/{recipe.defense.name}"
    try:
        shipped = load_recipe(reference, {}, file, label if file else "")
        differing = _differing(recipe, shipped)
        texts = {key: written(value) for key, value in differing.items() if key not in FLAGS}
        again = load_recipe(reference, texts, file, label if file else "")
    except UserError:
        return ""
    return _line(reference, differing, file, label) if _same(again, recipe) else ""


def command_of_comparison(
    dataset: str, defenses: Sequence[str], given: RecipeOptions, counts: Mapping[str, int | str | None]
) -> str:
    """``hampkit compare DATA …``, with the name of the user's table but without its folder, as in `command_of`.

    counts: flag → number, None where it was not given.

    >>> command_of_comparison("toy", ["hamp", "round"], RecipeOptions({"train.epochs": 2}), {"seeds": 3, "seed": None})
    'hampkit compare toy --defenses hamp,round train.epochs=2 --seeds 3'
    """
    words = ["hampkit", "compare"]
    table = ["--data", PurePath(given.data).name, "--label", given.label]
    words += table if given.data else [dataset]
    words += ["--defenses", ",".join(defenses)] if defenses else []
    words += [f"{key}={text}" for key, text in texts_of(given.options).items()]
    words += [word for flag, n in counts.items() if n is not None for word in (f"--{flag}", str(n))]
    return shlex.join(words)


def _line(reference: str, differing: Mapping[str, Any], file: str, label: str) -> str:
    words = ["hampkit", "run", reference]
    words += ["--data", PurePath(file).name, "--label", label] if file else []  # a report shows no folder of its author
    words += [f"{key}={written(value)}" for key, value in differing.items() if key not in FLAGS]
    for key in ("seed", "shadows.models"):
        words += [FLAGS[key], str(differing[key])] if key in differing else []
    return shlex.join(words)


def _differing(recipe: Recipe, shipped: Recipe) -> dict[str, Any]:
    """The options in which a recipe differs from another one, as dotted keys."""
    ours, theirs = _options(recipe), _options(shipped)
    return {key: value for key, value in ours.items() if theirs.get(key) != value}


def _same(again: Recipe, recipe: Recipe) -> bool:
    """Whether two recipes differ at most in the seed and the number of shadow models, which have flags of their own."""
    again = replace(again, seed=recipe.seed, shadows=replace(again.shadows, models=recipe.shadows.models))
    return _options(again) == _options(recipe)


def _options(recipe: Recipe) -> dict[str, Any]:
    document = {
        "data": dict(recipe.data.options),
        "split": asdict(recipe.split),
        "net": recipe.net,
        "train": asdict(recipe.train),
        "defense": dict(recipe.defense.options),
        "judge": asdict(recipe.judge),
        "shadows": asdict(recipe.shadows),
        "attacks": {name: _chosen(name, options) for name, options in recipe.attacks.items()},
        "seed": recipe.seed,
    }
    return {key: list(value) if isinstance(value, tuple) else value for key, value in dotted(_plain(document)).items()}


def _chosen(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an attack that are not its defaults."""
    defaults = asdict(ATTACKS.get(name)())
    return {key: value for key, value in options.items() if value != defaults.get(key)}


def _plain(value: Any) -> Any:
    """Nested options, such as those of a student, as dictionaries."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return _plain(asdict(value)) if hasattr(value, "__dataclass_fields__") else value
