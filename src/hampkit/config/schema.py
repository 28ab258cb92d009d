"""Plain values → checked frozen dataclasses, with one clear line for each unknown name, wrong type or choice."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from hampkit.errors import UserError, did_you_mean, nearest, shortened

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], place: str) -> T:
    """An instance of a dataclass from plain values. place: the name of the section, for messages.

    Raises: `UserError` for an unknown key, and for a value that does not fit its field.
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
    """A value as the type of a field. place: its address, for messages.

    Raises: `UserError` for a value that does not fit.

    >>> coerce(1, float, "train.lr")
    1.0
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else build(hint, value, place)
    if origin is typing.Literal:
        return _choice(value, args, place)
    if origin in (types.UnionType, typing.Union):
        return _union(value, args, place)
    if origin is tuple:
        items = value if isinstance(value, (list, tuple)) else [value]
        if isinstance(value, str) and "," in value and args[0] in (int, float):
            raise UserError(f"{place}={_show(value)} must be a list; write {place}=[{value.strip('() ')}]")
        return tuple(coerce(item, args[0], place) for item in items)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is float and is_number:
        return _finite(value, place)
    if hint is str and is_number:
        return str(value)
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    remedy = _remedy(value, hint, place)
    raise UserError(
        f"{place}={_show(value)} must be {_NAMES.get(hint, hint)}, not {_KINDS.get(type(value), type(value).__name__)}{remedy}"
    )


def once(shorthand: str, options: Mapping[str, Any], *keys: str) -> None:
    """Check that an option is not given together with the key that it stands for, because one of the two would be ignored.

    shorthand: the option as written, with its value. keys: the names of the key that it stands for.
    Raises: `UserError` if both are given.
    """
    for key in keys:
        if key in options:
            raise UserError(f"{shorthand} and {key}={options[key]} are the same option; leave one out")


def check_once(options: Mapping[str, Any], seed: int | None, data: str = "", label: str = "") -> None:
    """Check seed, table and label by `once`.

    Raises: `UserError` for one that is also given by its key.
    """
    if seed is not None:
        once(f"--seed {seed}", options, "seed")
    if data:
        once(f"--data {data}", options, "data.file", "file")
    if label:
        once(f"--label {label}", options, "data.label", "label")


@functools.cache
def field_types(cls: type) -> dict[tuple[str, ...], Any]:
    """The types of the fields of a dataclass by their address: (name,), or (section, name) in a nested section."""
    hints = typing.get_type_hints(cls)
    found: dict[tuple[str, ...], Any] = {}
    for f in dataclasses.fields(cls):
        inner = hints[f.name]
        nested = isinstance(inner, type) and dataclasses.is_dataclass(inner)
        found |= {(f.name, *n): t for n, t in field_types(inner).items()} if nested else {(f.name,): inner}
    return found


def _remedy(value: Any, hint: Any, place: str) -> str:
    """The end of a message about a value of a wrong type: what to write instead; empty if that is not clear.

    >>> _remedy(1000.0, int, "train.epochs"), _remedy("", int, "train.epochs"), _remedy(0.5, int, "train.epochs")
    ('; write train.epochs=1000', '; nothing stands after the =: write train.epochs=VALUE without blanks', '')
    """
    if value == "":
        return f"; nothing stands after the =: write {place}=VALUE without blanks"
    if hint is int and isinstance(value, float) and value.is_integer():
        return f"; write {place}={int(value)}"
    advice = number_advice(value, hint, place) if isinstance(value, str) else ""
    return f"; {advice}" if advice else ""


def number_advice(text: str, hint: Any, place: str) -> str:
    """KEY=VALUE with the number that a mistyped text stands for; empty if no number is recognised.

    >>> number_advice("0,7", float, "defense.gamma"), number_advice("1,000", int, "train.epochs")
    ('write defense.gamma=0.7', 'write train.epochs=1000')
    >>> number_advice("70%", float, "train.lr"), number_advice("60,90", int, "train.epochs")
    ('write train.lr=0.7', '')
    """
    bare = re.sub(r"[\s_']", "", text)
    if hint not in (int, float) or not re.fullmatch(r"[+-]?[\d.,]*\d[\d.,]*%?", bare):
        return ""
    thousands = re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+", bare)
    whole = bare.replace(",", "") if hint is int and thousands else bare
    number = (whole.replace(",", ".") if whole.count(",") == 1 else whole).rstrip("%")
    try:
        value = float(number) / 100 if bare.endswith("%") else hint(number)
    except ValueError:
        return ""
    return f"write {place}={value:g}" if hint is float else f"write {place}={value}" if value == int(value) else ""


_KINDS = {
    str: "a text",
    bool: "true or false",
    float: "a fraction",
    type(None): "none",
    list: "a list",
    tuple: "a list",
}
_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def _union(value: Any, args: tuple[Any, ...], place: str) -> Any:
    if value is None and type(None) in args:
        return None
    (wanted,) = (a for a in args if a is not type(None))
    return None if value == "none" and type(None) in args else coerce(value, wanted, place)


def _choice(value: Any, choices: tuple[Any, ...], place: str) -> Any:
    if value in choices:
        return value
    names = [str(choice) for choice in choices]
    near = nearest(str(value), names)
    remedy = f"; {near}" if near else _remedy(value, str, place)
    raise UserError(f"{place}={_show(value)} must be one of {', '.join(names)}{remedy}")


def _finite(value: float, place: str) -> float:
    try:
        number = float(value)
    except OverflowError:  # a whole number may have any size
        number = math.inf
    if not math.isfinite(number):
        raise UserError(f"{place}={shortened(str(value), 40)} must be finite")
    return number


def _show(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:79] + "…"
