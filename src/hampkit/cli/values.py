"""The values that shell completion offers for an option: columns of the given table, and the words that an option takes.

Nothing here imports torch, and only the first line of a table is read.
"""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

from hampkit.catalog import Group

OF_COLUMNS = ("label", "group", "drop", "categories")  # options whose values are columns
_LONGEST = 1 << 16  # bytes of a first line
_PLAIN = r"[\w.+@%:-]+"  # names that no shell changes


def columns(file: str | Path) -> list[str]:
    """The names of the columns of a .csv or .tsv file, or of the arrays of a .npz file, that need no quotes in a shell."""
    path = Path(file)
    try:
        if not path.is_file():  # a pipe would be waited for
            return []
        names = _arrays(path) if path.suffix.lower() == ".npz" else _header(path)
    except (OSError, ValueError, csv.Error, zipfile.BadZipFile, StopIteration):
        return []
    return [name for name in dict.fromkeys(names) if re.fullmatch(_PLAIN, name)]


def choices(key: str, groups: Iterable[Group]) -> list[str]:
    """The words that an option may be, with or without its section, from its description ``error | drop; what …``.

    >>> choices("missing", [Group("data", "file", [("data.missing=error", "file: error | drop; what is done")])])
    ['error', 'drop']
    """
    found: dict[str, None] = {}
    for group in groups:
        for line, about in group.lines:
            name, _, default = line.partition("=")
            if name == key or name.endswith(f".{key}"):
                words = re.sub(r"^[\w-]+: ", "", about).split(";")[0].split(" | ")
                found |= dict.fromkeys(words if len(words) > 1 else [])
                found |= dict.fromkeys(("true", "false") if default in ("true", "false") else ())
    return list(found)


def divided(given: list[str], incomplete: str) -> tuple[str, str, str] | None:
    """The key, the begun value, and what stands before the value in the word that is completed; None for another word.

    bash divides ``missing=dr`` into three words, and zsh does not.

    >>> divided([], "missing=dr"), divided(["missing", "="], "dr"), divided(["toy/hamp"], "ep")
    (('missing', 'dr', 'missing='), ('missing', 'dr', ''), None)
    """
    if len(given) > 1 and given[-1] == "=":
        return given[-2], incomplete, ""
    key, equals, begun = incomplete.partition("=")
    return (key, begun, f"{key}=") if equals else None


def _header(path: Path) -> list[str]:
    """The cells of the first line, which is divided by the separator that occurs in it most often."""
    with path.open("rb") as file:
        line = file.readline(_LONGEST).decode("utf-8-sig").rstrip("\r\n")
        if declared := re.fullmatch(r"sep=(.)", line, re.IGNORECASE):
            line = file.readline(_LONGEST).decode().rstrip("\r\n")
    separator = declared[1] if declared else max(",;\t|", key=line.count)
    return next(csv.reader([line], delimiter=separator)) if path.suffix.lower() in (".csv", ".tsv") else []


def _arrays(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]
