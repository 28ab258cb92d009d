"""Plain values → checked frozen dataclasses. Wrong types, choices and names are refused with one line."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from hampkit.errors import UserError, did_you_mean, nearest, shortened

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], place: str) -> T:
    """An instance of a dataclass from plain values; place: the name of the section in error messages.

    Raises: `UserError` for an unknown name or a value of another type.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{place} must be a section with keys, not {values!r}")
    hints = typing.get_type_hints(cls)
    names = {f.name for f in dataclasses.fields(cls) if f.init}  # pyright: ignore[reportArgumentType]
    for key in values:
        if key not in names:
            raise UserError(f"unknown key {key!r} in {place}; {did_you_mean(key, names)}")
    return cls(**{key: coerce(value, hints[key], f"{place}.{key}") for key, value in values.items()})


def coerce(value: Any, hint: Any, place: str) -> Any:
    """The value as the type of a field, given by its type hint; place: the key in error messages.

    Raises: `UserError` for a value of another type.

    >>> coerce(1, float, "train.lr")
    1.0
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else build(hint, value, place)
    if origin is typing.Literal:
        if value in args:
            return value
        choices = [str(choice) for choice in args]
        near = nearest(str(value), choices)
        raise UserError(f"{place}={_show(value)} must be one of {', '.join(choices)}" + (f"; {near}" if near else ""))
    if origin in (types.UnionType, typing.Union):
        return _union(value, args, place)
    if origin is tuple:
        items = value if isinstance(value, (list, tuple)) else [value]
        return tuple(coerce(item, args[0], place) for item in items)
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:  # a Python integer may be larger than any float
            number = math.inf
        if not math.isfinite(number):
            raise UserError(f"{place}={shortened(str(value), 40)} must be finite")
        return number
    if hint is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise UserError(f"{place}={_show(value)} must be {_NAMES.get(hint, hint)}, not {type(value).__name__}")


def once(shorthand: str, options: Mapping[str, Any], *keys: str) -> None:
    """Check that a shorthand option and its key are not both given.

    shorthand: the option with its value, as it is written. keys: the names of its key.

    Raises: `UserError` if both are given: one of them would be ignored.
    """
    for key in keys:
        if key in options:
            raise UserError(f"{shorthand} and {key}={options[key]} are the same option; leave one out")


def check_once(options: Mapping[str, Any], seed: int | None, data: str = "", label: str = "") -> None:
    """Check that seed, table and label are not also given by their keys.

    Raises: `UserError` as `once`.
    """
    if seed is not None:
        once(f"--seed {seed}", options, "seed")
    if data:
        once(f"--data {data}", options, "data.file", "file")
    if label:
        once(f"--label {label}", options, "data.label", "label")


def field_names(cls: type) -> list[tuple[str, ...]]:
    """The names of the fields of a dataclass; those of a nested section follow the name of the section."""
    hints = typing.get_type_hints(cls)
    found: list[tuple[str, ...]] = []
    for f in dataclasses.fields(cls):
        inner = hints[f.name]
        nested = isinstance(inner, type) and dataclasses.is_dataclass(inner)
        found += [(f.name, *n) for n in field_names(inner)] if nested else [(f.name,)]
    return found


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def _union(value: Any, args: tuple[Any, ...], place: str) -> Any:
    if value is None and type(None) in args:
        return None
    (wanted,) = (a for a in args if a is not type(None))
    return None if value == "none" and type(None) in args else coerce(value, wanted, place)


def parse_text(text: str) -> Any:
    """The value of ``key=value`` on the command line: a number, true/false, a [list, …], else the text itself.

    >>> parse_text("0.5"), parse_text("true"), parse_text("[60, 90]"), parse_text("adam")
    (0.5, True, [60, 90], 'adam')
    """
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        return [parse_text(item) for item in text[1:-1].split(",") if item.strip()]
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if re.match(r"[+-]?0\d|.*_", text):
        return text  # 01 is a name, a day or a code; 1_000 is a number only in Python
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _show(value: Any) -> str:
    return repr(value) if isinstance(value, str) else str(value)
