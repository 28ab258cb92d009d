"""The catalog: names, descriptions and defaults for `hampkit list` and shell completion, read without importing torch.

``python -m benchmarks.catalog --write`` makes its file, ``catalog.json``, from the registries
(`hampkit.workflows.catalog.from_registries`), and `tests/test_catalog.py` holds the two equal. The classes of other packages are
not in it: they are named, but not imported.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import json
import pkgutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

Line = tuple[str, str]  # a name and its description
FILE = Path(__file__).with_name("catalog.json")
SEARCHED = ("attacks", "data", "defenses", "generators", "nets")  # the packages whose modules the catalog describes
# the lists that name classes → the package of the classes, which is also the group of their entry points
GROUPS = {
    "datasets": "hampkit.data",
    "defenses": "hampkit.defenses",
    "attacks": "hampkit.attacks",
    "generators": "hampkit.generators",
}


@dataclass(frozen=True)
class Group:
    """The options of one owner."""

    section: str  # empty for attacks, whose own names are the first part of their keys
    owner: str  # a data set, defense, generator or attack; for other sections the section itself
    lines: Sequence[Line]


@dataclass(frozen=True)
class Catalog:
    """Names, descriptions, options and defaults of everything that is registered."""

    lists: Mapping[str, Sequence[Line]]  # datasets, defenses, attacks, generators, nets
    options: Sequence[Group]
    defaults: Mapping[str, Mapping[str, Mapping[str, Any]]]  # package → name → option → plain value

    def names(self, what: str) -> list[str]:
        """The names in one of the lists."""
        return [name for name, _ in self.lists[what]]


@dataclass(frozen=True)
class Foreign:
    """A class of another package, as far as its source can be read without importing it."""

    name: str
    about: str


def stored() -> Catalog | None:
    """The catalog of ``catalog.json``; None if hampkit's packages have other modules, such as a new defense in a clone."""
    written = _written()
    return written[1] if written and written[0] == modules() else None


def to_json(catalog: Catalog) -> dict[str, Any]:
    """The content of ``catalog.json``."""
    groups = [{"section": g.section, "owner": g.owner, "lines": list(g.lines)} for g in catalog.options]
    return {"modules": modules(), "lists": catalog.lists, "options": groups, "defaults": catalog.defaults}


def from_json(document: Mapping[str, Any]) -> Catalog:
    """The catalog in a document as `to_json` gives it."""
    lists = {what: [(name, about) for name, about in lines] for what, lines in document["lists"].items()}
    groups = [Group(g["section"], g["owner"], [(key, text) for key, text in g["lines"]]) for g in document["options"]]
    return Catalog(lists, groups, document["defaults"])


def modules() -> dict[str, list[str]]:
    """The names of the modules in each of the `SEARCHED` packages."""
    return {name: _modules_in(tuple(_path(name))) for name in SEARCHED}


def foreign(group: str) -> list[Foreign]:
    """The classes that other packages register in a group of entry points, sorted by name. Nothing is imported."""
    return sorted(map(_foreign, importlib.metadata.entry_points(group=group)), key=lambda f: f.name)


@functools.cache
def _written() -> tuple[dict[str, list[str]], Catalog] | None:
    """The modules and the catalog in the file; None without a valid one."""
    try:
        document = json.loads(FILE.read_text("utf-8"))
        return document["modules"], from_json(document)
    except (OSError, ValueError, LookupError, TypeError):
        return None


@functools.cache
def _modules_in(folders: tuple[str, ...]) -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(folders))


def _path(package: str) -> list[str]:
    """The folders of a package of hampkit, which need not be imported."""
    loaded = sys.modules.get(f"hampkit.{package}")
    return list(loaded.__path__) if loaded else [str(FILE.parent / package)]


def _foreign(point: importlib.metadata.EntryPoint) -> Foreign:
    module, _, attribute = point.value.partition(":")
    where = f"({point.value}, of another package)"
    found = _class_in(_source(module.strip()), attribute.partition("[")[0].strip())
    if found is None:
        return Foreign(point.name, where)
    return Foreign(_name_in(found) or point.name, f"{first_sentence(ast.get_docstring(found))} {where}")


def _source(module: str) -> str:
    """The source of a module that is not imported, and neither are the packages that contain it; empty if it is not found."""
    path, spec = None, None
    for k in range(module.count(".") + 1):
        spec = PathFinder.find_spec(".".join(module.split(".")[: k + 1]), path)
        if spec is None:
            return ""
        path = list(spec.submodule_search_locations or [])
    try:
        return Path(spec.origin).read_text("utf-8") if spec and spec.origin else ""
    except (OSError, ValueError):
        return ""


def _class_in(source: str, name: str) -> ast.ClassDef | None:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    return next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name), None)


def _name_in(cls: ast.ClassDef) -> str:
    """The text that the body of a class assigns to ``name``; empty if there is none."""
    for node in cls.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        value = getattr(node, "value", None)
        if any(isinstance(t, ast.Name) and t.id == "name" for t in targets) and isinstance(value, ast.Constant):
            return str(value.value)
    return ""


def first_sentence(text: str | None) -> str:
    """The first sentence of a docstring, on one line.

    >>> first_sentence("One sentence\\nin two lines. Another one.")
    'One sentence in two lines.'
    """
    return " ".join((text or "").split()).split(". ")[0].rstrip(".") + "."
