"""Names → classes. Every module of the packages below is searched, so that a new defense or attack is one new file.

Other packages register a class by an entry point in the group ``hampkit.defenses``, ``hampkit.attacks``, ``hampkit.data`` or
``hampkit.generators``, with any name and the value ``package.module:Class``.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import inspect
import os
import pkgutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from types import GenericAlias, ModuleType
from typing import Any

from hampkit.catalog import stored
from hampkit.code_hash import code_of
from hampkit.errors import UserError, did_you_mean, one_line


@dataclass(frozen=True)
class Registry:
    """All concrete subclasses of one base class that have a ``name``, in a package of hampkit and among entry points."""

    kind: str  # "defense", for error messages
    package: str  # "hampkit.defenses"; also the group of the entry points
    base: str  # "hampkit.defenses.base:Defense"

    def get(self, name: str) -> type[Any]:
        """The class with this name.

        Raises: `UserError` for an unknown name.
        """
        known = self.classes()
        if name not in known:
            raise UserError(f"unknown {self.kind} {name!r}; {did_you_mean(name, known)}")
        return known[name]

    def has(self, name: str) -> bool:
        """Whether a class has this name; classes are imported only if the catalog of the package does not have it."""
        shipped = stored()
        return (shipped is not None and name in shipped.defaults[self.package]) or name in self.classes()

    def classes(self) -> dict[str, type[Any]]:
        """Every registered class by name, sorted by name."""
        return dict(sorted(_scan(self).items()))


DEFENSES = Registry("defense", "hampkit.defenses", "hampkit.defenses.base:Defense")
ATTACKS = Registry("attack", "hampkit.attacks", "hampkit.attacks.base:Attack")
DATASETS = Registry("data set", "hampkit.data", "hampkit.data.base:Source")
GENERATORS = Registry("generator", "hampkit.generators", "hampkit.generators.base:Generator")


def check_installed(where: object, defense: str, attacks: Iterable[str] = ()) -> None:
    """Check that the defense and the attacks of an earlier run are still installed. where: the run, for the message.

    Raises: `UserError` for the first that is not.
    """
    remedy = "install the package or put back the file that brought it"
    if defense not in DEFENSES.classes():
        raise UserError(f"{where} was trained with the defense {defense!r}, which is not installed here; {remedy}")
    for name in attacks:
        if name not in ATTACKS.classes():
            raise UserError(
                f"{where} was attacked with {name!r}, which is not installed here; {remedy},"
                f" or attack again with what there is: hampkit attack {where}"
            )


@functools.cache
def _scan(registry: Registry) -> dict[str, type[Any]]:
    """Every class of a registry by name.

    Raises: `UserError` for an entry point with the name of another class: which of the two a result is of would be unknown.
    """
    base = load_object(registry.base)
    found = {cls.name: cls for cls in _in_package(registry, base)}
    for cls in _in_entry_points(registry, base):
        if (other := found.setdefault(cls.name, cls)) is not cls:
            raise UserError(
                f"{_place(cls)}, an entry point of {registry.package}, has the name {cls.name!r} of {_place(other)}; give it"
                " another name, or uninstall that package"
            )
    for cls in found.values():
        code_of(cls)  # hashed now: the file may be edited later, and the code that runs is that of the import
    return found


def _place(cls: type[Any]) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _in_package(registry: Registry, base: type[Any]) -> list[Any]:
    package = importlib.import_module(registry.package)
    modules = [
        _import(f"{registry.package}.{m.name}", f"{getattr(m.module_finder, 'path', registry.package)}/{m.name}.py")
        for m in pkgutil.iter_modules(package.__path__)
    ]
    return [cls for module in modules for cls in _concrete(module, base)]


def _in_entry_points(registry: Registry, base: type[Any]) -> list[Any]:
    found = []
    for point in importlib.metadata.entry_points(group=registry.package):
        cls = _loaded(point)
        if not (_is_subclass(cls, base) and hasattr(cls, "name")):
            raise UserError(
                f"entry point {point.name} = {point.value} of {registry.package} must name a subclass of"
                f" {registry.base} with a name; correct or uninstall that package"
            )
        found.append(cls)
    return found


def _concrete(module: ModuleType, base: type) -> list[type]:
    classes = [cls for cls in vars(module).values() if _is_subclass(cls, base)]
    return [
        cls
        for cls in classes
        if cls.__module__ == module.__name__ and not inspect.isabstract(cls) and hasattr(cls, "name")
    ]


def _is_subclass(value: Any, base: type) -> bool:
    """Whether a value is a subclass of ``base``. In Python 3.10 ``dict[str, int]`` is a type too, and `issubclass` raises."""
    return isinstance(value, type) and not isinstance(value, GenericAlias) and issubclass(value, base)


def load_own(path: str) -> Any:
    """`load_object` for a user's own module, which may also lie in the current folder.

    The folder stays on Python's path, for modules that are imported later. It is the last one, so that a file beside the data
    never takes the place of a module of Python or of a library.

    Raises: as `load_object`.
    """
    with contextlib.suppress(FileNotFoundError):  # the folder was deleted
        if (here := os.getcwd()) not in sys.path:
            sys.path.append(here)
            importlib.invalidate_caches()
    return load_object(path)


def load_object(path: str) -> Any:
    """The object at ``package.module:attribute``.

    Raises: `UserError` if it cannot be imported or does not exist.
    """
    module, _, attribute = path.partition(":")
    if not module or not attribute:
        raise UserError(f"{path!r} is not an import path; write package.module:attribute")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"cannot import {module!r} of {path!r}: {one_line(error)}; is it installed and on PYTHONPATH?"
        ) from error
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise UserError(f"cannot import {module!r} of {path!r}: {one_line(error, named=True)}") from error
    if not hasattr(found, attribute):
        names = [n for n in vars(found) if n.isidentifier() and not n.startswith("_")]
        where = getattr(found, "__file__", None) or "part of Python"
        raise UserError(f"module {module!r} ({where}) has no {attribute!r}; {did_you_mean(attribute, names)}")
    return getattr(found, attribute)


def _import(name: str, file: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise UserError(f"cannot load {file}: {one_line(error, named=True)}; correct or remove the file") from error


def _loaded(point: importlib.metadata.EntryPoint) -> Any:
    try:
        return point.load()
    except (Exception, SystemExit) as error:
        where = f"cannot load {point.value} (entry point {point.name} in {point.group})"
        raise UserError(f"{where}: {one_line(error, named=True)}; correct or uninstall that package") from error
