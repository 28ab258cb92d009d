"""The lines above a table in a text file: Excel's line ``sep=;``, and comments that begin with #."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hampkit.text import counted

SEPARATORS = (",", ";", "\t", "|")
NAMED = {"tab": "\t", "\\t": "\t", "space": " "}  # as they are written on the command line
SAMPLE = 100  # lines that the separator is found in
COMMENTS = 1000  # most lines that are looked at


class Preamble(NamedTuple):
    """The lines that are no part of the table, and the separator of the table below them."""

    lines: int  # number of lines above the table
    separator: str  # given, declared, or found
    comments: int  # lines with # among those above


def first_lines(path: Path, most: int = 0) -> list[str]:
    """The lines of a file that `preamble_of` needs. most: read so many bytes only; 0: lines of any length.

    Raises: `OSError`.
    """
    lines: list[str] = []
    of_table = 0
    with path.open("rb") as file:
        stream = io.BytesIO(file.read(most)) if most else file
        with io.TextIOWrapper(stream, "utf-8-sig", "replace", newline="") as texts:
            for line in texts:
                lines.append(line)
                of_table += bool(of_table) or not (_is_above(line) or declared_separator(line))
                if of_table == SAMPLE or len(lines) == COMMENTS:
                    break
    return lines


def preamble_of(lines: Sequence[str], given: str = "", header: bool | None = None) -> Preamble:
    """The lines above a table, and its separator, from the first lines of the file.

    given: the separator that the user gave, or an empty text. header: whether the user has declared a header; None: not declared.
    The last line that begins with # may hold the names: if it has as many cells as the lines below, none of them empty and no two
    alike, and if the line below it is a record.
    """
    declared = declared_separator(lines[0]) if lines else ""
    start = 1 if declared else 0
    end = _below_comments(lines, start)
    below = [line for line in lines[end : end + SAMPLE] if line.strip()]
    separator = given or declared or separator_of(below)
    first = end - _of_table(lines[start:end], below, separator, header)
    comments = sum(line.startswith("#") for line in lines[start:first])
    return Preamble(first if comments else start, separator, comments)


def skipped(path: Path, above: Preamble) -> tuple[str, ...]:
    """What a result tells about the lines that were left out.

    >>> skipped(Path("t.csv"), Preamble(2, ",", 2)), skipped(Path("t.csv"), Preamble(0, ",", 0))
    (('2 lines of comments (#) above the table in t.csv were skipped',), ())
    """
    were = "was" if above.comments == 1 else "were"
    lines = counted(above.comments, "line")
    return (f"{lines} of comments (#) above the table in {path.name} {were} skipped",) if above.comments else ()


def declared_separator(line: str) -> str:
    """The separator in a first line ``sep=;``, which Excel reads and writes; empty for another line."""
    found = re.fullmatch(r"\ufeff?\"?sep=([^\"\r\n])\"?", line.rstrip("\r\n"), re.IGNORECASE)
    return found[1] if found else ""


def separator_of(lines: Sequence[str]) -> str:
    """The character that divides most lines into the same number of columns, at least two; of several the one with most."""
    votes = {}
    for character in SEPARATORS:
        widths = [len(cells(line, character)) for line in lines if line.strip()]
        usual = _usual(widths)
        votes[character] = (usual > 1, widths.count(usual), usual)
    return max(SEPARATORS, key=lambda character: votes[character])


def cells(line: str, separator: str) -> list[str]:
    """The cells of a line.

    >>> cells('a,"b, c"', ","), cells("", ",")
    (['a', 'b, c'], [''])
    """
    try:
        return next(csv.reader([line.rstrip("\r\n")], delimiter=separator), [""]) or [""]
    except (csv.Error, TypeError):  # a cell that is longer than the reader allows, a separator of several characters
        return line.split(separator)


def _below_comments(lines: Sequence[str], start: int) -> int:
    """The place of the first line that is neither a comment nor empty; ``start`` if there is none."""
    for k in range(start, len(lines)):
        if not _is_above(lines[k]):
            return k
    return start


def _is_above(line: str) -> bool:
    """Whether a line is empty or a comment, where it stands above a table."""
    return not line.strip() or line.startswith("#")


def _of_table(marked: Sequence[str], below: Sequence[str], separator: str, header: bool | None) -> int:
    """How many of the lines above ``below``, the last of those that may begin with #, are names or records."""
    width = _usual([len(cells(line, separator)) for line in below])
    run = 0  # the last lines that have as many cells as the table
    while run < len(marked) and width > 1 and len(cells(marked[-run - 1], separator)) == width:
        run += 1
    rows = [cells(line, separator) for line in marked[len(marked) - run :]]
    records = [cells(line, separator) for line in below]
    alike = 0  # the last of them that may be records, as in a column of colours: #00ff00
    while alike < run and _fits(rows[run - alike - 1], records):
        alike += 1
    if header is False:
        return alike
    if run and _fits(records[0], records[1:]):  # else the first line of ``below`` holds the names
        return next((run - k for k in range(max(0, run - alike - 1), run) if _may_be_names(rows[k])), 0)
    return 0


def _may_be_names(row: Sequence[str]) -> bool:
    names = [cell.lstrip("#").strip() for cell in row]
    return all(names) and len(set(names)) == len(names)


def _fits(row: Sequence[str], records: Sequence[Sequence[str]]) -> bool:
    """Whether a row may be one more of the records: no column of numbers has something else in it."""
    columns = zip(row, *(record for record in records if len(record) == len(row)), strict=True)
    return all(not all(map(_is_number, values)) or _is_number(cell) for cell, *values in columns)


def _is_number(cell: str) -> bool:
    """Whether a cell is empty or holds a number, with a point or a comma."""
    try:
        float(cell.replace(",", ".") or 0)
    except ValueError:
        return False
    return True


def _usual(widths: Sequence[int]) -> int:
    return max(sorted(set(widths), reverse=True), key=widths.count, default=1)
