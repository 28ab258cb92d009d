"""A .csv, .tsv or .parquet file of a user: columns of numbers and of categories, a label, and possibly a group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hampkit.data.memory import check_fits
from hampkit.data.table_cells import (
    Columns,
    check_cells,
    distinct,
    is_number,
    is_text,
    typical,
    with_nulls,
    without_missing,
)
from hampkit.data.table_csv import inexact, read_csv
from hampkit.data.table_notes import blank_note, identifier_note, telling_notes
from hampkit.data.table_values import (
    MIN_ROWS,
    RawTable,
    TableOptions,
    check_columns,
    class_labels,
    compact,
    encode,
    listed,
)
from hampkit.errors import UserError, one_line

_KIND = {
    ".csv": ".csv file in UTF-8, with as many values in each line as the header has names",
    ".tsv": ".tsv file in UTF-8, with as many values in each line as the header has names",
    ".parquet": ".parquet file",
}
_MISSING = "(missing)"  # the category of missing values


def read_table(path: Path, options: TableOptions) -> RawTable:
    """The columns of a .csv, .tsv or .parquet file.

    Raises: `UserError` for a damaged file, for missing or unsuitable columns, and for cells without a usable value.
    """
    table, skipped = read_file(path, options)
    _check_names(path, table.column_names, options)
    if table.num_rows == 0:
        raise UserError(f"{path} has a header but no rows; give at least {MIN_ROWS} rows")
    features = _features(path, table.column_names, options)
    used = {*options.named, *features}
    columns = {name: column for name, column in zip(table.column_names, table.columns, strict=True) if name in used}
    columns = with_nulls(columns, options, from_text=path.suffix.lower() != ".parquet")
    check_cells(path, columns, options)
    completed = without_missing(path, columns, options)
    _check_rows(len(completed.columns[options.label]), completed.done)
    raw = _raw(path, completed.columns, features, options)
    return raw._replace(done=(*skipped, *completed.done), rows=completed.rows)


def _raw(path: Path, columns: Columns, features: list[str], options: TableOptions) -> RawTable:
    """The arrays of columns that were checked."""
    _check_width(path, columns, features, options)
    parts = [_block(path, name, columns[name], options) for name in features]
    edges = np.cumsum([0, *(block.shape[1] for block, _ in parts)]).tolist()
    raw = RawTable(
        np.concatenate([block for block, _ in parts], axis=1),  # uint8 only if all blocks are, else float32
        _label_values(path, options.label, columns[options.label]),
        f"column {options.label!r}",
        tuple((edges[k], edges[k + 1]) for k, (_, one_hot) in enumerate(parts) if one_hot),
        group=_group_values(columns[options.group]) if options.group else None,
    )
    notes = [identifier_note(path, name, columns[name], options) for name in features]
    y, classes = class_labels(path, raw)
    notes += [blank_note(path, options, classes)]
    notes += telling_notes(path, features, [block for block, _ in parts], y, options)
    return raw._replace(notes=tuple(filter(None, notes)))


def _features(path: Path, columns: list[str], options: TableOptions) -> list[str]:
    found = [name for name in columns if name not in (*options.named, *options.drop)]
    if not found:
        rest = f" and group {options.group!r}" if options.group else ""
        raise UserError(
            f"{path} has no features besides label {options.label!r}{rest} and data.drop={list(options.drop)};"
            " keep at least one"
        )
    return found


def _check_rows(rows: int, done: Sequence[str]) -> None:
    """Check the number of rows that ``missing=drop`` left."""
    if done and rows < MIN_ROWS:
        raise UserError(
            f"{done[0]}; {rows} rows are left, and at least {MIN_ROWS} are needed: fill them with missing=median, or"
            " leave out the columns with most missing values"
        )


def read_file(path: Path, options: TableOptions) -> tuple[Any, tuple[str, ...]]:
    """A .csv, .tsv or .parquet file as a pyarrow Table with readable column names, and a line about comments that were skipped.

    Raises: `UserError` for a damaged file.
    """
    import pyarrow as pa
    import pyarrow.parquet

    try:
        if path.suffix.lower() == ".parquet":
            with pyarrow.parquet.ParquetFile(path) as file:  # unlike read_table, it does not read columns from the path
                sizes = (file.metadata.row_group(k).total_byte_size for k in range(file.metadata.num_row_groups))
                values = float(file.metadata.num_rows) * file.metadata.num_columns
                check_fits(path, max(float(sum(sizes)), 8 * values) + 4 * values)  # as read, and as features
                table, skipped = file.read(), ()
        else:
            check_fits(path, 2.0 * path.stat().st_size)  # the text, and its values
            table, skipped = read_csv(path, options)
        assert table.column_names is not None  # names that are not UTF-8 raise here
        _check_times(path, table)
        return table, skipped
    except (pa.ArrowException, OSError, ValueError) as error:
        what = _KIND[path.suffix.lower()]
        raise UserError(f"cannot read {path}: {one_line(error)}; is it a complete {what}?") from None


def _check_times(path: Path, table: Any) -> None:
    """Check that dates and times are such as Python has.

    Raises: `UserError` for a column with others, such as a date of a damaged file.
    """
    import pyarrow as pa
    import pyarrow.compute

    compute: Any = pyarrow.compute
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_temporal(column.type):
            try:
                compute.min_max(column).as_py()
            except (OverflowError, ValueError, NotImplementedError, pa.ArrowException):
                raise UserError(
                    f"column {name!r} of {path} ({column.type}) has times outside the years 1 to 9999; correct or remove it"
                ) from None


def _check_names(path: Path, columns: list[str], options: TableOptions) -> None:
    label, group = options.label, options.group
    twice = sorted({name for name in columns if columns.count(name) > 1}) if len(set(columns)) < len(columns) else []
    if twice:
        headless = "" if path.suffix.lower() == ".parquet" else ", or give header=false if the file has no header line"
        raise UserError(f"{path} has columns with the same name: {listed(twice)}; rename them{headless}")
    if not label:
        raise UserError(f"{path} needs the name of its label column; give --label COLUMN, one of {listed(columns)}")
    grouped = [(group, "data.group")] if group else []
    several = [(name, f"data.{key}") for key in ("drop", "categories") for name in getattr(options, key)]
    check_columns(path, columns, ((label, "label"), *grouped, *several))
    if label in options.drop:
        raise UserError(
            f"column {label!r} of {path} is the label and in data.drop={list(options.drop)}; take it out of one"
        )
    if group and group in (label, *options.drop):
        other = "the label" if group == label else f"in data.drop={list(options.drop)}"
        raise UserError(f"column {group!r} of {path} is the group and {other}; name another group by --group")


def _block(path: Path, name: str, column: Any, options: TableOptions) -> tuple[np.ndarray, bool]:
    """One feature column as (N, k) uint8 or float32, and whether it is one-hot."""
    if _is_category(name, column, options):
        codes, values = encode([_MISSING if value is None else value for value in column.to_pylist()])
        return np.eye(len(values), dtype=np.uint8)[codes], True
    what = f"column {name!r} of {path}"
    if not column.null_count:
        return compact(what, _numbers(column), "")[:, None], False
    filled = compact(what, _numbers(column.fill_null(typical(column))), "")
    return np.stack([filled, column.is_null().to_numpy().astype(filled.dtype)], axis=1), False


def _check_width(path: Path, columns: Columns, features: list[str], options: TableOptions) -> None:
    """Check that the features fit into memory: each category is a column of its own.

    Raises: `UserError`.
    """
    widths = {name: len(distinct(columns[name])) for name in features if _is_category(name, columns[name], options)}
    width = len(features) - len(widths) + sum(widths.values())
    largest = max(widths, key=lambda name: widths[name], default="")
    advice = (
        f"leave out columns such as {largest!r} with {widths.get(largest)} categories" if widths else "take fewer rows"
    )
    check_fits(path, 2 * 4.0 * width * len(columns[options.label]), advice)


def _is_category(name: str, column: Any, options: TableOptions) -> bool:
    return is_text(column.type) or name in options.categories


def _label_values(path: Path, name: str, column: Any) -> np.ndarray | list[str]:
    texts = is_text(column.type) or (str(column.type).startswith("decimal") and inexact(column))
    if texts:
        return [str(value) for value in column.to_pylist()]
    if not (is_number(column.type) or str(column.type) == "bool"):
        raise UserError(
            f"label column {name!r} of {path} holds neither whole numbers nor text (type {column.type});"
            " name another by --label"
        )
    return _numbers(column)


def _group_values(column: Any) -> np.ndarray:
    numbers = _numbers(column) if is_number(column.type) or str(column.type) == "bool" else None
    if numbers is None or numbers.dtype.kind == "f":  # also dates: equal values have equal texts
        return encode(column.to_pylist())[0]
    return np.unique(numbers, return_inverse=True)[1].astype(np.int64)


def _numbers(column: Any) -> np.ndarray:
    """A column of numbers or booleans without nulls as (N,)."""
    import pyarrow as pa

    return (column.cast(pa.float64()) if pa.types.is_decimal(column.type) else column).to_numpy()
