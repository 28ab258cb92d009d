"""A hash of the code of a defense, an attack or a network.

It is part of the name of a run or a step, so that results of edited code are never taken from an old run.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import sys
from typing import Any


def code_of(thing: Any, named: str = "") -> str:
    """Eight hex digits for the source of the module that defines a class or function; empty if the source is unknown.

    Comments and docstrings do not count, nor do the modules that this one imports. The hash is computed once, from the code that
    was imported. named: the module by which the user named the object; if another module of the same package defines it, as for
    ``torchvision.models:resnet18``, both are hashed.
    """
    try:
        return _code_of(thing, named)
    except TypeError:  # the callable cannot be hashed
        return _code_of.__wrapped__(thing, named)


@functools.cache
def _code_of(thing: Any, named: str) -> str:
    own = getattr(thing, "__module__", None) or named
    package = (named or own).split(".")[0]
    found = [_hash(m) for m in dict.fromkeys((named or own, own)) if m.split(".")[0] == package]
    return "-".join(found) if all(found) else ""


def _hash(module: str) -> str:
    """The hash of an imported module; empty if its source cannot be read."""
    try:
        return _hash_of(inspect.getsource(sys.modules[module]))
    except (KeyError, OSError, TypeError, SyntaxError, ValueError):
        return ""


@functools.cache
def _hash_of(text: str) -> str:
    return hashlib.sha256(repr(_as_tuples(ast.parse(text))).encode()).hexdigest()[:8]


def _as_tuples(node: Any) -> Any:
    """A syntax tree as nested tuples without empty fields, so that versions of Python agree."""
    if isinstance(node, ast.AST):
        fields = ((name, _as_tuples(value)) for name, value in ast.iter_fields(node) if name != "kind")
        return (type(node).__name__, *((name, value) for name, value in fields if value not in (None, ())))
    if isinstance(node, list):
        return tuple(_as_tuples(item) for item in node if not _is_text(item))
    return node


def _is_text(node: Any) -> bool:
    """Whether a statement consists of a string alone, such as a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
