"""Text in the cells of a CSV file."""

from __future__ import annotations


def safe(text: str) -> str:
    """The text, with an apostrophe in front if a spreadsheet would take it for a formula.

    >>> safe("=1+1"), safe("Location30")
    ("'=1+1", 'Location30')
    """
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
