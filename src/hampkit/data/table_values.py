"""The values of a user's file: compact arrays, classes, and the domain of the inputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hampkit.errors import UserError, meant, nearest
from hampkit.types import Domain

NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"  # a number as text, with a point
MIN_ROWS = 44  # the smallest number of rows that the default split can cut into its segments


@dataclass(frozen=True)
class TableOptions:
    """How a file is read: see the fields of `hampkit.data.table.File`."""

    label: str = ""
    group: str = ""
    drop: Sequence[str] = ()
    missing: str = "error"
    na: Sequence[str] = ()
    categories: Sequence[str] = ()
    header: bool | None = None
    separator: str = ""
    decimal: str = "."

    @property
    def named(self) -> tuple[str, ...]:
        """The columns that are no features: the label, and the group if there is one."""
        return tuple(name for name in (self.label, self.group) if name)


class RawTable(NamedTuple):
    """The content of a file, before labels are numbered."""

    x: np.ndarray  # (N, *shape) uint8 or float32
    labels: np.ndarray | list[str]  # (N,)
    label: str  # "column 'x'" or "array 'y'"
    blocks: tuple[tuple[int, int], ...] = ()  # column ranges of one-hot blocks
    notes: tuple[str, ...] = ()  # see `Dataset.notes`
    done: tuple[str, ...] = ()  # see `Dataset.done`
    rows: np.ndarray | None = None  # (N,) numbers of the rows in the file, if some were left out
    group: np.ndarray | None = None  # (N,) int64: rows with the same number belong together


def compact(what: str, values: np.ndarray, otherwise: str) -> np.ndarray:
    """Numbers (N, *shape) as uint8 if that loses nothing, else as float32.

    what: the column or array, and otherwise: a further remedy, for the message.
    Raises: `UserError` for a value that is not finite.
    """
    if values.dtype.kind in "bui" or bool(np.isfinite(values).all()):
        low, high = values.min(), values.max()
        if low >= 0 and high <= 255 and (values.dtype.kind != "f" or bool((values == np.floor(values)).all())):
            return np.ascontiguousarray(values, dtype=np.uint8)
    with np.errstate(over="ignore"):  # what does not fit into float32 becomes inf and is reported below
        floats = np.ascontiguousarray(values, dtype=np.float32)
    bad = ~np.isfinite(floats)
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        raise UserError(
            f"{what} has {values[place]} in data row {place[0] + 1}, not a finite number (float32);"
            f" fill it, remove the row{otherwise}"
        )
    return floats


def class_labels(path: Path, raw: RawTable) -> tuple[np.ndarray, tuple[str, ...]]:
    """The classes (N,) int64 in [0, C), in the order of the sorted labels, and their names.

    Raises: `UserError` for labels that are no classes, such as fractions or identifiers, and for a single class.
    """
    what, values = f"label {raw.label} of {path}", raw.labels
    codes, names = encode(values) if isinstance(values, list) else _encode_numbers(what, values)
    if len(names) < 2:
        raise UserError(f"{what} has one class only, {names[0]!r:.40}; name another with at least two by --label")
    if 2 * len(names) > len(codes):
        kind = "an identifier" if isinstance(values, list) else "a regression target, or an identifier"
        raise UserError(
            f"{what} has {len(names)} distinct values in {len(codes)} rows: it looks like {kind}, and a classifier needs classes;"
            " name another by --label, or put its values into ranges"
        )
    return codes.astype(np.int64), tuple(names)


def _encode_numbers(what: str, values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Whole numbers (N,) → codes (N,) int64, and the sorted distinct numbers as texts."""
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.floor(values))).all():
        row = int(np.flatnonzero(~np.isfinite(values) | (values != np.floor(values)))[0])
        kind = "no class" if np.isnan(values[row]) else "more like a regression target than a class"
        raise UserError(
            f"{what} has {values[row]} in data row {row + 1}: {kind};"
            " name another column by --label or put its values into classes"
        )
    distinct, codes = np.unique(values, return_inverse=True)
    return codes, [_name(value) for value in distinct.tolist()]


def domain_of(x: Tensor, groups: tuple[tuple[int, int], ...]) -> Domain:
    """The bounds of inputs (N, *shape): per column for a table, one pair for images; whole numbers have step 1."""
    rows = x if x.dim() == 2 else x.reshape(-1, 1)
    low, high = rows.amin(0).float(), rows.amax(0).float()
    # above 2^24 float32 cannot represent a step of 1
    whole = (rows == rows.round()).all(0) if x.is_floating_point() else torch.ones(low.shape, dtype=torch.bool)
    step = (whole & (torch.maximum(low.abs(), high.abs()) < 2**24)).float()
    if x.dim() == 2:
        return Domain(low, high, step, groups)
    return Domain.grid(tuple(x.shape[1:]), float(low), float(high), float(step))


def encode(values: list[Any]) -> tuple[np.ndarray, list[str]]:
    """Values (N,) as texts → codes (N,) int64, and the sorted distinct texts."""
    texts = [str(value) for value in values]
    names = sorted(set(texts))
    index = {name: code for code, name in enumerate(names)}
    return np.fromiter((index[text] for text in texts), np.int64, len(texts)), names


def check_columns(what: object, columns: Sequence[str], wanted: Iterable[tuple[str, str]]) -> None:
    """Check that the wanted columns exist. wanted: the name of each, and the option that gives it.

    Raises: `UserError`.
    """
    for name, place in wanted:
        if name not in columns:
            blanks = len(columns) == 1 and name in columns[0].split()
            advice = "are the values divided by blanks? separator=space; " if blanks else similar(name, columns)
            raise UserError(f"no column {name!r} ({place}) in {what}; {advice}columns: {listed(list(columns))}")


def similar(word: str, names: Iterable[str]) -> str:
    """The part of a message that suggests similar names, such as ``# y`` for ``y``; empty if none is similar."""
    known = list(names)
    hint = meant([name for name in known if name.lstrip("#").strip() == word.strip()]) or nearest(word, known)
    return f"{hint} " if hint else ""


def listed(names: Sequence[str], most: int = 10) -> str:
    """Names in quotes: of more than ``most`` the first ones and the last three, where labels often are, and their number.

    >>> listed(["a", "b"]), listed([f"c{k}" for k in range(9)], 5)
    ("'a', 'b'", "'c0', 'c1', …, 'c6', 'c7', 'c8' (9 in all)")
    """
    chosen = names if len(names) <= most else [*names[: most - 3], *names[-3:]]
    shown = [repr(name if len(name) <= 40 else name[:39] + "…") for name in chosen]
    if len(names) <= most:
        return ", ".join(shown)
    return ", ".join([*shown[:-3], "…", *shown[-3:]]) + f" ({len(names):,} in all)"


def _name(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) else str(value)
