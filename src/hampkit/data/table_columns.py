"""A .csv or .parquet file of a user: columns of numbers and of categories, a label, and possibly a group."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from hampkit.data.table_values import MIN_ROWS, Names, RawTable, compact, encode, listed, similar
from hampkit.errors import UserError, one_line

MAX_CATEGORIES = 100  # distinct values of a text column; more is an identifier, or numbers written as text
_KIND = {".csv": ".csv file with commas between its columns, in UTF-8", ".parquet": ".parquet file"}


def read_table(path: Path, names: Names) -> RawTable:
    """The columns of a .csv or .parquet file.

    Raises: `UserError` for a damaged file, and for missing or unsuitable columns.
    """
    table = _read(path, names)
    _check_names(path, table.column_names, names)
    if table.num_rows == 0:
        raise UserError(f"{path} has a header but no rows; give at least {MIN_ROWS} rows")
    features = _features(path, table.column_names, names)
    parts = [_block(path, name, table.column(name)) for name in features]
    edges = np.cumsum([0, *(block.shape[1] for block, _ in parts)]).tolist()
    return RawTable(
        np.concatenate([block for block, _ in parts], axis=1),  # uint8 only if all blocks are, else float32
        _label_values(path, names.label, table.column(names.label)),
        f"column {names.label!r}",
        tuple((edges[k], edges[k + 1]) for k, (_, one_hot) in enumerate(parts) if one_hot),
        tuple(_identifier_note(path, table, name) for name in features if _is_identifier(name, table.column(name))),
        _group_values(path, names.group, table.column(names.group)) if names.group else None,
    )


def _features(path: Path, columns: list[str], names: Names) -> list[str]:
    found = [name for name in columns if name not in (names.label, names.group, *names.drop)]
    if not found:
        rest = f" and group {names.group!r}" if names.group else ""
        raise UserError(
            f"{path} has no features besides label {names.label!r}{rest} and data.drop={list(names.drop)}; keep at least one"
        )
    return found


def _identifier_note(path: Path, table: Any, name: str) -> str:
    return (
        f"column {name!r} of {path} looks like an identifier: {table.num_rows} whole numbers, no two alike; a network"
        f" learns such a column by heart: leave it out with drop=[{name}]"
    )


def _read(path: Path, names: Names) -> Any:
    """A pyarrow Table with readable column names.

    Raises: `UserError` for a damaged file.
    """
    import pyarrow as pa
    import pyarrow.parquet

    try:
        if path.suffix.lower() == ".csv":
            table = _read_csv(path, names)
        else:
            with pyarrow.parquet.ParquetFile(path) as file:  # unlike read_table, it does not read columns from the path
                table = file.read()
        assert table.column_names is not None  # names that are not UTF-8 raise here
        return table
    except (pa.ArrowException, OSError, ValueError) as error:
        what = _KIND[path.suffix.lower()]
        raise UserError(f"cannot read {path}: {one_line(error)}; is it a complete {what}?") from None


def _read_csv(path: Path, names: Names) -> Any:
    """A pyarrow Table; labels and groups with more digits than a number can hold are read as text."""
    import pyarrow as pa
    import pyarrow.csv

    _check_separator(path)
    options = pyarrow.csv.ConvertOptions(strings_can_be_null=True)
    table = pyarrow.csv.read_csv(path, convert_options=options)
    wanted = [n for n in (names.label, names.group) if table.column_names.count(n) == 1 and _inexact(table.column(n))]
    if not wanted:
        return table
    options.column_types = dict.fromkeys(wanted, pa.string())
    return pyarrow.csv.read_csv(path, convert_options=options)


def _check_separator(path: Path) -> None:
    with path.open("rb") as file:
        header = file.readline(1 << 16)
    for separator, name in ((b";", "semicolons"), (b"\t", "tabs"), (b"|", "bars")):
        if separator in header and b"," not in header:
            raise UserError(
                f"{path} has {name} between its columns; save it with commas, and with points in decimal numbers"
            )


def _inexact(column: Any) -> bool:
    """Whether different whole numbers may have become equal: a float64 represents all of them only up to 2^53."""
    import pyarrow as pa

    if not (pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)):
        return False
    values = column.cast(pa.float64()).drop_null().to_numpy()
    return bool((np.isfinite(values) & (np.abs(values) > 2**53)).any())


def _check_names(path: Path, columns: list[str], names: Names) -> None:
    label, group, drop = names
    twice = sorted({name for name in columns if columns.count(name) > 1}) if len(set(columns)) < len(columns) else []
    if twice:
        raise UserError(f"{path} has columns with the same name: {listed(twice)}; rename them, or add a header line")
    if not label:
        raise UserError(f"{path} needs the name of its label column; give --label COLUMN, one of {listed(columns)}")
    grouped = [(group, "data.group")] if group else []
    for name, place in ((label, "label"), *grouped, *((name, "data.drop") for name in drop)):
        if name not in columns:
            raise UserError(
                f"no column {name!r} ({place}) in {path}; {similar(name, columns)}columns: {listed(columns)}"
            )
    if label in drop:
        raise UserError(f"column {label!r} of {path} is the label and in data.drop={list(drop)}; take it out of one")
    if group and group in (label, *drop):
        other = "the label" if group == label else f"in data.drop={list(drop)}"
        raise UserError(f"column {group!r} of {path} is the group and {other}; name another group by --group")


def _block(path: Path, name: str, column: Any) -> tuple[np.ndarray, bool]:
    """One feature column as (N, k) uint8 or float32, and whether it is one-hot."""
    what = f"column {name!r} of {path}"
    _check_nulls(what, column, f", or leave the column out with data.drop=[{name}]")
    if _is_text(column.type):
        codes, values = encode(column.to_pylist())
        if len(values) > MAX_CATEGORIES:
            raise UserError(
                f"{what} is text with {len(values)} distinct values such as {values[0]!r:.40}, and a category may have"
                f" {MAX_CATEGORIES}; write it as numbers, leave it out with data.drop=[{name}], or, where equal values mean one"
                f" person, keep their rows together with --group {name}"
            )
        return np.eye(len(values), dtype=np.uint8)[codes], True
    numbers = _numbers(column)
    if numbers is None:
        raise UserError(
            f"{what} is neither numbers nor categories (type {column.type});"
            f" convert it or leave it out with data.drop=[{name}]"
        )
    return compact(what, numbers, f", or leave the column out with data.drop=[{name}]")[:, None], False


def _is_identifier(name: str, column: Any) -> bool:
    """Whether whole numbers without repeats are sorted, or their column is named like an identifier."""
    import pyarrow as pa

    if not pa.types.is_integer(column.type):
        return False
    values = column.to_numpy()
    steps = np.sign(np.diff(values.astype(np.float64)))
    sorted_ = bool((steps == steps[0]).all()) if len(steps) else False
    named = re.search(r"(^|[^A-Za-z])(id|index)$|(ID|Id|Index)$", name) or name.lower() in ("id", "index")
    return len(np.unique(values)) == len(values) and (sorted_ or bool(named))


def _label_values(path: Path, name: str, column: Any) -> np.ndarray | list[str]:
    what = f"label column {name!r} of {path}"
    _check_nulls(what, column, " of the table")
    if _is_text(column.type):
        return [str(value) for value in column.to_pylist()]
    if str(column.type).startswith("decimal") and _inexact(column):
        return [str(value) for value in column.to_pylist()]
    numbers = _numbers(column)
    if numbers is None:
        raise UserError(f"{what} holds neither whole numbers nor text (type {column.type}); name another by --label")
    return numbers


def _group_values(path: Path, name: str, column: Any) -> np.ndarray:
    _check_nulls(f"group column {name!r} of {path}", column, " of the table")
    numbers = None if _is_text(column.type) else _numbers(column)
    if numbers is None or numbers.dtype.kind == "f":  # also dates: equal values have equal texts
        return encode(column.to_pylist())[0]
    return np.unique(numbers, return_inverse=True)[1].astype(np.int64)


def _check_nulls(what: str, column: Any, otherwise: str) -> None:
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0]) + 1
        raise UserError(f"{what} has no value in data row {row}; fill it, remove the row{otherwise}")


def _is_text(kind: Any) -> bool:
    return str(kind) in ("string", "large_string", "string_view") or str(kind).startswith("dictionary<")


def _numbers(column: Any) -> np.ndarray | None:
    """A numeric or boolean column as (N,); None for any other column."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column.to_numpy()
    return column.cast(pa.float64()).to_numpy() if pa.types.is_decimal(kind) else None
