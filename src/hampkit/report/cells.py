"""Text in the cells of a CSV file."""

from __future__ import annotations

from hampkit.errors import visible


def safe(text: str) -> str:
    r"""The text, with an apostrophe in front if a spreadsheet would take it for a formula, and no hidden characters.

    >>> safe("=1+1"), safe("Location30"), safe("a\x1b[31mb\u202e")
    ("'=1+1", 'Location30', 'a\\x1b[31mb\\u202e')
    """
    shown = visible(text)
    return "'" + shown if text.startswith(("=", "+", "-", "@", "\t", "\r")) else shown
