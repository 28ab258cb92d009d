"""A .npz file: arrays of inputs and labels, and possibly of groups."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hampkit.data.table_values import MIN_ROWS, RawTable, compact, listed, near
from hampkit.errors import UserError, one_line


def read_arrays(path: Path, label: str, drop: Sequence[str], group: str) -> RawTable:
    if drop:
        raise UserError(f"data.drop={list(drop)} needs named columns, {path} has arrays; leave the columns out of 'x'")
    try:
        with _open_npz(path) as archive:
            names = list(archive.files)
            x_name = _pick(path, names, ("x", "features", "X"))
            y_name = _pick(path, names, (label,) if label else ("y", "labels", "label"))
            x, y = archive[x_name], archive[y_name]
            belongs = archive[_pick(path, names, (group,))] if group else None
    except UserError:
        raise
    except Exception as error:  # a damaged archive may raise anything
        raise UserError(
            f"cannot read {path}: {one_line(error)}; write it with numpy.savez(file, x=…, y=…), no arrays of objects"
        ) from None
    if x.dtype.kind not in "biuf" or x.ndim < 2:
        raise UserError(f"array {x_name!r} of {path} is {x.dtype} {x.shape}; give numbers of shape (rows, features…)")
    if y.dtype.kind not in "biufUS" or y.shape != x.shape[:1]:
        raise UserError(
            f"array {y_name!r} of {path} is {y.dtype} {y.shape}; give whole numbers or text of shape ({len(x)},),"
            f" one label for each row of {x_name!r}"
        )
    if x.size == 0:
        raise UserError(f"array {x_name!r} of {path} is empty, shape {x.shape}; give at least {MIN_ROWS} rows")
    if belongs is not None:
        if belongs.dtype.kind not in "biuSU" or belongs.shape != x.shape[:1]:
            raise UserError(
                f"array {group!r} of {path} is {belongs.dtype} {belongs.shape}; give whole numbers or text of shape ({len(x)},),"
                f" one group for each row of {x_name!r}"
            )
        belongs = np.unique(belongs, return_inverse=True)[1].astype(np.int64)
    texts = np.char.decode(y, "utf-8", "replace") if y.dtype.kind == "S" else y
    values = compact(f"array {x_name!r} of {path}", x, " of the array")
    return RawTable(values, texts, f"array {y_name!r}", group=belongs)


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
        f"no array {' or '.join(map(repr, wanted))} in {path}; {near(wanted[0], names)}it holds {listed(names)}"
    )
