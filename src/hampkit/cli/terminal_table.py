"""Tables for a terminal of any width: no number and no flag is ever cut.

Where a table is too wide, flags stand below one another, names go on in another line, intervals stand below their values, and
at last columns move to a second table under the same names.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

LEAST = 16  # columns that a name must have, so that it is still read as one
UNBOUNDED = 100_000  # columns of what is no terminal: as wide as needed
Kind = Literal["name", "number", "flags"]
Cells = list[list[str]]


@dataclass(frozen=True)
class Column:
    """A head and what stands below it: names, numbers with an interval in brackets, or flags with blanks between."""

    head: str
    kind: Kind = "number"


@dataclass(frozen=True)
class Grid:
    """A table as it is printed: lines within a cell are set."""

    columns: tuple[Column, ...]
    heads: list[str]
    rows: Cells

    def widths(self) -> list[int]:
        return [max(map(_width, column)) for column in zip(self.heads, *self.rows, strict=True)]

    def width(self) -> int:
        """With a blank on either side of each cell and lines between."""
        return sum(self.widths()) + 3 * len(self.heads) + 1


def stdout_console() -> Console:
    """The console of standard output; where that is no terminal, nothing is bound to a width."""
    return Console() if sys.stdout.isatty() else Console(width=UNBOUNDED, highlight=False)


def show_table(
    console: Console,
    title: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    bold: Sequence[bool] = (),
) -> None:
    """Print a table whose first column holds names; bold: which rows are."""
    console.print(Text(title, style="italic"))
    for grid in fitted(columns, rows, console.width):
        table = Table(width=grid.width())
        for column, head in zip(grid.columns, grid.heads, strict=True):
            table.add_column(Text(head), justify="right" if column.kind == "number" else "left", no_wrap=True)
        for k, row in enumerate(grid.rows):
            table.add_row(*map(Text, row), style="bold" if bold and bold[k] else "")
        console.print(table, crop=False)


def fitted(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[Grid]:
    """The table in the first of these forms that is no wider than width, or in several tables.

    A part may still be too wide, where the terminal is narrower than a name and one column.
    """
    whole = Grid(tuple(columns), [c.head for c in columns], [list(row) for row in rows])
    if whole.width() <= width:
        return [whole]
    flags = _each(whole, flags=_below)
    stacked = _each(flags, number=_interval_below)
    for grid, least in ((flags, 24), (stacked, LEAST)):
        if narrow := _with_names(grid, width, least):
            return [narrow]
    return _parts(_named(stacked, LEAST), width)


def _each(grid: Grid, **change: Callable[[str], str]) -> Grid:
    """With cells of some kinds changed; heads of several words fill several lines."""
    rows = [[change.get(c.kind, str)(cell) for c, cell in zip(grid.columns, row, strict=True)] for row in grid.rows]
    return Grid(grid.columns, [_below(head) if c.kind == "number" else head for c, head in _headed(grid)], rows)


def _headed(grid: Grid) -> list[tuple[Column, str]]:
    return list(zip(grid.columns, grid.heads, strict=True))


def _below(text: str) -> str:
    return "\n".join(text.split())


def _interval_below(text: str) -> str:
    """``0.658 [0.617, 0.697]`` in two lines, and in a third what stands in parentheses."""
    return text.replace(" [", "\n[").replace(" (", "\n(")


def _with_names(grid: Grid, width: int, least: int) -> Grid | None:
    """With the longest names that fit; None where they would be shorter than ``least``."""
    natural = max(_width(row[k]) for row in grid.rows for k, c in enumerate(grid.columns) if c.kind == "name")
    for most in range(natural, least - 1, -1):
        narrow = _named(grid, most)
        if narrow.width() <= width:
            return narrow
    return None


def _named(grid: Grid, most: int) -> Grid:
    """With names in lines of at most so many characters, broken behind hyphens and between words."""

    def lines(text: str) -> str:
        return "\n".join(textwrap.wrap(text, most)) or text

    heads = [lines(head) if c.kind == "name" else head for c, head in _headed(grid)]
    rows = [
        [lines(cell) if c.kind == "name" else cell for c, cell in zip(grid.columns, row, strict=True)]
        for row in grid.rows
    ]
    return Grid(grid.columns, heads, rows)


def _parts(grid: Grid, width: int) -> list[Grid]:
    """Several tables, each with the first column and as many of the others as there is room for."""
    parts, chosen = [], [0]
    for k in range(1, len(grid.columns)):
        if len(chosen) > 1 and _only(grid, [*chosen, k]).width() > width:
            parts.append(_only(grid, chosen))
            chosen = [0]
        chosen.append(k)
    return [*parts, _only(grid, chosen)]


def _only(grid: Grid, chosen: Sequence[int]) -> Grid:
    columns, heads, *rows = ([line[k] for k in chosen] for line in (grid.columns, grid.heads, *grid.rows))
    return Grid(tuple(columns), heads, rows)  # pyright: ignore[reportArgumentType]


def _width(text: str) -> int:
    return max(map(cell_len, text.split("\n")))
