"""The arguments of the public calls, checked before anything else: one line for a value of a wrong type."""

from __future__ import annotations

import functools
import inspect
import operator
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from hampkit.config.recipe import Recipe
from hampkit.errors import UserError, shortened
from hampkit.targets.trained import Trained
from hampkit.workflows.session import Progress, Session

P = ParamSpec("P")
T = TypeVar("T")


def checked(call: Callable[P, T]) -> Callable[P, T]:
    """The call with its arguments checked by their names, see `KINDS`. A ``~`` in a path is expanded.

    Raises: `UserError` for a value of a wrong type, `TypeError` for an unknown name.
    """
    signature = inspect.signature(call)

    @functools.wraps(call)
    def with_checks(*args: P.args, **kwargs: P.kwargs) -> T:
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            if name == "settings":
                value.update({key: _checked(key, each) for key, each in value.items()})
            else:
                bound.arguments[name] = _checked(name, value)
        return call(*bound.args, **bound.kwargs)

    return with_checks


def _checked(name: str, value: Any) -> Any:
    kind = KINDS.get(name)
    return value if kind is None or (value is None and name in OPTIONAL) else kind(name, value)


def _wrong(name: str, value: Any, wanted: str) -> UserError:
    return UserError(f"{name}={shortened(repr(value), 60)} must be {wanted}")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(name, value, "a text")
    return value


def _path(name: str, value: Any) -> Any:
    if not isinstance(value, (str, os.PathLike)) or isinstance(os.fspath(value), bytes):
        raise _wrong(name, value, "a path, as a text or a pathlib.Path")
    return os.path.expanduser(value) if isinstance(value, str) else Path(value).expanduser()


def _whole(name: str, value: Any) -> int:
    """A whole number, also NumPy's."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise _wrong(name, value, "a whole number, such as 4") from None


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, value, "True or False")
    return value


def _names(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, (str, Mapping)) or not hasattr(value, "__iter__"):
        raise _wrong(name, value, "a list of names, such as ['loss', 'entropy']")
    return tuple(_text(f"{name}[{k}]", each) for k, each in enumerate(value))


def _options(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise _wrong(name, value, "a dict with texts as keys, such as {'train.lr': 0.1}")
    return {key: _number(each) for key, each in value.items()}


def _number(value: Any) -> Any:
    """Numbers of NumPy and torch as those of Python; other values unchanged."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def _reference(name: str, value: Any) -> Any:
    if isinstance(value, Recipe):
        return value
    if not isinstance(value, (str, os.PathLike)):
        raise _wrong(name, value, "a recipe: 'DATA/DEFENSE', a .toml file, or a result of hampkit.recipe")
    return _path(name, value)


def _references(name: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_reference(f"{name}[{k}]", value) for k, value in enumerate(values))


def _run(name: str, value: Any) -> Any:
    if isinstance(value, Trained):
        return value
    if not isinstance(value, (str, os.PathLike)):
        raise _wrong(name, value, "a run folder, or a result of hampkit.train")
    return _path(name, value)


def _session(name: str, value: Any) -> Session:
    if not isinstance(value, Session):
        raise _wrong(name, value, "a hampkit.Session")
    return value


def _progress(name: str, value: Any) -> Progress:
    if not isinstance(value, Progress):
        raise _wrong(name, value, "a hampkit.Progress, such as hampkit.Progress(say=print)")
    return value


OPTIONAL = {"options", "seed", "out", "data_dir", "session"}  # may be None
KINDS: dict[str, Callable[[str, Any], Any]] = {
    "recipes": _references,
    "recipe": _reference,
    "reference": _reference,
    "run": _run,
    "runs": lambda name, values: tuple(_run(f"{name}[{k}]", value) for k, value in enumerate(values)),
    "dataset": _text,
    "label": _text,
    "device": _text,
    "attacks": _names,
    "defenses": _names,
    "options": _options,
    "data": _path,
    "out": _path,
    "runs_dir": _path,
    "data_dir": _path,
    "shadows_from": _path,
    "seed": _whole,
    "seeds": _whole,
    "shadows": _whole,
    "models": _whole,
    "workers": _whole,
    "force": _flag,
    "session": _session,
    "progress": _progress,
}
