"""The arguments of the public calls, checked before anything else: one line for a value of a wrong type."""

from __future__ import annotations

import functools
import inspect
import operator
import os
from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from hampkit.config.recipe import Recipe
from hampkit.errors import UserError, did_you_mean, shortened
from hampkit.targets.trained import Trained
from hampkit.workflows.session import Progress, Session, Settings

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
                _check_names(call.__name__, signature, value)
                value.update({key: _checked(key, each) for key, each in value.items()})
            else:
                bound.arguments[name] = _checked(name, value)
        return call(*bound.args, **bound.kwargs)

    return with_checks


def checked_values(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The values, those with these names checked as `checked` does.

    Raises: `UserError` for a value of a wrong type.
    """
    return {name: _checked(name, value) if name in set(names) else value for name, value in values.items()}


def _check_names(call: str, signature: inspect.Signature, settings: Mapping[str, Any]) -> None:
    """Check the names of the settings, among which every unknown keyword argument is.

    Raises: `TypeError` for the first that is unknown.
    """
    known = {*signature.parameters, *Settings.__annotations__} - {"settings"}
    for name in settings:
        if name not in known:
            raise TypeError(f"{call}() got an unexpected keyword argument {name!r}; {did_you_mean(name, known)}")


def _checked(name: str, value: Any) -> Any:
    kind = KINDS.get(name)
    return value if kind is None or (value is None and name in OPTIONAL) else kind(name, value)


def _wrong(name: str, value: Any, wanted: str) -> UserError:
    return UserError(f"{name}={shortened(repr(value), 60)} must be {wanted}")


def _of(kind: type, wanted: str) -> Callable[[str, Any], Any]:
    """The check that a value is of a type, and else the words for it."""

    def check(name: str, value: Any) -> Any:
        if not isinstance(value, kind):
            raise _wrong(name, value, wanted)
        return value

    return check


_text = _of(str, "a text")


def _path(name: str, value: Any) -> Any:
    if not isinstance(value, (str, os.PathLike)) or isinstance(os.fspath(value), bytes):
        raise _wrong(name, value, "a path, as a text or a pathlib.Path")
    expanded = os.path.expanduser(value)  # it leaves the name of an unknown user
    if os.fspath(expanded).startswith("~") and not os.path.lexists(expanded):
        raise UserError(
            f"{name}={os.fspath(value)!r} begins with the name of a user who does not exist; write the whole path"
        )
    return expanded if isinstance(value, str) else Path(expanded)


def _whole(name: str, value: Any) -> int:
    """A whole number, also NumPy's."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise _wrong(name, value, "a whole number, such as 4") from None


def _texts(wanted: str) -> Callable[[str, Any], tuple[str, ...]]:
    """The check of a list of texts; wanted: what it must be, in words."""

    def check(name: str, value: Any) -> tuple[str, ...]:
        if isinstance(value, (str, Mapping)) or not hasattr(value, "__iter__"):
            raise _wrong(name, value, wanted)
        return _each(_text)(name, tuple(value))

    return check


def _options(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise _wrong(name, value, "a dict with texts as keys, such as {'train.lr': 0.1}")
    return {key: _plain(f"{name}[{key!r}]", each) for key, each in value.items()}


def _plain(name: str, value: Any) -> Any:
    """Numbers and arrays of NumPy, pandas and torch as those of Python, and the items of sets and generators as a list.

    Raises: `UserError` for bytes and for a dict, which no option has as its value.
    """
    if isinstance(value, (bytes, Mapping)):
        raise _wrong(name, value, "a number, a text, True, False or a list of these")
    if hasattr(value, "ndim") and hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (str, list, tuple)) or not isinstance(value, Iterable):
        return value
    return sorted(value) if isinstance(value, Set) else list(value)


def _path_or(kind: type, wanted: str) -> Callable[[str, Any], Any]:
    """The check of a path, or of a value of another type."""

    def check(name: str, value: Any) -> Any:
        if isinstance(value, kind):
            return value
        if not isinstance(value, (str, os.PathLike)):
            raise _wrong(name, value, wanted)
        return _path(name, value)

    return check


def _each(check: Callable[[str, Any], Any]) -> Callable[[str, tuple[Any, ...]], tuple[Any, ...]]:
    """The check of every value, named by its place."""
    return lambda name, values: tuple(check(f"{name}[{k}]", value) for k, value in enumerate(values))


_reference = _path_or(Recipe, "a recipe: 'DATA/DEFENSE', a .toml file, or a result of hampkit.recipe")
_run = _path_or(Trained, "a run folder, or a result of hampkit.train")
_names = _texts("a list of names, such as ['loss', 'entropy']")
# may be None
OPTIONAL = {
    "options", "seed", "out", "data_dir", "session", "policy", "scores", "target_scores", "weights", "split",
}  # fmt: skip
KINDS: dict[str, Callable[[str, Any], Any]] = {
    "recipes": _each(_reference),
    "recipe": _reference,
    "reference": _reference,
    "run": _run,
    "runs": _each(_run),
    "dataset": _text,
    "label": _text,
    "canary_kind": _text,
    "device": _text,
    "attacks": _names,
    "defenses": _names,
    "options": _options,
    "data": _path,
    "out": _path,
    "runs_dir": _path,
    "data_dir": _path,
    "shadows_from": _path,
    "scores": _path,
    "target_scores": _path,
    "weights": _path,
    "split": _path,
    "seed": _whole,
    "seeds": _whole,
    "shadows": _whole,
    "canaries": _whole,
    "models": _whole,
    "workers": _whole,
    "policy": _path,
    "fail_if": _texts("a list of texts, such as ['auc.low>0.6']"),
    "force": _of(bool, "True or False"),
    "allow_equal": _of(bool, "True or False"),
    "wait": _of(bool, "True or False"),
    "session": _of(Session, "a hampkit.Session"),
    "progress": _of(Progress, "a hampkit.Progress, such as hampkit.Progress(say=print)"),
}
