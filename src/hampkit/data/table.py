"""A user's own data: a .csv, .tsv or .parquet table with a label column, or a .npz with arrays."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal

import torch

from hampkit.config.files import TABLES, expanded, with_suffix
from hampkit.data.base import Place, Source, fingerprint
from hampkit.data.table_arrays import read_arrays
from hampkit.data.table_columns import read_table
from hampkit.data.table_values import MIN_ROWS, TableOptions, class_labels, domain_of, listed
from hampkit.errors import UserError
from hampkit.text import counted
from hampkit.types import Dataset


@dataclass(frozen=True)
class File(Source):
    """A table of your own: text columns become one-hot blocks, labels become 0 … C-1."""

    name: ClassVar[str] = "file"
    stratified: ClassVar[bool] = True
    about: ClassVar[str] = "a table of your own: .csv, .tsv, .parquet or .npz (--data FILE --label COLUMN)"

    file: str = ""  # path of a .csv, .tsv, .parquet or .npz file
    label: str = ""  # the column (.npz: the array) with the classes
    group: str = ""  # the column (.npz: the array) whose equal values belong together, such as rows of one person
    drop: tuple[str, ...] = ()  # columns to leave out
    title: str = ""  # name in results and folders; empty: the file's stem
    missing: Literal["error", "drop", "category", "median"] = "error"  # what is done about rows with missing values
    na: tuple[str, ...] = ()  # texts that mean a missing value, besides empty cells, NA, NaN, null and the like
    categories: tuple[str, ...] = ()  # columns whose values are categories, although they may look like numbers
    header: bool | None = None  # whether the first line holds names; none: so, unless it looks like a record
    separator: str = ""  # one character, or tab; empty: the one of , ; tab | that divides most lines alike
    decimal: Literal[".", ","] = "."  # of numbers in a .csv or .tsv file

    def __post_init__(self) -> None:
        plain = re.sub(r"[^A-Za-z0-9._]", "_", self.title or Path(self.file).stem)
        object.__setattr__(self, "title", plain[:60])  # it becomes part of a folder's name

    def load(self, place: Place) -> Dataset:
        path, options = (
            existing(self.file),
            TableOptions(**{f.name: getattr(self, f.name) for f in fields(TableOptions)}),
        )
        self._check_text_options(path)
        raw = read_arrays(path, options) if path.suffix.lower() == ".npz" else read_table(path, options)
        if len(raw.x) < MIN_ROWS:
            raise UserError(
                f"{path} has {counted(len(raw.x), 'row')}; at least {MIN_ROWS} are needed for a split, give more"
            )
        if raw.group is not None and not raw.group.any():
            one = f"group {raw.label.split()[0]} {self.group!r} of {path} has one value in all {len(raw.x):,} rows"
            raise UserError(f"{one}; a split needs several groups: name another by --group")
        labels, classes = class_labels(path, raw)
        x, y, group = torch.from_numpy(raw.x), torch.from_numpy(labels), raw.group
        return Dataset(
            name=self.title,
            x=x,
            y=y,
            num_classes=len(classes),
            domain=domain_of(x, raw.blocks),
            sha256=fingerprint(x, y, *([] if group is None else [torch.from_numpy(group)])),
            classes=classes,
            notes=raw.notes,
            done=raw.done,
            row=None if raw.rows is None else torch.from_numpy(raw.rows),
            group=None if group is None else torch.from_numpy(group),
        )

    def _check_text_options(self, path: Path) -> None:
        """Check that options for files of text are only given with one."""
        given = {"header": self.header is not None, "separator": self.separator != "", "decimal": self.decimal != "."}
        for key, is_given in given.items():
            if is_given and path.suffix.lower() not in (".csv", ".tsv"):
                raise UserError(f"data.{key} has no effect on {path}, which is no .csv or .tsv file; leave it out")


def existing(file: str | Path, place: str = "data.file") -> Path:
    """The path of a .csv, .tsv, .parquet or .npz file. place: the option that names it, for messages.

    Raises: `UserError` for another suffix, and if there is no such file.
    """
    path = expanded(file, place)
    if not str(file):
        raise UserError("data set 'file' needs a file; give --data FILE, or file = \"…\" in the section data")
    if path.is_dir():
        tables = sorted(each.name for each in path.iterdir() if each.suffix.lower() in TABLES)
        raise UserError(
            f"{path} is a folder; name " + (f"one of {listed(tables)}" if tables else f"a file {listed(TABLES)}")
        )
    if path.suffix.lower() not in TABLES:
        if table := with_suffix(str(path)):
            raise UserError(f"{path} lacks its suffix; write {shlex.quote(table)}")
        raise UserError(f"{path} has the suffix {path.suffix!r}; save it as .csv, .tsv, .parquet or .npz")
    if not path.exists():
        raise UserError(f"no file {path}; check the path, it is read relative to {Path.cwd()}")
    if not path.is_file():
        raise UserError(f"{path} is a pipe or a device, which would be waited for; copy what it holds into a file")
    return path
