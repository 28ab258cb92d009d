"""Recipes from references, options and a table of the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from hampkit.config.command_line import read_value, written
from hampkit.config.files import table_advice
from hampkit.config.keys import unknown_key
from hampkit.config.recipe import Recipe, accepts, load_recipe, option_of_attacks, unknown_option, with_seed
from hampkit.config.schema import check_once, field_types, once
from hampkit.config.sections import JudgeConfig
from hampkit.errors import UserError
from hampkit.registry import ATTACKS
from hampkit.shadow_models.reuse import Lender

Reference = str | Path | Recipe  # DATA/DEFENSE, a .toml file, a bare defense beside a table, or a recipe that is built


def texts_of(options: Mapping[str, Any] | None) -> dict[str, str]:
    """The options of a call as they are written on the command line; a text is as it was given.

    >>> texts_of({"train.lr": 0.1, "drop": ["id", "id, code"], "train.shuffle": False, "net": "mlp"})
    {'train.lr': '0.1', 'drop': '[id, "id, code"]', 'train.shuffle': 'false', 'net': 'mlp'}
    """
    return {key: v if isinstance(v, str) else written(v) for key, v in (options or {}).items()}


@dataclass(frozen=True)
class RecipeOptions:
    """The options, the seed and the table that all recipes of a call share."""

    options: Mapping[str, Any] | None = None  # {"train.lr": 0.1, "gamma": 0.9}, as key=value on the command line
    seed: int | None = None
    data: str | Path = ""
    label: str = ""  # the column of the label in ``data``

    def recipes(self, references: Sequence[Reference]) -> list[Recipe]:
        """The recipes, each with those of the options that it has.

        Raises: `UserError` for an option that no recipe has.
        """
        if any(isinstance(reference, Recipe) for reference in references):
            return self._built(references)
        names = [str(reference) for reference in references]
        texts: dict[str, Any] = texts_of(self.options)
        texts |= {key: None for key, value in (self.options or {}).items() if value is None}
        if self.label and not self.data:
            advice = next(filter(None, (table_advice(name, beside=True) for name in names)), "")
            raise UserError(
                f"label={self.label} names a column of your own table; {advice or 'add --data FILE, or leave it out'}"
            )
        recipes = [self._load(name, texts) for name in names]
        check_once(texts, self.seed, str(self.data), self.label)
        for key in texts:
            if not any(self._accepted(name, key) for name in names):
                known = unknown_option(key, names, str(self.data), self.label)
                raise UserError(f"unknown key {key!r} in {key}={texts[key]}; {known}")
        return recipes

    def recipe(self, reference: Reference) -> Recipe:
        (found,) = self.recipes([reference])
        return found

    def only_for(self, reference: str | Path) -> RecipeOptions:
        """A copy with only those of the options that this recipe has."""
        options = {key: value for key, value in (self.options or {}).items() if self._accepted(str(reference), key)}
        return replace(self, options=options)

    def with_shadows(self, models: int, lender: Lender | None = None) -> RecipeOptions:
        """A copy with this number of shadow models, or with those of a lender.

        Raises: `UserError` if an option sets them too.
        """
        options = dict(self.options or {})
        if lender is not None:
            for key in asdict(lender.config):
                once(f"--shadows-from {lender.run.folder}", options, f"shadows.{key}")
            options |= {f"shadows.{k}": v for k, v in asdict(lender.config).items()}
        elif models:
            return self._with_models("--shadows", models)
        return replace(self, options=options)

    def shadowed(self, flag: str, reference: Reference, models: int) -> Recipe:
        """A recipe with this number of shadow models, for a call that only trains or plans them.

        flag: the command line's name of ``models``, for messages. Raises: `UserError` if there would be none.
        """
        wanted = self._with_models(flag, models).recipe(reference)
        if not wanted.shadows.models:
            raise UserError(f"shadows.models={models} trains none; give an even number from 4 on")
        return wanted

    def _with_models(self, flag: str, models: int) -> RecipeOptions:
        """A copy with this number of shadow models. Raises: `UserError` if an option sets it too."""
        once(f"{flag} {models}", self.options or {}, "shadows.models", "models")
        return replace(self, options={**(self.options or {}), "shadows.models": models})

    def _load(self, name: str, texts: Mapping[str, str | None]) -> Recipe:
        accepted = {key: text for key, text in texts.items() if self._accepted(name, key)}
        recipe = load_recipe(name, accepted, str(self.data), self.label)
        return recipe if self.seed is None else with_seed(recipe, self.seed)

    def _accepted(self, name: str, key: str) -> bool:
        return accepts(name, key, str(self.data), self.label)

    def _built(self, references: Sequence[Reference]) -> list[Recipe]:
        """Recipes that are built already, with the options of their shadow models.

        Raises: `UserError` for any other option, which would be ignored.
        """
        beside = [key for key in (self.options or {}) if not key.startswith("shadows.")]
        beside += [name for name in ("seed", "data", "label") if getattr(self, name) not in (None, "")]
        names = [str(reference) for reference in references if not isinstance(reference, Recipe)]
        if beside or names:
            raise UserError(
                f"a recipe that is built takes no more options, and {(beside or names)[0]!r} stands beside one; pass all options"
                " to hampkit.recipe(…), and every recipe as its result"
            )
        config = {key.removeprefix("shadows."): value for key, value in (self.options or {}).items()}
        return [_with_shadow_config(reference, config) for reference in references if isinstance(reference, Recipe)]


def _with_shadow_config(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    return replace(recipe, shadows=replace(recipe.shadows, **values)) if values else recipe


def recipe(
    reference: str | Path,
    options: Mapping[str, Any] | None = None,
    *,
    seed: int | None = None,
    data: str | Path = "",
    label: str = "",
    **values: Any,
) -> Recipe:
    """One checked recipe: ``recipe("digits/hamp", {"train.lr": 0.1}, gamma=0.9)``.

    reference: ``DATA/DEFENSE``, a ``.toml`` file, or a bare defense together with ``data`` (a table) and ``label`` (its column).
    options, values: values that differ from the recipe's, by key; keys with a dot can only stand in ``options``.
    Raises: `UserError` for an unknown key or an invalid value.

    >>> recipe("digits/hamp", {"train.epochs": 3}, gamma=0.9).defense.options["gamma"]
    0.9
    """
    for key in values:
        once(f"{key}={values[key]}", options or {}, key)
    return RecipeOptions({**(options or {}), **values}, seed, data, label).recipe(reference)


def attack_options(options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Options of the judge and of attacks, sorted into the sections of a run's local.json.

    Raises: `UserError` for any other option.
    """
    sections: dict[str, dict[str, Any]] = {"judge": {}, "attacks": {}}
    judge = set(JudgeConfig.__dataclass_fields__)
    for key, value in options.items():
        section, _, name = key.removeprefix("attacks.").rpartition(".")
        if section in ("", "judge") and name in judge:
            sections["judge"][name] = option_value(JudgeConfig, name, value)
        elif section in ATTACKS.classes():
            sections["attacks"].setdefault(section, {})[name] = option_value(ATTACKS.get(section), name, value)
        else:
            hint = ("" if section else option_of_attacks(name)) or unknown_key(key, _attack_keys())
            raise UserError(f"unknown key {key!r}; only judge and attack options have an effect here; {hint}")
    return sections


def option_value(cls: type, name: str, value: Any) -> Any:
    """The value of an option, from its text or as it is."""
    return read_value(value, field_types(cls).get((name,))) if isinstance(value, str) else value


def _attack_keys() -> list[str]:
    """The keys that a trained run takes."""
    keys = [f"judge.{key}" for key in JudgeConfig.__dataclass_fields__]
    return keys + [f"attacks.{name}.{f.name}" for name, attack in ATTACKS.classes().items() for f in fields(attack)]
