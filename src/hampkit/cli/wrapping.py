"""Text in lines of a terminal's width."""

from __future__ import annotations

import re
import textwrap

GLUED = "\u00a0"  # a blank at which no line is broken
# an interval with its value, a percentage, a number of rows: no line is broken inside
WHOLE = re.compile(r"([\d.]+ )?\[[^\[\]]*\d[^\[\]]*\]|\d %|\bn = \d|\d \+ \d")


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """The lines of a text; indent: of all but the first. Words that are longer than a line stay whole.

    >>> wrapped("an AUC of 0.739 [0.655, 0.813]", 24)
    ['an AUC of', '0.739 [0.655, 0.813]']
    """
    glued = WHOLE.sub(lambda found: found[0].replace(" ", GLUED), text)
    lines = textwrap.wrap(glued, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return [line.replace(GLUED, " ") for line in lines] or [""]
