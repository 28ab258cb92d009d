"""A .npz file of a user: arrays of inputs and labels, and possibly of groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hampkit.data.table_values import MIN_ROWS, Names, RawTable, compact, listed, similar
from hampkit.errors import UserError, one_line

CHANNELS = (1, 3, 4)  # grey, red-green-blue, with transparency


def read_arrays(path: Path, names: Names) -> RawTable:
    """The arrays of a .npz file.

    Raises: `UserError` for a damaged file, and for missing or unsuitable arrays.
    """
    if names.drop:
        raise UserError(
            f"data.drop={list(names.drop)} needs named columns, {path} has arrays; leave the columns out of 'x'"
        )
    x_name, y_name, x, y, group = _read(path, names)
    _check_inputs(f"array {x_name!r} of {path}", x)
    x, notes = _channels_first(f"array {x_name!r} of {path}", x)
    y = _one_column(y)
    _check_labels(f"array {y_name!r} of {path}", y, x, x_name)
    if group is not None:
        group = _group_codes(f"array {names.group!r} of {path}", group, x, x_name)
    texts = np.char.decode(y, "utf-8", "replace") if y.dtype.kind == "S" else y
    values = compact(f"array {x_name!r} of {path}", x, " of the array")
    return RawTable(values, texts, f"array {y_name!r}", notes=notes, group=group)


def _read(path: Path, names: Names) -> tuple[str, str, np.ndarray, np.ndarray, np.ndarray | None]:
    """The names of inputs and labels, and the arrays: x (N, *shape), y (N,), group (N,) or None; shapes are not checked yet."""
    try:
        with _open_npz(path) as archive:
            there = list(archive.files)
            x_name = _pick(path, there, ("x", "features", "X"))
            y_name = _pick(path, there, (names.label,) if names.label else ("y", "labels", "label"))
            group = archive[_pick(path, there, (names.group,))] if names.group else None
            return x_name, y_name, archive[x_name], archive[y_name], group
    except UserError:
        raise
    except Exception as error:  # a damaged archive may raise anything
        raise UserError(
            f"cannot read {path}: {one_line(error)}; write it with numpy.savez(file, x=…, y=…), no arrays of objects"
        ) from None


def _open_npz(path: Path) -> Any:
    archive = np.load(path, allow_pickle=False)
    if isinstance(archive, np.ndarray):
        raise ValueError("it holds a single array (.npy)")
    return archive


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
