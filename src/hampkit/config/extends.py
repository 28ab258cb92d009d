"""``extends``: a recipe names another one and contains only the values that differ.

A chain of recipes is merged into one document before it is checked and hashed, so that an inherited value has the same effect
as one in the recipe itself. The origin of each value is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from hampkit.config.files import expanded
from hampkit.config.keys import sections_of
from hampkit.config.toml import tomllib
from hampkit.errors import UserError, did_you_mean, one_line
from hampkit.registry import DATASETS, DEFENSES
from hampkit.text import Address, flatten

BASE = "undefended"  # what a defense without a recipe of its own extends
LONGEST = 4  # recipes in a chain: in a longer one it is hard to find where a value was set
KEYS = frozenset({"data", "split", "net", "train", "defense", "seed", "judge", "attacks", "shadows", "canaries"})


@dataclass(frozen=True)
class Source:
    """One recipe as written, before it is merged with the one that it extends."""

    name: str  # DATA/DEFENSE of a shipped recipe, else the path of a file
    values: Mapping[str, Any]
    extends: Any  # as written; None: it extends no other recipe
    dataset: str  # to which a bare name in `extends` belongs; empty: the recipe names no data set
    path: Path | None  # of a user's own file; None: a recipe of the package

    @property
    def identity(self) -> str:
        """The same text for the same recipe, however its path is written."""
        return self.name if self.path is None else str(self.path.resolve())


@dataclass(frozen=True)
class Resolved:
    """A chain of recipes as one document."""

    document: dict[str, Any]
    origins: dict[Address, str]  # the recipe in which each value of the document was set
    chain: tuple[str, ...]  # names of the recipes, the extending one first


def resolve(source: Source, dataset: str = "") -> Resolved:
    """Merge a recipe with all recipes that it extends.

    dataset: that of recipe files that name no data set.
    Raises: `UserError` for a missing or unreadable recipe, a circle, or more than four recipes in a chain.
    """
    chain = _chain(source, dataset)
    document: dict[str, Any] = {}
    origins: dict[Address, str] = {}
    for each in reversed(chain):
        document = merge(document, each.values)
        origins |= dict.fromkeys(flatten(each.values), each.name)
    return Resolved(document, {a: origins[a] for a in flatten(document)}, tuple(each.name for each in chain))


def merge(parent: Mapping[str, Any], child: Mapping[str, Any]) -> dict[str, Any]:
    """The parent's values, overridden key by key by the child's.

    If the child has another data set, defense or generator, the options of the parent's are not inherited: they belong to
    another class.

    >>> merge({"net": "mlp", "train": {"lr": 0.1, "epochs": 5}}, {"train": {"lr": 0.2}})
    {'net': 'mlp', 'train': {'lr': 0.2, 'epochs': 5}}
    >>> merge({"defense": {"name": "hamp", "gamma": 0.5}}, {"defense": {"name": "round"}})
    {'defense': {'name': 'round'}}
    """
    return _over(
        {section: _inherited(section, values, child.get(section)) for section, values in parent.items()}, child
    )


def shipped(data: str, defense: str) -> Source:
    """The recipe ``data/defense`` of the package; a defense without a file extends the data set's undefended recipe.

    Raises: `UserError` for an unknown data set or defense, and for a data set without recipes.
    """
    name, folder = f"{data}/{defense}", resources.files("hampkit") / "recipes" / data
    if not DATASETS.has(data):
        raise UserError(f"unknown recipe {name!r}: no data set {data!r}; {did_you_mean(name, shipped_recipes())}")
    if not DEFENSES.has(defense):
        near = did_you_mean(defense, DEFENSES.classes())
        raise UserError(f"unknown recipe {name!r}: no defense {defense!r}; {near}")
    if (folder / f"{defense}.toml").is_file():
        return _source(name, tomllib.loads((folder / f"{defense}.toml").read_text("utf-8")), data, None)
    if not (folder / f"{BASE}.toml").is_file():
        raise UserError(f"unknown recipe {name!r}: {data} has no recipes; write a .toml file with data = {data!r}")
    return _source(name, {"extends": BASE, "defense": {"name": defense}}, data, None)


def from_file(path: Path) -> Source:
    """A recipe from a user's own file.

    Raises: `UserError` for a file that is missing or is not a valid recipe.
    """
    document = _read(path)
    data = document.get("data")
    named = data.get("name") if isinstance(data, Mapping) else data
    return _source(str(path), document, named if isinstance(named, str) else "", path)


def shipped_recipes() -> list[str]:
    """``DATA/DEFENSE`` of every recipe in the package, except those for a user's own table."""
    root = resources.files("hampkit") / "recipes"
    return sorted(
        f"{data.name}/{recipe.name[:-5]}"
        for data in root.iterdir()
        if data.is_dir() and data.name != "file"
        for recipe in data.iterdir()
        if recipe.name.endswith(".toml")
    )


def check_keys(document: Mapping[str, Any], place: str) -> None:
    """Check the top-level keys of a recipe.

    Raises: `UserError` for an unknown one.
    """
    for key in document:
        if key not in KEYS:
            places = " or ".join(f"[{name}]" for name in sections_of(key))
            near = f"it belongs into the section {places}" if places else did_you_mean(key, {*KEYS, "extends"})
            raise UserError(f"unknown section or key {key!r} in {place}; {near}")


def _source(name: str, document: dict[str, Any], dataset: str, path: Path | None) -> Source:
    values = {k: v for k, v in document.items() if k != "extends"}
    check_keys(values, f"recipe {name}")
    for kind in ("data", "defense"):  # data = "toy" stands for a section with a name
        if isinstance(values.get(kind), str):
            values[kind] = {"name": values[kind]}
    for *section, key in flatten(values):
        if key == "extends":
            where = ".".join(section)
            raise UserError(f"extends in section [{where}] of recipe {name} must stand above the first section")
    return Source(name, values, document.get("extends"), dataset, path)


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"recipe {path} is a folder, a pipe or a device; give a .toml file")
        return tomllib.loads(path.read_text("utf-8-sig"))  # some editors begin a file with a byte-order mark
    except FileNotFoundError:
        raise UserError(f"no recipe file {path}; give an existing .toml file or DATA/DEFENSE") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"recipe {path} is not valid TOML: {one_line(error)}") from None
    except RecursionError:
        raise UserError(f"recipe {path} has brackets nested too deeply; a recipe needs two levels") from None
    except (OSError, ValueError) as error:  # a name with a null byte, text that is not UTF-8, a number of 5,000 digits
        text = "it has a number of too many digits" if "int_max_str_digits" in str(error) else one_line(error)
        raise UserError(f"cannot read recipe {str(path)!r}: {text}") from None


def _chain(source: Source, dataset: str) -> list[Source]:
    chain = [source]
    while (last := chain[-1]).extends is not None:
        parent = _parent(last, last.dataset or dataset)
        line = " → ".join(each.name for each in [*chain, parent])
        if parent.identity in {each.identity for each in chain}:
            raise UserError(f"recipes extend one another in a circle: {line}; take extends out of {last.name}")
        if len(chain) == LONGEST:
            raise UserError(
                f"more than {LONGEST} recipes extend one another: {line}; merge {last.name} with another one"
            )
        chain.append(parent)
    return chain


def _parent(child: Source, dataset: str) -> Source:
    named = child.extends
    if not isinstance(named, str) or not named:
        raise UserError(
            f"extends={named!r} in recipe {child.name} must name one recipe: DATA/DEFENSE, a DEFENSE of the same data set,"
            " or a .toml file"
        )
    try:
        if named.endswith(".toml"):
            return from_file(_beside(child, named))
        data, slash, defense = named.rpartition("/")
        if not (slash or dataset):
            raise UserError(
                f"{child.name} names no data set; write DATA/{named}, or add [data] with the data set's name"
            )
        return shipped(data if slash else dataset, defense)
    except UserError as error:
        raise UserError(f"recipe {child.name} extends {named!r}: {error}") from None


def _beside(child: Source, named: str) -> Path:
    """A path relative to the recipe file that contains it."""
    if child.path is None:
        raise UserError("a recipe of the package cannot extend a file; write DATA/DEFENSE")
    return child.path.parent / expanded(named, "extends")


def _inherited(section: str, values: Any, child: Any) -> Any:
    """The values of a parent's section that the child inherits."""
    if not (isinstance(values, Mapping) and isinstance(child, Mapping)):
        return values
    if section in ("data", "defense") and _differ(values, child, "name"):
        return {}
    if section == "defense" and _differ(values, child, "generator"):
        return {k: v for k, v in values.items() if k != "options"}  # the options are the generator's
    return values


def _differ(parent: Mapping[str, Any], child: Mapping[str, Any], key: str) -> bool:
    return key in parent and key in child and parent[key] != child[key]


def _over(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` overridden by ``top`` at every depth, as a new document."""
    merged = {key: _over(value, {}) if isinstance(value, Mapping) else value for key, value in base.items()}
    for key, value in top.items():
        below = merged.get(key)
        merged[key] = _over(below if isinstance(below, Mapping) else {}, value) if isinstance(value, Mapping) else value
    return merged
