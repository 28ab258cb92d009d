"""Texts as Markdown: escaped, on one line."""

from __future__ import annotations

import re

from hampkit.errors import visible


def text(given: str) -> str:
    """Text on one line, with the characters escaped that Markdown would take for markup, and hidden ones made visible."""
    escaped = re.sub(r"([\\`*\[\]|#])", r"\\\1", visible(" ".join(str(given).split())))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def prose(given: str) -> str:
    """`text`, with what stands in backticks as code."""
    parts = re.split(r"`{1,2}([^`<>&|]+)`{1,2}", str(given))
    return "".join(f"`{visible(part)}`" if i % 2 else _part(part) for i, part in enumerate(parts))


def code(given: str) -> str:
    """A command as code, on one line; as `text` if it has characters that some readers take for markup in code too.

    >>> code("hampkit run toy/hamp"), code("hampkit run <b>")
    ('`hampkit run toy/hamp`', 'hampkit run &lt;b&gt;')
    """
    return text(given) if re.search(r"[`<>&|]", given) else f"`{visible(given)}`"


def _part(given: str) -> str:
    """`text` with a blank at either end where the text has one."""
    inner = text(given)
    return f"{' ' if inner and given[:1].isspace() else ''}{inner}{' ' if given[-1:].isspace() else ''}"
