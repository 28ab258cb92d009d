"""``extends``: a recipe names another one and holds only what differs. Reading, merging, and the origin of each value.

A chain of recipes is merged into one document before anything is checked or hashed, so that it makes no difference to a run
whether a value was written in the recipe itself or inherited.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from hampkit.errors import UserError, did_you_mean
from hampkit.registry import DATASETS, DEFENSES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

Address = tuple[str, ...]  # of a value: ("train", "lr"), ("attacks", "neural", "epochs")

BASE = "undefended"  # what a defense without a recipe of its own extends
LONGEST = 4  # recipes in a chain: more, and nobody finds where a value was set
KEYS = frozenset({"data", "split", "net", "train", "defense", "seed", "judge", "attacks", "shadows"})


@dataclass(frozen=True)
class Source:
    """One recipe as it is written, before what it extends is merged in."""

    name: str  # DATA/DEFENSE of a shipped recipe, else the path of a file
    values: Mapping[str, Any]
    extends: Any  # as written; None: nothing
    dataset: str  # in which a bare name in `extends` is looked up; empty: the recipe names none
    path: Path | None  # of a user's own file; None: shipped

    @property
    def identity(self) -> str:
        return self.name if self.path is None else str(self.path.resolve())


@dataclass(frozen=True)
class Resolved:
    """A chain of recipes as one document."""

    document: dict[str, Any]
    origins: dict[Address, str]  # the recipe in which each value of the document was set
    chain: tuple[str, ...]  # names of the recipes, the extending one first


def resolve(source: Source, dataset: str = "") -> Resolved:
    """Merge a recipe with all that it extends.

    dataset: the data set of files that name none themselves.
    Raises: `UserError` for a missing or unreadable recipe, a circle, or more than four recipes in a chain.
    """
    chain = _chain(source, dataset)
    document: dict[str, Any] = {}
    origins: dict[Address, str] = {}
    for each in reversed(chain):
        document = merge(document, each.values)
        origins |= dict.fromkeys(addresses(each.values), each.name)
    return Resolved(document, {a: origins[a] for a in addresses(document)}, tuple(each.name for each in chain))


def merge(parent: Mapping[str, Any], child: Mapping[str, Any]) -> dict[str, Any]:
    """The parent's values, section by section and key by key; where the child has the same key, the child's value.

    Options of another data set, defense or generator than the child's are not inherited: they belong to another class.

    >>> merge({"net": "mlp", "train": {"lr": 0.1, "epochs": 5}}, {"train": {"lr": 0.2}})
    {'net': 'mlp', 'train': {'lr': 0.2, 'epochs': 5}}
    >>> merge({"defense": {"name": "hamp", "gamma": 0.5}}, {"defense": {"name": "round"}})
    {'defense': {'name': 'round'}}
    """
    return _over(
        {section: _inherited(section, values, child.get(section)) for section, values in parent.items()}, child
    )


def addresses(document: Mapping[str, Any]) -> list[Address]:
    """The addresses of all values.

    >>> addresses({"net": "mlp", "defense": {"distill": {"lr": 0.1}}})
    [('net',), ('defense', 'distill', 'lr')]
    """
    found: list[Address] = []
    for key, value in document.items():
        found += [(key, *inner) for inner in addresses(value)] if isinstance(value, Mapping) else [(key,)]
    return found


def shipped(data: str, defense: str) -> Source:
    """The recipe ``data/defense`` of the package; a defense without a file extends the data set's undefended recipe.

    Raises: `UserError` for an unknown data set or defense, and for a data set without recipes.
    """
    name, folder = f"{data}/{defense}", resources.files("hampkit") / "recipes" / data
    if data not in DATASETS.classes():
        raise UserError(f"unknown recipe {name!r}: no data set {data!r}; {did_you_mean(name, shipped_recipes())}")
    if defense not in DEFENSES.classes():
        near = did_you_mean(defense, DEFENSES.classes())
        raise UserError(f"unknown recipe {name!r}: no defense {defense!r}; {near}")
    if (folder / f"{defense}.toml").is_file():
        return _source(name, tomllib.loads((folder / f"{defense}.toml").read_text("utf-8")), data, None)
    if not (folder / f"{BASE}.toml").is_file():
        raise UserError(f"unknown recipe {name!r}: {data} has no recipes; write a .toml file with data = {data!r}")
    return _source(name, {"extends": BASE, "defense": {"name": defense}}, data, None)


def from_file(path: Path) -> Source:
    """A recipe of the user's own. Raises: `UserError`."""
    document = _read(path)
    data = document.get("data")
    named = data.get("name") if isinstance(data, Mapping) else data
    return _source(str(path), document, named if isinstance(named, str) else "", path)


def shipped_recipes() -> list[str]:
    """``DATA/DEFENSE`` of every recipe in the package, but for those of a user's own table."""
    root = resources.files("hampkit") / "recipes"
    return sorted(
        f"{data.name}/{recipe.name[:-5]}"
        for data in root.iterdir()
        if data.is_dir() and data.name != "file"
        for recipe in data.iterdir()
        if recipe.name.endswith(".toml")
    )


def check_keys(document: Mapping[str, Any], place: str) -> None:
    """Raises: `UserError` for a top-level key that no recipe has."""
    for key in document:
        if key not in KEYS:
            near = did_you_mean(key, {*KEYS, "extends"})
            raise UserError(f"unknown section or key {key!r} in {place}; {near}")


def _source(name: str, document: dict[str, Any], dataset: str, path: Path | None) -> Source:
    values = {k: v for k, v in document.items() if k != "extends"}
    check_keys(values, f"recipe {name}")
    for kind in ("data", "defense"):  # data = "toy" is short for a section with a name
        if isinstance(values.get(kind), str):
            values[kind] = {"name": values[kind]}
    for *section, key in addresses(values):
        if key == "extends":
            where = ".".join(section)
            raise UserError(f"extends in section [{where}] of recipe {name} must stand above the first section")
    return Source(name, values, document.get("extends"), dataset, path)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"no recipe file {path}; give an existing .toml file or DATA/DEFENSE") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"recipe {path} is no valid TOML: {error}") from None
    except (OSError, ValueError) as error:  # a name with a null byte, text that is not UTF-8
        raise UserError(f"cannot read recipe {str(path)!r}: {error}") from None


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
    """A path relative to the file in which it stands."""
    if child.path is None:
        raise UserError("a recipe of the package cannot extend a file; write DATA/DEFENSE")
    try:
        return child.path.parent / Path(named).expanduser()
    except RuntimeError as error:
        raise UserError(f"{error}; give the path of an existing file") from None


def _inherited(section: str, values: Any, child: Any) -> Any:
    """What of a parent's section can be meant in the child."""
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
    """A new document, nested as deep as the two are."""
    merged = {key: _over(value, {}) if isinstance(value, Mapping) else value for key, value in base.items()}
    for key, value in top.items():
        below = merged.get(key)
        merged[key] = _over(below if isinstance(below, Mapping) else {}, value) if isinstance(value, Mapping) else value
    return merged
