"""A .npz file of a user: arrays of inputs and labels, and possibly of groups."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hampkit.data.memory import check_fits
from hampkit.data.table_values import MIN_ROWS, RawTable, TableOptions, compact, listed, similar
from hampkit.errors import UserError, one_line

CHANNELS = (1, 3, 4)  # grey, red-green-blue, with transparency


def read_arrays(path: Path, options: TableOptions) -> RawTable:
    """The arrays of a .npz file.

    Raises: `UserError` for a damaged file, for missing or unsuitable arrays, and for values that are missing.
    """
    _check_options(path, options)
    x_name, y_name, x, y, group = _read(path, options)
    what = f"array {x_name!r} of {path}"
    _check_inputs(what, x)
    x, notes = _channels_first(what, x)
    y = _one_column(y)
    _check_labels(f"array {y_name!r} of {path}", y, x, x_name)
    if group is not None:
        group = _group_codes(f"array {options.group!r} of {path}", group, x, x_name)
    x, kept, done = _without_missing(what, x, y, options.missing)
    y, group = y[kept], None if group is None else group[kept]
    texts = np.char.decode(y, "utf-8", "replace") if y.dtype.kind == "S" else y
    values = compact(what, x, " of the array")
    rows = None if kept.all() else np.flatnonzero(kept)
    return RawTable(values, texts, f"array {y_name!r}", notes=notes, done=done, rows=rows, group=group)


def _check_options(path: Path, options: TableOptions) -> None:
    """Check that no option is given that arrays have no use for."""
    for key in ("drop", "categories", "na"):
        if values := list(getattr(options, key)):
            raise UserError(f"data.{key}={values} needs named columns, {path} has arrays; change the array 'x' instead")
    if options.missing == "category":
        raise UserError(f"data.missing=category needs named columns, {path} has arrays; take missing=drop or median")


def _without_missing(
    what: str, x: np.ndarray, y: np.ndarray, missing: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The inputs without NaN, the rows that were kept (N,) bool, and what was done, in words.

    Raises: `UserError` for NaN if ``missing`` is ``error``.
    """
    gaps = np.asarray(np.isnan(x)) if x.dtype.kind == "f" else np.zeros(x.shape, dtype=bool)
    rows = np.asarray(gaps.reshape(len(x), -1).any(1))
    unlabelled = np.isnan(y) if y.dtype.kind == "f" and missing == "drop" else np.zeros(len(y), dtype=bool)
    if not (rows.any() or unlabelled.any()):
        return x, ~rows, ()
    if missing == "error":
        raise UserError(
            f"{what} has nan in data row {int(rows.argmax()) + 1} ({int(rows.sum()):,} of {len(x):,} rows have one); leave such"
            " rows out with missing=drop, or fill them with missing=median"
        )
    if missing == "drop":
        kept = ~(rows | unlabelled)
        _check_left(what, kept)
        return x[kept], kept, (f"missing=drop left out {int((~kept).sum()):,} of {len(x):,} rows of {what}",)
    empty = gaps.all(0)
    if empty.any():
        raise UserError(f"{what} has no value at {np.argwhere(empty)[0].tolist()} in any row; leave that feature out")
    filled = np.where(gaps, np.nanmedian(x, axis=0), x)
    return filled, np.ones(len(x), dtype=bool), (f"missing=median filled {int(gaps.sum()):,} values of {what}",)


def _check_left(what: str, kept: np.ndarray) -> None:
    if kept.sum() < MIN_ROWS:
        raise UserError(
            f"missing=drop leaves {int(kept.sum())} of {len(kept):,} rows of {what}, and at least {MIN_ROWS} are needed;"
            " fill values with missing=median, or leave out features"
        )


def _read(path: Path, options: TableOptions) -> tuple[str, str, np.ndarray, np.ndarray, np.ndarray | None]:
    """The names of inputs and labels, and the arrays: x (N, *shape), y (N,), group (N,) or None; shapes are not checked yet."""

    def picked(there: list[str]) -> list[str]:
        label = (options.label,) if options.label else ("y", "labels", "label")
        wanted = [("x", "features", "X"), label, *([(options.group,)] if options.group else [])]
        return [_pick(path, there, names) for names in wanted]

    found = read_npz(path, picked, "x=…, y=…")
    (x_name, x), (y_name, y), *rest = found
    return x_name, y_name, x, y, rest[0][1] if rest else None


def read_npz(path: Path, pick: Callable[[list[str]], list[str]], example: str) -> list[tuple[str, np.ndarray]]:
    """Arrays of a .npz file with their names; pick: from the names in the file to those that are read.

    example: the arguments of ``numpy.savez`` that write such a file, for messages.
    Raises: `UserError` for a damaged file, for arrays that do not fit into memory, and as ``pick``.
    """
    try:
        with _open_npz(path) as archive:
            wanted = pick(list(archive.files))
            check_fits(path, sum(_bytes(archive, name) for name in dict.fromkeys(wanted)))
            return [(name, _array(archive, name)) for name in wanted]
    except UserError:
        raise
    except Exception as error:  # a damaged archive may raise anything
        raise UserError(
            f"cannot read {path}: {one_line(error)}; write it with numpy.savez(file, {example}), no arrays of objects"
        ) from None


def _open_npz(path: Path) -> Any:
    archive = np.load(path, allow_pickle=False)
    if isinstance(archive, np.ndarray):
        raise ValueError("it holds a single array (.npy)")
    return archive


def _array(archive: Any, name: str) -> np.ndarray:
    """One array of the archive. Raises: `ValueError` for a member that is none, which NumPy returns as bytes."""
    array = archive[name]
    if not isinstance(array, np.ndarray):
        raise ValueError(f"its member {name!r} is no array")
    return array


def _bytes(archive: Any, name: str) -> float:
    """The memory that an array needs by its header: as stored, and as the features that are made of it."""
    try:
        with archive.zip.open(f"{name}.npy") as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(stream)
    except (KeyError, ValueError):  # no array, see `_array`, or a damaged one
        return 0.0
    return math.prod(map(float, shape)) * (dtype.itemsize + 5)  # float32 and, for whole numbers, uint8


def _pick(path: Path, names: list[str], wanted: tuple[str, ...]) -> str:
    for name in wanted:
        if name in names:
            return name
    raise UserError(
        f"no array {' or '.join(map(repr, wanted))} in {path}; {similar(wanted[0], names)}it holds {listed(names)}"
    )


def _check_inputs(what: str, x: np.ndarray) -> None:
    if x.dtype.kind not in "biuf" or x.ndim < 2:
        raise UserError(f"{what} is {x.dtype} {x.shape}; give numbers of shape (rows, features…)")
    if x.size == 0:
        raise UserError(f"{what} is empty, shape {x.shape}; give at least {MIN_ROWS} rows")


def _channels_first(what: str, x: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Images (N, H, W, C) as (N, C, H, W), with a note; other inputs unchanged."""
    if x.ndim != 4 or x.shape[-1] not in CHANNELS or x.shape[1] in CHANNELS:
        return x, ()
    first = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    return first, (f"{what} {x.shape} has its channels last; it is read as {first.shape}, with the channels first",)


def _one_column(y: np.ndarray) -> np.ndarray:
    """Labels of shape (N, 1), or one-hot (N, C), as (N,); others unchanged."""
    if y.ndim == 2 and y.shape[1] == 1:
        return y[:, 0]
    if y.ndim == 2 and y.dtype.kind in "biuf" and ((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all():
        return y.argmax(1)
    return y


def _check_labels(what: str, y: np.ndarray, x: np.ndarray, x_name: str) -> None:
    if y.dtype.kind not in "biufUS" or y.shape != x.shape[:1]:
        raise UserError(
            f"{what} is {y.dtype} {y.shape}; give whole numbers or text of shape ({len(x)},),"
            f" one label for each row of {x_name!r}"
        )


def _group_codes(what: str, group: np.ndarray, x: np.ndarray, x_name: str) -> np.ndarray:
    """Groups numbered from 0, (N,) int64."""
    if group.dtype.kind not in "biuSU" or group.shape != x.shape[:1]:
        raise UserError(
            f"{what} is {group.dtype} {group.shape}; give whole numbers or text of shape ({len(x)},),"
            f" one group for each row of {x_name!r}"
        )
    return np.unique(group, return_inverse=True)[1].astype(np.int64)
