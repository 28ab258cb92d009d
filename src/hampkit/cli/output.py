"""Printing: lines without characters that control a terminal, in any encoding."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Any, TextIO

from hampkit.errors import visible

# behind the name of a page
REPLACED = " (in place of the page of an earlier command; to keep both, add --out with another folder)"


def write(*lines: object, stream: TextIO | None = None) -> None:
    """Print lines; control and right-to-left characters of names, paths and labels become escapes."""
    text = "\n".join(visible(part) for line in lines for part in str(line).split("\n"))
    print(text, file=stream or sys.stdout)


def write_json(document: Any, sort: bool = False) -> None:
    """Print JSON in which every character that a terminal does not show is an escape."""
    text = json.dumps(document, indent=1, sort_keys=sort, ensure_ascii=False)
    print("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def replace_unknown_characters() -> None:
    """Print a question mark for each character that the encoding of a terminal or pipe does not have, instead of failing.

    A stream that was closed before the start, as by ``>&-``, is None: what is printed there is dropped.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # a stream that a test or a notebook has replaced
            stream.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
