"""A name for the code of a defense, an attack or a network, so that what an edited one gives is never taken from an old run."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import sys
from pathlib import Path
from typing import Any


def code_of(thing: Any, named: str = "") -> str:
    """Eight hex digits of what the module of a class or function says, without comments and docstrings; empty if unknown.

    named: the module that names it; where it is defined in another one of the same package, as ``torchvision.models:resnet18``
    is, both count. Only of these modules, not of what they import. It is taken once: of what was imported, not of a later edit.
    """
    try:
        return _code_of(thing, named)
    except TypeError:  # a callable that no dictionary takes
        return _code_of.__wrapped__(thing, named)


@functools.cache
def _code_of(thing: Any, named: str) -> str:
    own = getattr(thing, "__module__", None) or named
    package = (named or own).split(".")[0]
    said = [_hash(m) for m in dict.fromkeys((named or own, own)) if m.split(".")[0] == package]
    return "-".join(said) if all(said) else ""


def _hash(module: str) -> str:
    """Of an imported module; nothing where its source cannot be had."""
    try:
        return _hash_of(inspect.getsource(sys.modules[module]))
    except (KeyError, OSError, TypeError, SyntaxError, ValueError):
        return ""


@functools.cache
def _hash_of(text: str) -> str:
    return hashlib.sha256(repr(_said(ast.parse(text))).encode()).hexdigest()[:8]


def _said(node: Any) -> Any:
    """A syntax tree as nested tuples; fields that are empty are left out, so that versions of Python agree."""
    if isinstance(node, ast.AST):
        fields = ((name, _said(value)) for name, value in ast.iter_fields(node) if name != "kind")
        return (type(node).__name__, *((name, value) for name, value in fields if value not in (None, ())))
    if isinstance(node, list):
        return tuple(_said(item) for item in node if not _is_text(item))
    return node


def _is_text(node: Any) -> bool:
    """A docstring, or any other text that stands alone."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def file_hash(path: Path) -> str:
    """sha256 of what a file holds, in hex digits; never all of it in memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
