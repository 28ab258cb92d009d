"""How the tables of an audit are read: the same options as for the data of a run."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from hampkit.data.table_columns import read_file
from hampkit.data.table_values import TableOptions, check_columns
from hampkit.errors import Notice, UserError

TEXT_FILES = (".csv", ".tsv")


@dataclass(frozen=True)
class Reading:
    """How files are read, see the fields of `hampkit.data.table.File`, and which columns are left out."""

    drop: tuple[str, ...] = ()  # columns that nobody receives, neither the model nor the attacks
    na: tuple[str, ...] = ()  # texts that mean a missing value, besides empty cells, NA, NaN, null and the like
    header: bool | None = None  # whether the first line holds names; none: so, unless it looks like a record
    separator: str = ""  # one character, or tab; empty: the one of , ; tab | that divides most lines alike
    decimal: Literal[".", ","] = "."

    @property
    def given(self) -> dict[str, Any]:
        """The options that were given, as they are written, with their values."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        return {f"data.{name}": list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def file(self, path: Path, label: str, group: str) -> tuple[Any, tuple[str, ...]]:
        """The table of a .csv, .tsv or .parquet file, and notes. label, group: columns whose texts must stay exact.

        Raises: `UserError`.
        """
        if path.suffix.lower() not in TEXT_FILES:
            self._check_texts(str(path), "is no .csv or .tsv file")
        options = TableOptions(
            label=label,
            group=group,
            na=self.na,
            header=self.header,
            separator=self.separator,
            decimal=self.decimal,
        )
        table, skipped = read_file(path, options)
        kept = self._without(str(path), table)
        self._note_commas(path, kept)
        return kept, skipped

    def memory(self, what: str, table: Any) -> Any:
        """A table in memory, without the columns to leave out.

        Raises: `UserError` for options of text files.
        """
        self._check_texts(what, "is a table in memory")
        return self._without(what, table)

    def _note_commas(self, path: Path, table: Any) -> None:
        """Warn of a column of text that holds numbers with decimal commas."""
        for name, column in zip(table.column_names, table.columns, strict=True):
            first = [text for text in column.slice(0, 1000).to_pylist() if isinstance(text, str)]
            if first and self.decimal == "." and all(re.fullmatch(r"[+-]?\d+,\d+", text) for text in first):
                note = f"column {name!r} of {path} holds numbers with decimal commas, such as {first[0]!r}, and is read as text"
                warnings.warn(f"{note}; 'decimal=,' reads them as numbers", Notice, stacklevel=4)

    def _check_texts(self, what: str, why: str) -> None:
        given = [option for option in self.given if option != "data.drop"]
        if given:
            raise UserError(f"{given[0]} has no effect on {what}, which {why}; leave it out")

    def _without(self, what: str, table: Any) -> Any:
        check_columns(what, table.column_names, ((name, "data.drop") for name in self.drop))
        return table.drop_columns(list(dict.fromkeys(self.drop))) if self.drop else table
