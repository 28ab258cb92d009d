"""Files without a published checksum: the sha256 of the first one is recorded, and later files are compared with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, NamedTuple

from hampkit.config.files import replacing
from hampkit.data.fetch import checksum
from hampkit.errors import UserError, one_line, shortened

RECORD = "first-seen.json"  # in the cache folder: {"texas100/texas100.npz": sha256}


class Seen(NamedTuple):
    """A file, its sha256, and whether that was recorded before."""

    path: Path
    name: str  # its key in the record
    sha256: str
    recorded: bool


def look(cache: Path, data_set: str, paths: Iterable[Path]) -> list[Seen]:
    """The files with their sha256.

    Raises: `UserError` if another sha256 is recorded under the same name, or if the record is damaged.
    """
    record = _read(cache / RECORD)
    return [_compare(cache / RECORD, record, path, f"{data_set}/{path.name}") for path in paths]


def keep(cache: Path, seen: Iterable[Seen]) -> list[str]:
    """Record new files, and return a line per file for `hampkit data check`. Call this after the content was checked.

    Raises: `UserError` for a damaged record.
    """
    files = list(seen)
    new = {file.name: file.sha256 for file in files if not file.recorded}
    # without a writable cache the data can be used, but the next file with that name is not compared
    kept = not new or write_whole(cache / RECORD, lambda stream: stream.write(_text(_read(cache / RECORD) | new)))
    fresh = f"recorded in {cache / RECORD}" if kept else f"not recorded, for {cache} cannot be written"
    known = f"the same as first seen (recorded in {cache / RECORD})"
    return [
        f"checksum sha256 {file.sha256} of {file.path.name}: none is published;"
        f" {known if file.recorded else f'seen for the first time, {fresh}'}"
        for file in files
    ]


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> bool:
    """Write a file of the cache atomically; False if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as stream:
            write(stream)
    except OSError:  # such as a full disk: the cache is optional
        return False
    return True


def _compare(record_path: Path, record: dict[str, str], path: Path, name: str) -> Seen:
    found, known = checksum(path, "sha256"), record.get(name)
    if known not in (None, found):
        raise UserError(
            f"{path} is not the file first seen under this name: sha256 {found}, recorded {shortened(known, 64)};"
            f" put the earlier file back, or take {name!r} out of {record_path} (or delete that) to accept this one"
        )
    return Seen(path, name, found, known is not None)


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_bytes())
        if not (isinstance(record, dict) and all(isinstance(value, str) for value in record.values())):
            raise ValueError("it is not a mapping of names to hashes")
    except (OSError, ValueError) as error:  # a damaged record must not accept files that the original would refuse
        raise UserError(
            f"cannot read {path} ({one_line(error, 120)}); delete it to accept the files as they are now"
        ) from None
    return record


def _text(record: dict[str, str]) -> bytes:
    return (json.dumps(record, indent=2, sort_keys=True) + "\n").encode()
