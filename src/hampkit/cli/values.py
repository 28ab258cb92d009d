"""The values that shell completion offers for an option: columns of the given table, and the words that an option takes.

Nothing here imports torch, and only the beginning of a table is read.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from hampkit.catalog import Group
from hampkit.config.preamble import NAMED, cells, first_lines, preamble_of

OF_COLUMNS = ("label", "group", "drop", "categories")  # options whose values are columns
OF_NAMES = {"net": "nets", "generator": "generators"}  # options whose values are names in a list of ``hampkit list``
_MOST = 1 << 20  # bytes of a file of text that are read


def columns(file: str | Path, options: Mapping[str, str] | None = None) -> list[str]:
    """The names of the columns of a .csv, .tsv or .parquet file, or of the arrays of a .npz file; none if it cannot be read.

    options: those that are given, of which ``separator`` and ``header`` decide how text is read.
    """
    path = Path(os.path.expanduser(file))  # unlike Path.expanduser, it leaves the name of an unknown user
    plain = {key.rpartition(".")[2]: value for key, value in (options or {}).items()}
    readers: dict[str, Callable[[], Iterable[str]]] = {
        ".csv": lambda: _header(path, plain),
        ".tsv": lambda: _header(path, plain),
        ".parquet": lambda: _schema(path),
        ".npz": lambda: _arrays(path),
    }
    try:
        suffix = path.suffix.lower()
        names = readers[suffix]() if suffix in readers and path.is_file() else []  # a pipe would be waited for
        return [name for name in dict.fromkeys(names) if name and name.isprintable()]
    except (OSError, ValueError, ImportError, zipfile.BadZipFile):  # the errors of pyarrow are of these kinds
        return []


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


def _header(path: Path, options: Mapping[str, str]) -> list[str]:
    """The cells of the line with the names, or c1, c2, … if there is none."""
    lines = first_lines(path, _MOST)
    header = options.get("header", "").lower() != "false"
    above = preamble_of(
        lines, NAMED.get(options.get("separator", ""), options.get("separator", "")), None if header else False
    )
    found = cells(next((line for line in lines[above.lines :] if line.strip()), ""), above.separator)
    return found if header else [f"c{k + 1}" for k in range(len(found))]


def _schema(path: Path) -> list[str]:
    import pyarrow.parquet

    return list(pyarrow.parquet.read_schema(path).names)


def _arrays(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]
