"""Text in the cells of a CSV file."""

from __future__ import annotations


def safe(text: str) -> str:
    """A text that a spreadsheet would run as a formula gets an apostrophe in front, as spreadsheets themselves do.

    >>> safe("=1+1"), safe("Location30")
    ("'=1+1", 'Location30')
    """
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
