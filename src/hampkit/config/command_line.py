"""Values as they are written on the command line, KEY=VALUE: read, and written so that reading gives the same value.

Quotes are those of TOML: ``"a text"`` with escapes, ``'a text'`` without. Words without quotes are texts too, where nothing in
them could be taken for something else: ``drop=[id, "id, code"]``.
"""

from __future__ import annotations

import re
import shlex
import types
import typing
from collections.abc import Iterator
from typing import Any

from hampkit.config.toml import tomllib
from hampkit.errors import UserError, shortened

_ITEM = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'[^']*'|[^,"'\s][^,]*|)\s*(,|$)""")
_PLAIN = re.compile(r"[^\W\d][\w.-]*|[\w.-]*[^\W\d][\w.-]*")  # a word that needs no quotes in a list


def parse_text(text: str, texts: bool = False) -> Any:
    """The value in ``key=value``: a number, true or false, a [list, …], or else the text.

    texts: the values are texts, also those that look like a number. A list is still a list.
    Raises: `UserError` for a quote without its end.

    >>> parse_text("0.5"), parse_text("true"), parse_text("[60, 90]"), parse_text("adam"), parse_text('[a, "b, c", ""]')
    (0.5, True, [60, 90], 'adam', ['a', 'b, c', ''])
    """
    stripped = text.strip()
    if stripped.startswith("[") and stripped.endswith("]"):
        return [_unquoted(item, texts) for item in _items(stripped[1:-1], text)]
    return _unquoted(stripped, texts)


def read_value(text: str, hint: Any) -> Any:
    """The value in ``key=value`` for a field of this type: where texts are wanted, ``01`` and ``true`` are texts."""
    return parse_text(text, _wants_texts(hint))


def written(value: Any) -> str:
    """A value as the text from which `parse_text` reads it again.

    >>> written(["id", "id, code", ""]), written(True), written("1e3"), written("adam")
    ('[id, "id, code", ""]', 'true', '"1e3"', 'adam')
    """
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_item(each) for each in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return str(value)
    plain = value == value.strip() and value[:1] not in ('"', "'") and value.isprintable()
    return value if plain and parse_text(value) == value else quoted(value)


def option(key: str, *values: str) -> str:
    """``KEY=VALUE`` for an option that holds texts, quoted for a shell where that is necessary: for advice in messages.

    >>> option("drop", "id"), option("drop", "id, code", "")
    ('drop=id', '\\'drop=["id, code", ""]\\'')
    """
    single = len(values) == 1 and values[0].isprintable() and parse_text(values[0], texts=True) == values[0] != ""
    return shlex.quote(f"{key}={values[0] if single else written(list(values))}")


def quoted(text: str) -> str:
    """A text as a TOML string, with escapes in place of what a terminal does not show.

    >>> quoted('a "b"'), quoted("\\x1b")
    ('"a \\\\"b\\\\""', '"\\\\u001b"')
    """
    return '"' + "".join(_escaped(c) for c in text) + '"'


def _escaped(c: str) -> str:
    if c in '"\\':
        return "\\" + c
    if c.isprintable():
        return c
    return f"\\u{ord(c):04x}" if ord(c) < 2**16 else f"\\U{ord(c):08x}"


def _item(value: Any) -> str:
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and parse_text(value) == value
        return value if plain else quoted(value)
    return written(value)


def _items(inner: str, text: str) -> Iterator[str]:
    """The items between the brackets of a list; empty ones, as after a last comma, are left out."""
    at = 0
    while at < len(inner):
        found = _ITEM.match(inner, at)
        if not found:
            raise UserError(
                f"{shortened(text, 80)!r} is no list: a quote has no end, or no comma follows it;"
                " write [word, \"a text, with commas\", 'another']"
            )
        if found[1].strip():
            yield found[1].strip()
        at = found.end()


def _unquoted(text: str, texts: bool) -> Any:
    """One value without the brackets of a list."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            pass  # such as "a" or "b": the quotes are part of the text
    return text if texts else _scalar(text)


def _scalar(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if re.match(r"[+-]?0\d|.*_", text):
        return text  # 01 is a name, a day or a code, and only Python reads 1_000 as a number
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _wants_texts(hint: Any) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return isinstance(args[0], str)
    if origin in (types.UnionType, typing.Union):
        return any(_wants_texts(arg) for arg in args if arg is not type(None))
    return hint is str or (origin is tuple and _wants_texts(args[0]))
