"""From what a user writes to recipes: names, options, a table of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from hampkit.config.recipe import Recipe, accepts, load_recipe, option_of_attacks, unknown_option, with_seed
from hampkit.config.schema import check_once, once, parse_text
from hampkit.config.sections import JudgeConfig
from hampkit.errors import UserError, unknown_key
from hampkit.registry import ATTACKS
from hampkit.shadow_models.reuse import Lender


@dataclass(frozen=True)
class Given:
    """What is given for all recipes of a call: options, a seed, a table of one's own."""

    options: Mapping[str, Any] | None = None  # {"train.lr": 0.1, "gamma": 0.9}, as key=value on the command line
    seed: int | None = None
    data: str | Path = ""
    label: str = ""  # the column of the label in ``data``

    def recipes(self, references: Sequence[str | Recipe]) -> list[Recipe]:
        """The recipes with these options; each takes those it has. Raises: `UserError` for an option that none has."""
        if any(isinstance(reference, Recipe) for reference in references):
            return self._ready(references)
        names = [str(reference) for reference in references]
        texts = {key: _text(key, value) for key, value in (self.options or {}).items()}
        file = str(self.data)
        if self.label and not file:
            raise UserError(
                f"label={self.label} names a column of a table of one's own; add --data FILE, or leave it out"
            )
        recipes = []
        for name in names:
            mine = {key: text for key, text in texts.items() if accepts(name, key, file, self.label)}
            recipe = load_recipe(name, mine, file, self.label)
            recipes.append(recipe if self.seed is None else with_seed(recipe, self.seed))
        check_once(texts, self.seed, file, self.label)
        for key in texts:
            if not any(accepts(name, key, file, self.label) for name in names):
                raise UserError(
                    f"unknown key {key!r} in {key}={texts[key]}; {unknown_option(key, names, file, self.label)}"
                )
        return recipes

    def recipe(self, reference: str | Recipe) -> Recipe:
        (found,) = self.recipes([reference])
        return found

    def only_for(self, reference: str) -> Given:
        """The same with those options alone that this recipe has."""
        file = str(self.data)
        mine = {k: v for k, v in (self.options or {}).items() if accepts(reference, k, file, self.label)}
        return replace(self, options=mine)

    def with_shadows(self, models: int, lender: Lender | None = None) -> Given:
        """With so many shadow models, or with those of a lender. Raises: `UserError` if an option sets them too."""
        options = dict(self.options or {})
        if lender is not None:
            for key in asdict(lender.config):
                once(f"--shadows-from {lender.run.folder}", options, f"shadows.{key}")
            options |= {f"shadows.{k}": v for k, v in asdict(lender.config).items()}
        elif models:
            once(f"--shadows {models}", options, "shadows.models", "models")
            options["shadows.models"] = models
        return replace(self, options=options)

    def shadowed(self, flag: str, reference: str | Recipe, models: int) -> Recipe:
        """A recipe with so many shadow models, for a call that is about nothing else. Raises: `UserError` for none."""
        once(f"{flag} {models}", self.options or {}, "shadows.models", "models")
        given = replace(self, options={**(self.options or {}), "shadows.models": models})
        wanted = given.recipe(reference)
        if not wanted.shadows.models:
            raise UserError(f"shadows.models={models} trains none; give an even number from 4 on")
        return wanted

    def _ready(self, references: Sequence[str | Recipe]) -> list[Recipe]:
        """Recipes that are built already. Raises: `UserError` for options beside them, which would be ignored."""
        beside = [key for key in (self.options or {}) if not key.startswith("shadows.")]
        beside += [name for name in ("seed", "data", "label") if getattr(self, name) not in (None, "")]
        names = [reference for reference in references if not isinstance(reference, Recipe)]
        if beside or names:
            raise UserError(
                f"a recipe that is built takes no more options, and {(beside or names)[0]!r} stands beside one; give all options"
                " to hampkit.recipe(…), and all recipes as such"
            )
        config = {key.removeprefix("shadows."): value for key, value in (self.options or {}).items()}
        return [_with_shadow_config(reference, config) for reference in references if isinstance(reference, Recipe)]


def _with_shadow_config(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    return replace(recipe, shadows=replace(recipe.shadows, **values)) if values else recipe


def recipe(
    reference: str,
    options: Mapping[str, Any] | None = None,
    *,
    seed: int | None = None,
    data: str | Path = "",
    label: str = "",
    **values: Any,
) -> Recipe:
    """One checked recipe: ``recipe("digits/hamp", {"train.lr": 0.1}, gamma=0.9)``.

    reference: ``DATA/DEFENSE``, a ``.toml`` file, or a bare defense together with ``data`` (a table) and ``label`` (its column).
    options, values: what differs, by key; ``values`` for keys without a dot. Raises: `UserError` for an unknown key or value.

    >>> recipe("digits/hamp", {"train.epochs": 3}, gamma=0.9).defense.options["gamma"]
    0.9
    """
    for key in values:
        once(f"{key}={values[key]}", options or {}, key)
    return Given({**(options or {}), **values}, seed, data, label).recipe(reference)


def attack_options(options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Options of the judge and of attacks, sorted into the sections of a run's local.json. Raises: `UserError` for others."""
    sections: dict[str, dict[str, Any]] = {"judge": {}, "attacks": {}}
    judge = set(JudgeConfig.__dataclass_fields__)
    for key, value in options.items():
        where, _, last = key.removeprefix("attacks.").rpartition(".")
        value = parse_text(value) if isinstance(value, str) else value
        if where in ("", "judge") and last in judge:
            sections["judge"][last] = value
        elif where in ATTACKS.classes():
            sections["attacks"].setdefault(where, {})[last] = value
        else:
            known = [f"judge.{k}" for k in judge]
            known += [f"{n}.{f.name}" for n, attack in ATTACKS.classes().items() for f in fields(attack)]
            hint = "" if where else option_of_attacks(last)
            raise UserError(
                f"unknown key {key!r}; a trained run takes only judge and attack options; {hint or unknown_key(key, known)}"
            )
    return sections


def _text(key: str, value: Any) -> str:
    """A value as it is written behind ``key=``. Raises: `UserError` for a list item that a list cannot hold."""
    if not isinstance(value, (list, tuple)):
        return str(value).lower() if isinstance(value, bool) else str(value)
    items = [_text(key, item) for item in value]
    for item in items:
        if "," in item or item != item.strip():
            raise UserError(f"{key}: {item!r} holds a comma or a blank at its end, which a list cannot; rename it")
    return f"[{', '.join(items)}]"
