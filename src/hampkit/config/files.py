"""Files of the user, and files that are written as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shlex
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from hampkit.config.content import file_hash
from hampkit.errors import UserError, one_line

TABLES = (".csv", ".tsv", ".parquet", ".npz")  # files that may hold a user's own data


def expanded(file: str | Path, place: str) -> Path:
    """A path with ``~`` expanded. place: the option that names it, for the message.

    Raises: `UserError` for a user that does not exist, and for a path that no file can have.
    """
    try:
        path = Path(file).expanduser()
        path.exists()
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(f"{place} {str(file)!r} cannot be a path ({one_line(error)}); give another one") from None
    return path


def plain_file(file: str | Path, place: str) -> Path:
    """The path of an existing file. place: the option that names it, for the message.

    Raises: `UserError` for anything else: a pipe would be waited for.
    """
    path = expanded(file, place)
    if path.is_file():
        return path
    what = (
        "a folder" if path.is_dir() else "a pipe or a device, which would be waited for" if path.exists() else "no file"
    )
    raise UserError(f"{place}={str(file)!r} is {what}; give the path of an existing file")


def is_run(word: str | Path) -> bool:
    """Whether this is the path of a run folder."""
    return is_file(Path(word) / "recipe.json")


def table_advice(name: str, beside: bool = False) -> str:
    """The advice for the path of a table in the place of another name; empty for every other name.

    beside: also for a name that lacks the suffix of a table that is there.

    >>> table_advice("visits.csv"), table_advice("digits")
    ('a table is given by --data visits.csv --label COLUMN (in Python: data=, label=)', '')
    """
    table = name if name.lower().endswith(TABLES) else with_suffix(name) if beside else ""
    return f"a table is given by --data {shlex.quote(table)} --label COLUMN (in Python: data=, label=)" if table else ""


def with_suffix(name: str) -> str:
    """The table that a name without its suffix stands for; empty if there is none."""
    return next((name + suffix for suffix in TABLES if is_file(Path(name + suffix))), "")


def writable(folder: Path, remedy: str = "choose another folder") -> None:
    """Make a folder if it is missing, and check that files can be written into it.

    Raises: `UserError`; its message ends with the remedy.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise UserError(f"cannot write to {folder}: {in_the_way(folder) or one_line(error)}; {remedy}") from None


def is_file(path: Path) -> bool:
    """Whether a file exists at this path. A name that no file can have counts as no file."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def file_facts(path: Path) -> dict[str, Any]:
    """The name, the size in bytes and the SHA-256 of a file, as ``sha256sum`` prints it."""
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": file_hash(path)}


def check_could_write(folder: Path) -> None:
    """`writable` before any work: a folder that was missing is not left behind.

    Raises: `UserError`.
    """
    missing = not folder.exists()
    writable(folder)
    if missing:
        with contextlib.suppress(OSError):
            folder.rmdir()


def check_spared(folder: Path, names: Iterable[str], inputs: Iterable[str | Path | None]) -> None:
    """Check that no file of a report takes the place of an input. names: of the files; inputs: paths.

    Raises: `UserError`.
    """
    given = [path for each in inputs if each and is_file(path := Path(each).expanduser())]
    for name in names:
        with contextlib.suppress(OSError):
            if is_file(folder / name) and any((folder / name).samefile(each) for each in given):
                raise UserError(
                    f"{folder / name} is an input, and a file of the report would take its place; choose another folder by --out"
                )


def in_the_way(folder: Path) -> str:
    """The file that stands in the place of a folder or of one above it, in words; empty if there is none."""
    with contextlib.suppress(OSError, ValueError):  # a name that no file can have
        file = next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None)
        return f"{file} is a file, not a folder" if file else ""
    return ""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A stream whose content replaces the file at the end of the block; after an exception the file is as it was before.

    A kill at any moment leaves the old file or the new one, never a part of one.

    Raises: `OSError`.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
