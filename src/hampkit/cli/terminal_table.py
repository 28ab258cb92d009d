"""Tables and text for a terminal of any width: no number, no interval and no flag is ever cut or broken.

A table has several forms, the widest first, and the first that fits is printed. Where none fits, each row of the widest form is
printed as a record with a line for each column.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from shutil import get_terminal_size
from typing import Literal

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from hampkit.cli.wrapping import wrapped
from hampkit.errors import visible

UNBOUNDED = 100_000  # columns of what is no terminal: as wide as needed
GAP = 2  # blanks between columns
Kind = Literal["name", "number", "flags"]


@dataclass(frozen=True)
class Column:
    """A head and what stands below it: names, numbers with an interval in brackets, or flags."""

    head: str
    kind: Kind = "number"


@dataclass(frozen=True)
class Form:
    """One form of a table. The first column holds names."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()  # below the table: what the cells of this form leave out

    def widths(self) -> list[int]:
        heads = [column.head for column in self.columns]
        return [max(map(cell_len, cells)) for cells in zip(heads, *self.rows, strict=True)]

    def width(self) -> int:
        """The columns of the terminal that the table takes."""
        return sum(self.widths()) + GAP * (len(self.columns) - 1)


def stdout_console() -> Console:
    """The console of standard output; where that is no terminal, nothing is bound to a width."""
    if not sys.stdout.isatty():
        return Console(width=UNBOUNDED, highlight=False)
    return Console(width=get_terminal_size().columns)  # by itself a Console takes 80 columns if TERM is dumb


def show_table(console: Console, title: str, forms: Sequence[Form], bold: Sequence[bool] = (), least: int = 0) -> None:
    """Print the first form that fits; bold: which rows are; least: the first form that is considered."""
    say(console, title, "italic")
    chosen = max(fitting(forms, console.width), least)
    form = forms[chosen] if chosen < len(forms) else forms[0]
    if chosen < len(forms):
        _show_lines(console, form, bold)
    else:
        _show_records(console, form)
    for note in form.notes:
        say(console, note, "dim")


def fitting(forms: Sequence[Form], width: int) -> int:
    """The first form that fits; the number of forms if none does."""
    return next((k for k, form in enumerate(forms) if form.width() <= width), len(forms))


def say(console: Console, text: str, style: str = "") -> None:
    """Print a text in lines of the terminal's width, broken between words and never inside an interval."""
    for line in wrapped(text, console.width):
        _print(console, line, style)


def _show_lines(console: Console, form: Form, bold: Sequence[bool]) -> None:
    widths = form.widths()
    heads = _line(form, [column.head for column in form.columns], widths)
    _print(console, heads, "bold")
    _print(console, "─" * form.width())
    for k, row in enumerate(form.rows):
        _print(console, _line(form, row, widths), "bold" if bold and bold[k] else "")


def _line(form: Form, cells: Sequence[str], widths: Sequence[int]) -> str:
    """The cells of a row side by side: numbers to the right, all others to the left."""
    padded = []
    for column, cell, width in zip(form.columns, cells, widths, strict=True):
        space = " " * (width - cell_len(cell))
        padded.append(space + cell if column.kind == "number" else cell + space)
    return (" " * GAP).join(padded).rstrip()


def _show_records(console: Console, form: Form) -> None:
    """A name, and below it a line for each of the other cells, in two where one is too long."""
    for row in form.rows:
        _print(console, row[0], "bold")
        for column, cell in zip(form.columns[1:], row[1:], strict=True):
            for line in wrapped(f"  {column.head}: {cell}", console.width, "    "):
                _print(console, line)


def _print(console: Console, line: str, style: str = "") -> None:
    console.print(Text(visible(line), style=style), no_wrap=True, crop=False, overflow="ignore")
