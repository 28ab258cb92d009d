"""Columns of a user's table that are allowed but probably not meant to be features: identifiers, the label in other words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hampkit.config.command_line import option
from hampkit.data.table_values import TableOptions, listed

_ROWS_PER_VALUE = 10  # with fewer rows, values determine the label by chance
_MOST_VALUES = 100  # of numbers with more values, ranges are looked at
_LEAST = 10  # rows outside the most frequent class; with fewer, one of many columns separates them by chance
_FEW = 0.005  # share of rows that a column may miss and still determine the label
_OF_OTHERS = 0.05  # and of the rows that the most frequent class alone would miss


def identifier_note(path: Path, name: str, column: Any, options: TableOptions) -> str:
    """A line about a column of whole numbers that looks like an identifier; empty for other columns."""
    if not _is_identifier(name, column):
        return ""
    return (
        f"column {name!r} of {path} looks like an identifier: {len(column)} whole numbers, no two alike; a network"
        f" learns such a column by heart: leave it out with {option('drop', *options.drop, name)}"
    )


def blank_note(path: Path, options: TableOptions, classes: Sequence[str]) -> str:
    """A line about classes whose names differ only by blanks, or by blanks and case; empty if there are none."""
    plain = [name.strip().casefold() for name in classes]
    alike = [name for name, short in zip(classes, plain, strict=True) if plain.count(short) > 1]
    if not alike:
        return ""
    blanks = len({name.strip() for name in classes}) < len(classes)
    how, remedy = ("blanks", "remove the blanks") if blanks else ("case", "write them alike")
    return (
        f"label column {options.label!r} of {path} has classes that differ only by {how}: {listed(alike, 6)}; they are classes"
        f" of their own: {remedy} if that is not meant"
    )


def telling_notes(
    path: Path, names: Sequence[str], blocks: Sequence[np.ndarray], y: NDArray[np.int64], options: TableOptions
) -> list[str]:
    """A line about each column whose value alone determines the label of all but a few rows.

    blocks: per column (N, k), as the network receives it; y: (N,) classes.
    """
    base = len(y) - int(np.bincount(y).max())
    few = min(max(2, _FEW * len(y)), _OF_OTHERS * base)
    missed = {name: _missed(block, y) for name, block in zip(names, blocks, strict=True)} if base >= _LEAST else {}
    return [
        f"column {name!r} of {path} alone determines the label {options.label!r} of {len(y) - n:,} of {len(y):,} rows; unless it"
        f" is known whenever the model is asked, leave it out with {option('drop', *options.drop, name)}"
        for name, n in missed.items()
        if n <= few
    ]


def _missed(block: np.ndarray, y: NDArray[np.int64]) -> int:
    """The number of rows whose label a column (N, k) does not determine."""
    most = min(_MOST_VALUES, len(y) // _ROWS_PER_VALUE)
    if block.shape[1] > 1:
        return _of_values(block.argmax(1), y) if block.dtype == np.uint8 and block.shape[1] <= most else len(y)
    values, codes = np.unique(block[:, 0], return_inverse=True)
    return _of_values(codes, y) if len(values) <= most else _of_ranges(codes, y)


def _of_values(codes: NDArray[np.integer], y: NDArray[np.int64]) -> int:
    """The number of rows whose class is not the most frequent one of their value."""
    classes = int(y.max()) + 1
    counts = np.bincount(codes * classes + y, minlength=(int(codes.max()) + 1) * classes).reshape(-1, classes)
    return len(y) - int(counts.max(1).sum())


def _of_ranges(codes: NDArray[np.integer], y: NDArray[np.int64]) -> int:
    """The number of rows outside of the range of values of their class, if each class has one range.

    In the order of the values, each such row begins and ends a run of another class.
    """
    classes = int(y.max()) + 1
    in_order = np.sort(codes * classes + y) % classes  # several times faster than np.lexsort
    runs = 1 + int((np.diff(in_order) != 0).sum())
    return max(0, (runs - classes + 1) // 2)


def _is_identifier(name: str, column: Any) -> bool:
    """Whether whole numbers without repeats are sorted, or their column is named like an identifier."""
    import pyarrow as pa

    if not pa.types.is_integer(column.type) or column.null_count:
        return False
    values = column.to_numpy()
    steps = np.sign(np.diff(values.astype(np.float64)))
    sorted_ = bool((steps == steps[0]).all()) if len(steps) else False
    named = re.search(r"(^|[^A-Za-z])(id|index)$|(ID|Id|Index)$", name) or name.lower() in ("id", "index")
    return len(np.unique(values)) == len(values) and (sorted_ or bool(named))
