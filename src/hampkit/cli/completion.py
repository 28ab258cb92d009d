"""The words that shell completion offers. Typer completes commands and options, `hampkit.cli.catalog` has all other names.

Nothing here imports torch. Every function takes what the other words of the command line were parsed to, and the beginning of
the word; it returns the words that the shell offers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

import typer

from hampkit.catalog import Group
from hampkit.cli.values import OF_COLUMNS, choices, columns, divided


def run_words(ctx: typer.Context, incomplete: str) -> list[str]:
    """Recipes, bare defenses if there is a table, and keys of options."""
    if (found := _values(ctx, incomplete)) is not None:
        return found
    given = _given(ctx)
    chosen = [word for word in given if "=" not in word]
    names = _defenses() if ctx.params.get("data") else _recipes(incomplete)
    offered = [*names, *_toml_files(incomplete), *_keys(chosen)] if incomplete or chosen else names
    return _starting(incomplete, offered, given)


def recipe(ctx: typer.Context, incomplete: str) -> list[str]:
    """One recipe, or a bare defense if there is a table."""
    names = _defenses() if ctx.params.get("data") else _recipes(incomplete)
    return _starting(incomplete, [*names, *_toml_files(incomplete)])


def keys_of_recipe(ctx: typer.Context, incomplete: str) -> list[str]:
    """Keys of the options of the recipe that was given."""
    if (found := _values(ctx, incomplete)) is not None:
        return found
    given = _given(ctx)
    return _starting(incomplete, _keys([str(ctx.params.get("recipe") or "")]), given)


def attack_words(ctx: typer.Context, incomplete: str) -> list[str]:
    """Attacks, and keys of options of the judge and of attacks."""
    if (found := _values(ctx, incomplete)) is not None:
        return found
    given = _given(ctx)
    names = _names("attacks")
    groups = [g for g in _options() if g.section == "judge" or g.owner in names]
    return _starting(incomplete, [*names, *_typed(groups)] if incomplete else names, given)


def compare_words(ctx: typer.Context, incomplete: str) -> list[str]:
    """Data sets, and keys of options."""
    if (found := _values(ctx, incomplete)) is not None:
        return found
    given = _given(ctx)
    sets = [name for name in _names("datasets") if name != "file"]
    return _starting(incomplete, [*sets, *_keys([])] if incomplete else sets, given)


def dataset(incomplete: str) -> list[str]:
    """One data set."""
    return _starting(incomplete, [name for name in _names("datasets") if name != "file"])


def defenses(incomplete: str) -> list[str]:
    """The last of several defenses that are separated by commas."""
    before, comma, last = incomplete.rpartition(",")
    given = before.split(",")
    return [before + comma + name for name in _starting(last, _defenses(), given)]


def device(incomplete: str) -> list[str]:
    """The devices that need no number."""
    return _starting(incomplete, ["auto", "cpu", "cuda"])


def lists(incomplete: str) -> list[str]:
    """The lists of ``hampkit list``."""
    from hampkit.cli.catalog import LISTS

    return _starting(incomplete, LISTS)


def list_words(ctx: typer.Context, incomplete: str) -> list[str]:
    """Recipes for ``list recipes``; sections and classes for ``list options``."""
    what, given = ctx.params.get("what"), _given(ctx)
    if what == "recipes":
        return _starting(incomplete, _keys(given) if given else _recipes(incomplete), given)
    if what != "options" or given:
        return []
    groups = _options()
    return _starting(incomplete, sorted({g.section for g in groups} | {g.owner for g in groups} - {""}))


def column(ctx: typer.Context, incomplete: str) -> list[str]:
    """One column of the table that was given."""
    return _starting(incomplete, columns(ctx.params.get("data") or ""))


def keys() -> set[str]:
    """``KEY=`` of every option of recipes and attacks."""
    return set(_keys([]))


def _values(ctx: typer.Context, incomplete: str) -> list[str] | None:
    """Values of the option that is being written, KEY=VALUE; None if the word is not one."""
    given = _given(ctx)
    found = divided(given, incomplete)
    if not incomplete and given and f"{given[-1]}=" in keys() and given[-1] not in _defenses():
        found = given[-1], "", ""  # Typer leaves out the = at the end of KEY=, where bash divides it
    if found is None:
        return None
    key, begun, before = found
    name = key.rpartition(".")[2]
    list_, last = re.fullmatch(r"(\[(?:.*,)?)?(.*)", begun).groups("")  # pyright: ignore[reportOptionalMemberAccess]
    if name in OF_COLUMNS:
        offered = columns(ctx.params.get("data") or "")
    else:
        offered = _names("nets") if name == "net" else choices(key, _options())
    return [before + list_ + word for word in _starting(last, offered, list_.strip("[").split(","))]


def _given(ctx: typer.Context) -> list[str]:
    return [str(word) for word in ctx.params.get("words") or []]


def _starting(incomplete: str, offered: Iterable[str], given: Iterable[str] = ()) -> list[str]:
    """The offered words that begin so, each once, without those that were given, and without options that were given."""
    used = {word.partition("=")[0] for word in given}
    return [word for word in dict.fromkeys(offered) if word.startswith(incomplete) and word.rstrip("=") not in used]


def _names(what: str) -> list[str]:
    from hampkit.cli.catalog import catalog

    return catalog().names(what)


def _options() -> list[Group]:
    from hampkit.cli.catalog import catalog

    return list(catalog().options)


def _defenses() -> list[str]:
    return _names("defenses")


def _recipes(incomplete: str) -> list[str]:
    """The recipes with a file; once the data set is typed, those of all defenses."""
    from hampkit.config.extends import shipped_recipes

    data, slash, _ = incomplete.partition("/")
    if slash and data in {name.partition("/")[0] for name in shipped_recipes()}:
        return [f"{data}/{defense}" for defense in _defenses()]
    return shipped_recipes()


def _toml_files(incomplete: str) -> list[str]:
    """The .toml files in the folder that was typed."""
    folder = os.path.dirname(incomplete)
    try:
        return sorted(os.path.join(folder, name) for name in os.listdir(folder or ".") if name.endswith(".toml"))
    except (OSError, ValueError):
        return []


def _keys(recipes: Iterable[str]) -> list[str]:
    """``KEY=`` of every option that these recipes have, short and with its section; of all recipes where none is given."""
    named = {name for word in recipes if "=" not in word for name in word.split("/") if name}
    owned, every = {"data": [], "defense": []}, _options()
    rest = [g for g in every if g.section not in (*owned, "generator")]
    for section in owned:
        groups = [g for g in every if g.section == section]
        owned[section] = [g for g in groups if g.owner in named] or groups
    return _typed([*rest, *owned["data"], *owned["defense"]])


def _typed(groups: Iterable[Group]) -> list[str]:
    """``KEY=`` of these options. Options of attacks and of nested sections need the section's name."""
    keys = [key.partition("=")[0] for group in groups for key, _ in group.lines if "=" in key]
    of_attacks = {g.owner for g in groups if not g.section}
    short = [key.split(".", 1)[1] for key in keys if "." in key and key.split(".")[0] not in of_attacks]
    return [f"{key}=" for key in sorted({*keys, *short})]
