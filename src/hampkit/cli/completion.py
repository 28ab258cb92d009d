"""The words that shell completion offers. Typer completes commands and options, `hampkit.cli.catalog` has all other names.

Nothing here imports torch. Every function takes what the other words of the command line were parsed to, and the beginning of
the word; it returns the words that the shell offers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence

import typer

from hampkit.catalog import Group
from hampkit.cli.completion_shell import prepare
from hampkit.cli.values import OF_COLUMNS, OF_NAMES, choices, columns

_LISTS = ("datasets", "defenses", "attacks", "generators", "nets")  # those whose names are single words
_PLAIN = r"[\w.+@%:-]+"  # names that no shell changes


def run_words(ctx: typer.Context, incomplete: str) -> list[str]:
    """Recipes, bare defenses if there is a table, and keys of options with their values."""
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
    """Keys of the options of the recipe that was given, and their values."""
    if (found := _values(ctx, incomplete)) is not None:
        return found
    return _starting(incomplete, _keys([str(ctx.params.get("recipe") or "")]), _given(ctx))


def attack_words(ctx: typer.Context, incomplete: str) -> list[str]:
    """Attacks, and keys of options of the judge and of attacks with their values."""
    if (found := _values(ctx, incomplete)) is not None:
        return found
    given = _given(ctx)
    names = _names("attacks")
    groups = [g for g in _options() if g.section == "judge" or g.owner in names]
    return _starting(incomplete, [*names, *_typed(groups)] if incomplete else names, given)


def compare_words(ctx: typer.Context, incomplete: str) -> list[str]:
    """Data sets, and keys of options with their values."""
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
    return _last_of(incomplete, _defenses())


def attacks(incomplete: str) -> list[str]:
    """The last of several attacks that are separated by commas."""
    return _last_of(incomplete, _names("attacks"))


def _last_of(incomplete: str, offered: Sequence[str]) -> list[str]:
    """The last of several words that are separated by commas."""
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in _starting(last, offered, before.split(","))]


def device(incomplete: str) -> list[str]:
    """The devices that need no number."""
    return _starting(incomplete, ["auto", "cpu", "cuda"])


def lists(incomplete: str) -> list[str]:
    """The lists of ``hampkit list``."""
    from hampkit.cli.catalog import LISTS

    return _starting(incomplete, LISTS)


def list_words(ctx: typer.Context, incomplete: str) -> list[str]:
    """Recipes with their options for ``list recipes``; sections and classes for ``list options``; the names in other lists."""
    what, given = ctx.params.get("what"), _given(ctx)
    if what == "recipes":
        values = _values(ctx, incomplete)
        return (
            _starting(incomplete, _keys(given) if given else _recipes(incomplete), given) if values is None else values
        )
    if given:
        return []
    if what != "options":
        return _starting(incomplete, _names(what)) if what in _LISTS else []
    groups = _options()
    return _starting(incomplete, sorted({g.section for g in groups} | {g.owner for g in groups} - {""}))


def column(ctx: typer.Context, incomplete: str) -> list[str]:
    """One column of the table that was given."""
    return _starting(incomplete, _columns(ctx))


def keys() -> set[str]:
    """``KEY=`` of every option of recipes and attacks."""
    return set(_keys([]))


def _values(ctx: typer.Context, incomplete: str) -> list[str] | None:
    """``KEY=VALUE`` for the values that begin as the typed one; None if the word is no option. In a list, of its last item."""
    key, equals, begun = incomplete.partition("=")
    if not equals:
        return None
    name = key.rpartition(".")[2]
    list_, last = re.fullmatch(r"(\[(?:.*,)?)?(.*)", begun).groups("")  # pyright: ignore[reportOptionalMemberAccess]
    if name in OF_COLUMNS:
        offered = _columns(ctx)
    elif name in OF_NAMES:
        offered = [word for word in _names(OF_NAMES[name]) if ":" not in word]  # timm:NAME stands for many
    else:
        offered = choices(key, _groups_of(ctx)) or choices(key, _options())
    return [f"{key}={list_}{word}" for word in _starting(last, offered, list_.strip("[").split(","))]


def _groups_of(ctx: typer.Context) -> list[Group]:
    """The options that the given recipes have."""
    words = [*_given(ctx), str(ctx.params.get("recipe") or "")]
    chosen = {name for word in words if "=" not in word for name in word.split("/")}
    return [g for g in _options() if g.owner in chosen or g.section not in ("data", "defense")]


def _columns(ctx: typer.Context) -> list[str]:
    """The columns of the table that was given; where nothing escapes them for the shell, only names that need no quotes."""
    options = dict(word.split("=", 1) for word in _given(ctx) if "=" in word)
    found = columns(ctx.params.get("data") or "", options)
    in_bash = os.environ.get("_HAMPKIT_COMPLETE") == "complete_bash" and prepare()
    return [name for name in found if in_bash or re.fullmatch(_PLAIN, name)]


def _given(ctx: typer.Context) -> Sequence[str]:
    """The words before; while the value of an option with dashes is typed, Typer has not sorted them yet."""
    return [str(word) for word in ctx.params.get("words") or ctx.args]


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
