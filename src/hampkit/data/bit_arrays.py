"""Bits in .npy and .npz files, read block by block: as int64 or float64 they are large (Texas100: 3.3 GB)."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from hampkit.data.bits import Bits, Expected, join, packed
from hampkit.data.memory import check_fits
from hampkit.errors import UserError, one_line

_BLOCK = 1 << 26  # bytes of an array that are read at once


class _Array(NamedTuple):
    """An array in a file; its values have not been read yet."""

    path: Path
    name: str  # "array" or "array 'features'"
    stream: IO[bytes]
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool


def read_table(paths: tuple[Path, ...], expected: Expected) -> Bits:
    """One .npy file (N, 1 + d): labels from 1 to C in column 0, then d bits.

    Raises: `UserError` for other content.
    """
    (path,) = paths
    labels: list[np.ndarray] = []

    def bits(array: _Array) -> Iterator[np.ndarray]:
        for first, block in _blocks(array):
            labels.append(_numbered(array, block[:, 0], first, expected))
            yield _bits(array, block[:, 1:], first, expected, column=2)

    with _readable(path), path.open("rb") as stream:
        array = _open(path, "array", stream, expected)
        what = f"{expected.features + 1}: a label and {expected.features} features"
        _check_columns(array, expected.features + 1, what, expected)
        rows = packed(bits(array))
    return join(path, expected, rows, np.concatenate(labels) if labels else np.empty(0))


def read_pair(paths: tuple[Path, ...], expected: Expected) -> Bits:
    """Two .npy files: bits (N, d), and labels (N,) from 1 to C.

    Raises: `UserError` for other content.
    """
    features, labels = paths
    with _readable(features), features.open("rb") as stream:
        rows = _features(_open(features, "array", stream, expected), expected)
    with _readable(labels), labels.open("rb") as stream:
        array = _open(labels, "array", stream, expected)
        if len(array.shape) != 1:
            expected.wrong(labels, f"{array.name} has the shape {array.shape}", "one label per row, shape (N,)")
        parts = [_numbered(array, block, first, expected) for first, block in _blocks(array)]
    return join(labels, expected, rows, np.concatenate(parts) if parts else np.empty(0))


def read_npz(paths: tuple[Path, ...], expected: Expected) -> Bits:
    """One .npz file with bits ``features`` (N, d) and one-hot ``labels`` (N, C).

    Raises: `UserError` for other content.
    """
    (path,) = paths
    with _readable(path), zipfile.ZipFile(path) as archive:
        for name in ("features", "labels"):
            if f"{name}.npy" not in archive.namelist():
                names = ", ".join(archive.namelist())
                expected.wrong(path, f"no array {name!r} among {names:.100}", "the arrays 'features' and 'labels'")
        with archive.open("features.npy") as stream:
            rows = _features(_open(path, "array 'features'", stream, expected), expected)
        with archive.open("labels.npy") as stream:
            array = _open(path, "array 'labels'", stream, expected)
            what = f"{expected.classes}: one-hot labels of {expected.classes} classes"
            _check_columns(array, expected.classes, what, expected)
            parts = [_hot(array, block, first, expected) for first, block in _blocks(array)]
    return join(path, expected, rows, np.concatenate(parts) if parts else np.empty(0))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a damaged header may raise anything
        raise UserError(f"cannot read {path} ({one_line(error)}); replace it by a whole file or remove it") from None


def _open(path: Path, name: str, stream: IO[bytes], expected: Expected) -> _Array:
    """The header of an array.

    Raises: `ValueError` for no such header, `UserError` for an array that is not numeric.
    """
    version = np.lib.format.read_magic(stream)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"version {version} of the .npy format holds no numbers")
    shape, fortran, dtype = read(stream)
    if dtype.kind not in "biuf":  # objects are stored as pickles, which are never read
        expected.wrong(path, f"{name} has the type {dtype}", "numbers")
    return _Array(path, name, stream, shape, dtype, fortran)


def _check_columns(array: _Array, columns: int, what: str, expected: Expected) -> None:
    if len(array.shape) != 2 or array.shape[1] != columns:
        expected.wrong(array.path, f"{array.name} has the shape {array.shape}", f"(rows, columns) with {what}")


def _blocks(array: _Array) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks (n, *shape[1:]) of rows, each with the number of its first row, counted from 1."""
    width = int(np.prod(array.shape[1:], dtype=np.int64)) * array.dtype.itemsize
    n = array.shape[0]
    step = (
        n if array.fortran else max(1, _BLOCK // width)
    )  # stored column by column, so that rows cannot be read one by one
    check_fits(array.path, 2.0 * step * width + n * width / array.dtype.itemsize / 8)  # a block, and all values as bits
    for start in range(0, n, max(1, step)):
        count = min(step, n - start)
        content = array.stream.read(count * width)
        if len(content) != count * width:
            raise EOFError(f"{array.name} ends early, it should have {n} rows")
        block = np.frombuffer(content, array.dtype)
        yield start + 1, block.reshape((count, *array.shape[1:]), order="F" if array.fortran else "C")
    array.stream.read(1)  # the checksum of a member is compared when its end is read


def _features(array: _Array, expected: Expected) -> np.ndarray:
    _check_columns(array, expected.features, f"{expected.features} features", expected)
    return packed(_bits(array, block, first, expected) for first, block in _blocks(array))


def _bits(array: _Array, block: np.ndarray, first: int, expected: Expected, column: int = 1) -> np.ndarray:
    """A block (n, d) as uint8. column: the number of its first column, for the message.

    Raises: `UserError` unless 0 or 1.
    """
    bad = (block != 0) & (block != 1)  # NaN is neither
    if bad.any():
        row, place = (int(i) for i in np.unravel_index(bad.argmax(), bad.shape))
        found = f"{block[row, place]} in row {first + row}, column {column + place} of the {array.name}"
        expected.wrong(array.path, found, "0 or 1")
    return block.astype(np.uint8)


def _numbered(array: _Array, labels: np.ndarray, first: int, expected: Expected) -> np.ndarray:
    """Labels (n,) in 1 … C of any numeric type → (n,) uint8 in 0 … C-1.

    Raises: `UserError` for other labels.
    """
    good = (labels >= 1) & (labels <= expected.classes) & (labels == np.floor(labels))
    if not good.all():
        row = int(good.argmin())
        hint = "; the labels seem to count from 0, add 1" if labels[row] == 0 else ""
        found = f"label {labels[row]} in row {first + row} of the {array.name}"
        expected.wrong(array.path, found, f"whole numbers from 1 to {expected.classes}{hint}")
    return labels.astype(np.uint8) - 1


def _hot(array: _Array, block: np.ndarray, first: int, expected: Expected) -> np.ndarray:
    """One-hot labels (n, C) → (n,) uint8 in [0, C).

    Raises: `UserError` unless each row has a single 1.
    """
    bad = (_bits(array, block, first, expected).sum(1, dtype=np.int64)) != 1
    if bad.any():
        row = int(bad.argmax())
        found = f"row {first + row} of the {array.name} has {int(block[row].sum())} ones"
        expected.wrong(array.path, found, "one-hot labels, exactly one 1 in each row")
    return block.argmax(1).astype(np.uint8)
