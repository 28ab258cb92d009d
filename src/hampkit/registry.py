"""Names → classes. A new defense or attack is one new file: it is found because it lies in the package.

Third parties register by entry point: group ``hampkit.defenses``, ``hampkit.attacks`` or ``hampkit.generators``, any name,
value ``package.module:Class``.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import inspect
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from types import GenericAlias, ModuleType
from typing import Any

from hampkit.code_hash import code_of
from hampkit.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Registry:
    """All concrete classes with a ``name`` below ``base`` (``module:Class``) in a package, and those of entry points."""

    kind: str  # "defense", for error messages
    package: str  # "hampkit.defenses"; also the entry point group
    base: str  # "hampkit.defenses.base:Defense"

    def get(self, name: str) -> type[Any]:
        known = self.classes()
        if name not in known:
            raise UserError(f"unknown {self.kind} {name!r}; {did_you_mean(name, known)}")
        return known[name]

    def classes(self) -> dict[str, type[Any]]:
        """Every registered class by name, sorted by name."""
        return dict(sorted(_scan(self).items()))


DEFENSES = Registry("defense", "hampkit.defenses", "hampkit.defenses.base:Defense")
ATTACKS = Registry("attack", "hampkit.attacks", "hampkit.attacks.base:Attack")
DATASETS = Registry("data set", "hampkit.data", "hampkit.data.base:Source")
GENERATORS = Registry("generator", "hampkit.generators", "hampkit.generators.base:Generator")


def check_installed(where: object, defense: str, attacks: Iterable[str] = ()) -> None:
    """Errors: `UserError` where a run was made with what is not here any more."""
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
    base = load_object(registry.base)
    package = importlib.import_module(registry.package)
    modules = [
        _import(f"{registry.package}.{m.name}", f"{getattr(m.module_finder, 'path', registry.package)}/{m.name}.py")
        for m in pkgutil.iter_modules(package.__path__)
    ]
    found: dict[str, type[Any]] = {}
    for cls in (cls for module in modules for cls in _concrete(module, base)):
        found[cls.name] = cls  # pyright: ignore[reportAttributeAccessIssue]
    for point in importlib.metadata.entry_points(group=registry.package):
        cls = _loaded(point)
        if not (_is_subclass(cls, base) and hasattr(cls, "name")):
            raise UserError(
                f"entry point {point.name} = {point.value} is no {registry.kind}; it must name a {base.__name__} with a name"
            )
        found[cls.name] = cls  # pyright: ignore[reportAttributeAccessIssue]
    for cls in found.values():
        code_of(cls)  # taken now: a file that is edited later is not the one that was imported
    return found


def _concrete(module: ModuleType, base: type) -> list[type]:
    classes = [cls for cls in vars(module).values() if _is_subclass(cls, base)]
    return [
        cls
        for cls in classes
        if cls.__module__ == module.__name__ and not inspect.isabstract(cls) and hasattr(cls, "name")
    ]


def _is_subclass(value: Any, base: type) -> bool:
    """Whether it is a class below ``base``; in Python 3.10 ``dict[str, int]`` passes for a class and cannot be asked."""
    return isinstance(value, type) and not isinstance(value, GenericAlias) and issubclass(value, base)


def load_object(path: str) -> Any:
    """``package.module:attribute`` → the object, with one clear line when there is none."""
    module, _, attribute = path.partition(":")
    if not module or not attribute:
        raise UserError(f"{path!r} is no import path; write package.module:attribute")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f"cannot import {module!r} of {path!r}: {error}; is it installed and on PYTHONPATH?") from error
    except (Exception, SystemExit) as error:  # whatever a user's module raises, it is about that module
        raise UserError(f"cannot import {module!r} of {path!r}: {_said(error)}") from error
    if not hasattr(found, attribute):
        names = [n for n in vars(found) if n.isidentifier() and not n.startswith("_")]
        raise UserError(f"module {module!r} has no {attribute!r}; {did_you_mean(attribute, names)}")
    return getattr(found, attribute)


def _import(name: str, file: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise UserError(f"cannot load {file}: {_said(error)}; mend the file or take it away") from error


def _loaded(point: importlib.metadata.EntryPoint) -> Any:
    try:
        return point.load()
    except (Exception, SystemExit) as error:
        where = f"cannot load {point.value} (entry point {point.name} in {point.group})"
        raise UserError(f"{where}: {_said(error)}; mend or uninstall that package") from error


def _said(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
