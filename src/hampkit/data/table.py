"""A user's own data: a .csv or .parquet table with a label column, or a .npz with arrays."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from hampkit.data.base import Place, Source, fingerprint
from hampkit.data.table_arrays import read_arrays
from hampkit.data.table_columns import read_table
from hampkit.data.table_values import MIN_ROWS, Names, class_labels, domain_of, listed
from hampkit.errors import UserError
from hampkit.types import Dataset

_SUFFIXES = (".csv", ".parquet", ".npz")


@dataclass(frozen=True)
class File(Source):
    """A table of your own: text columns become one-hot blocks, labels become 0 … C-1."""

    name: ClassVar[str] = "file"
    stratified: ClassVar[bool] = True
    about: ClassVar[str] = "a table of your own: .csv, .parquet or .npz (--data FILE --label COLUMN)"

    file: str = ""  # path of a .csv, .parquet or .npz file
    label: str = ""  # the column (.npz: the array) with the classes
    group: str = ""  # the column (.npz: the array) whose equal values belong together, such as rows of one person
    drop: tuple[str, ...] = ()  # columns to leave out
    title: str = ""  # name in results and folders; empty: the file's stem

    def __post_init__(self) -> None:
        plain = re.sub(r"[^A-Za-z0-9._]", "_", self.title or Path(self.file).stem)
        object.__setattr__(self, "title", plain[:60])  # it becomes part of a folder's name

    def load(self, place: Place) -> Dataset:
        path, names = _existing(self.file), Names(self.label, self.group, self.drop)
        raw = read_arrays(path, names) if path.suffix.lower() == ".npz" else read_table(path, names)
        if len(raw.x) < MIN_ROWS:
            raise UserError(f"{path} has {len(raw.x)} rows; at least {MIN_ROWS} are needed for a split, give more")
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
            group=None if group is None else torch.from_numpy(group),
        )


def _existing(file: str) -> Path:
    path = Path(file).expanduser()
    if not file:
        raise UserError("data set 'file' needs a file; give --data FILE, or file = \"…\" in the section data")
    if path.is_dir():
        raise UserError(f"{path} is a folder; name one {listed(_SUFFIXES)} file in it")
    if path.suffix.lower() not in _SUFFIXES:
        raise UserError(f"{path} has the suffix {path.suffix!r}; save it as .csv, .parquet or .npz")
    if not path.exists():
        raise UserError(f"no file {path}; check the path, it is read relative to {Path.cwd()}")
    if not path.is_file():
        raise UserError(f"{path} is a pipe or a device, which would be waited for; copy what it holds into a file")
    return path
