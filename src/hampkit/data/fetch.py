"""Public files: found in the user's folder or downloaded, verified by checksum, read from archives without unpacking."""

from __future__ import annotations

import logging
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, TypeVar

from hampkit.config.content import file_hash
from hampkit.config.files import in_the_way
from hampkit.data.base import Place
from hampkit.data.memory import check_fits
from hampkit.data.network import check_reachable
from hampkit.errors import UserError, one_line

T = TypeVar("T")
_TIMEOUT = 30  # seconds without an answer


@dataclass(frozen=True)
class PublicFile:
    """A public file: its name, its checksum and its source."""

    name: str
    checksum: str = ""  # "sha256:…" or "md5:…"; empty: none is published, see hampkit.data.first_seen
    url: str = ""  # empty: it is part of an archive and never downloaded by itself


def obtain(place: Place, files: Sequence[PublicFile], folders: Sequence[str] = ()) -> tuple[PublicFile, Path]:
    """The first of ``files`` in the user's folder, else the download of the first one with a url.

    Raises: `UserError` for a wrong checksum, and if there is neither a file nor a network.
    """
    return find(place, files, folders) or _download(place, next(file for file in files if file.url))


def find(place: Place, files: Sequence[PublicFile], folders: Sequence[str] = ()) -> tuple[PublicFile, Path] | None:
    """The first of ``files`` in ``place.data_dir`` or its sub-``folders``, or None.

    Raises: `UserError` for a wrong checksum.
    """
    if place.data_dir is None:
        return None
    for folder in (place.data_dir, *(place.data_dir / name for name in folders)):
        for file in files:
            if (folder / file.name).is_file():
                verify(folder / file.name, file)
                return file, folder / file.name
    return None


def fetch(place: Place, file: PublicFile) -> Path:
    """The file in the cache, downloaded if it is missing.

    Raises: `UserError` with instructions to get it by hand.
    """
    return _download(place, file)[1]


def verify(path: Path, file: PublicFile) -> None:
    """Check the checksum of a file, if one is published.

    Raises: `UserError` for a file with another checksum.
    """
    kind, _, expected = file.checksum.partition(":")
    if kind and (found := checksum(path, kind)) != expected:
        source = f" from {file.url}" if file.url else ""
        raise UserError(
            f"{path} is not the expected file: {kind} {found}, expected {expected};"
            f" replace it by {file.name}{source} or remove it"
        )


def known(file: PublicFile) -> str:
    """The line of `hampkit data check` for a verified file."""
    return f"checksum {file.checksum.replace(':', ' ')}, as published"


def read_members(
    archive: Path, names: Iterable[str], limit: int = 1 << 30, optional: Iterable[str] = ()
) -> dict[str, bytes]:
    """The content of some members of a tar archive, read into memory: nothing is written to disk.

    limit: the most bytes of one member.
    Raises: `UserError` for a damaged archive, for any link or member outside the archive's folder, and for a missing member that
    is not ``optional``.
    """
    return parse_members(archive, dict.fromkeys((*names, *optional), _whole), limit, optional)


def parse_members(
    archive: Path, parsers: Mapping[str, Callable[[IO[bytes]], T]], limit: int = 1 << 30, optional: Iterable[str] = ()
) -> dict[str, T]:
    """`read_members` for members too large for memory: each parser reads the stream of its member.

    Raises: `UserError` as `read_members`, and if a parser fails.
    """
    found: dict[str, T] = {}
    with _readable(archive), tarfile.open(archive) as tar:
        for member in tar:
            _check_member(archive, member)
            name = str(PurePosixPath(member.name))
            if name in parsers:
                found[name] = parsers[name](_stream(archive, tar, member, limit))
        while tar.fileobj and tar.fileobj.read(1 << 20):  # the checksum of a compressed archive is at its end
            pass
    for name in sorted(parsers.keys() - found.keys() - set(optional)):
        raise UserError(f"{archive} holds no file {name!r}; replace it by the public archive or remove it")
    return found


def read_member(archive: Path, name: str, limit: int = 1 << 30) -> bytes:
    """The content of one member of a tar archive.

    Raises: `UserError` as `read_members`.
    """
    return read_members(archive, [name], limit)[name]


def _download(place: Place, file: PublicFile) -> tuple[PublicFile, Path]:
    cached = place.cache / file.name
    kind, _, expected = file.checksum.partition(":")
    if cached.is_file() and (not kind or checksum(cached, kind) == expected):
        return file, cached
    if not place.download:
        raise UserError(_by_hand(place, file, "this command downloads nothing"))
    if reason := in_the_way(place.cache):
        raise UserError(_by_hand(place, file, f"no place for a download: {reason}"))
    import pooch

    try:
        check_reachable(file.url)
        with _quiet(pooch.get_logger()):
            ask: Any = pooch.HTTPDownloader(progressbar=place.progress, timeout=_TIMEOUT)
            return file, Path(pooch.retrieve(file.url, file.checksum or None, file.name, place.cache, downloader=ask))
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; pooch's wrong checksum is a ValueError
        reason = f"the download failed: {one_line(error, named=True)}"
        raise UserError(_by_hand(place, file, reason)) from None


def _by_hand(place: Place, file: PublicFile, reason: str) -> str:
    kind, _, expected = file.checksum.partition(":")
    named = "any folder named by --data-dir or $HAMPKIT_DATA"
    folder = place.data_dir or (named if in_the_way(place.cache) else f"{place.cache}, or into {named}")
    checksum = f" ({kind} {expected})" if kind else ""
    return f"no file {file.name} and {reason}; put {file.name}{checksum} from {file.url} into {folder}"


def checksum(path: Path, algorithm: str) -> str:
    """The md5 or sha256 of a file in hex digits.

    Raises: `UserError` if it cannot be read.
    """
    try:
        return file_hash(path, algorithm)
    except OSError as error:
        raise UserError(f"cannot read {path}: {one_line(error)}; make it readable or remove it") from None


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a damaged archive may raise anything
        raise UserError(
            f"{archive} is damaged or not an archive ({one_line(error, 120)}); fetch it again or remove it"
        ) from None


def _check_member(archive: Path, member: tarfile.TarInfo) -> None:
    path, windows = PurePosixPath(member.name), PureWindowsPath(member.name)
    outside = path.is_absolute() or windows.drive or windows.root or ".." in (*path.parts, *windows.parts)
    if outside or not (member.isreg() or member.isdir()) or member.issparse():  # a sparse member may claim any size
        what = "lies outside its folder" if outside else "is neither a plain file nor a folder"
        raise UserError(
            f"{archive} is unsafe: its member {member.name!r} {what}; replace it by the public archive or remove it"
        )


def _stream(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, limit: int) -> IO[bytes]:
    stream = tar.extractfile(member) if member.isreg() and member.size <= limit else None
    if stream is None:
        raise UserError(
            f"{archive} is not the expected archive: its member {member.name!r} is not a file of at most {limit} bytes;"
            " replace it by the public archive or remove it"
        )
    check_fits(archive, float(member.size))
    return stream  # reading a member that ends early raises a ReadError


def _whole(stream: IO[bytes]) -> bytes:
    return stream.read()


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Silence pooch: only the command line prints."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
