"""A .csv or .tsv file of a user as a table of pyarrow: its separator, its header, rows of any length."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hampkit.config.preamble import NAMED, Preamble, first_lines, preamble_of, skipped
from hampkit.data.table_cells import is_number
from hampkit.data.table_values import NUMBER, TableOptions, listed
from hampkit.errors import UserError, shortened

_BLOCK = 1 << 20  # bytes that are parsed at once, as in pyarrow; a row must fit
# what pyarrow reads as a missing value, in columns of numbers and of text
MISSING = ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "N/A", "NA", "NULL",
           "NaN", "n/a", "nan", "null")  # fmt: skip


def read_csv(path: Path, options: TableOptions) -> tuple[Any, tuple[str, ...]]:
    """A pyarrow Table, and a line about comments that were skipped above it, if there were any.

    Labels and groups with more digits than a number can hold are read as text.

    Raises: `UserError` for a first line that is a record, for rows of different lengths, and for text that is not UTF-8;
    `pyarrow.ArrowException` for a file that is damaged otherwise.
    """
    import pyarrow as pa
    import pyarrow.csv

    _check_encoding(path)
    above = _above(path, options)
    convert = pyarrow.csv.ConvertOptions(
        strings_can_be_null=True, null_values=[*MISSING, *options.na], decimal_point=options.decimal
    )
    form = _Form(above.separator, options.header is not False, above.lines)
    table = _parsed(path, form, convert)
    _check_texts(path, table)
    if options.header is None:
        _check_header(path, table)
    wanted = [n for n in options.named if table.column_names.count(n) == 1 and inexact(table.column(n))]
    if not wanted:
        return table, skipped(path, above)
    convert.column_types = dict.fromkeys(wanted, pa.string())
    return _parsed(path, form, convert), skipped(path, above)


def _above(path: Path, options: TableOptions) -> Preamble:
    """What stands above the table, and its separator.

    Raises: `UserError` for a separator that is not one character.
    """
    above = preamble_of(first_lines(path), NAMED.get(options.separator, options.separator), options.header)
    if len(above.separator) != 1 or not above.separator.isascii() or above.separator in '"\r\n':
        raise UserError(f"data.separator={options.separator!r} must be one character, such as ;, tab or space")
    return above


NO_TEXT = {  # first bytes of a file → what it is, and what to do
    b"\x1f\x8b": ("compressed by gzip", "unpack it"),
    b"PK\x03\x04": (
        "an archive, such as .npz, .xlsx or .zip",
        "save its table as .csv, or give an .npz its own suffix",
    ),
    b"PAR1": ("a Parquet file", "rename it to .parquet"),
    b"BZh": ("compressed by bzip2", "unpack it"),
    b"\xfd7zX": ("compressed by xz", "unpack it"),
}


class _Form(NamedTuple):
    """The layout of a text file: its separator, its header and the lines above it."""

    separator: str
    header: bool  # whether the first line holds names
    skipped: int = 0  # lines above it


def inexact(column: Any) -> bool:
    """Whether different whole numbers may have become equal: a float64 represents all of them only up to 2^53."""
    import pyarrow as pa

    if not (pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)):
        return False
    values = column.cast(pa.float64()).drop_null().to_numpy()
    return bool((np.isfinite(values) & (np.abs(values) > 2**53)).any())


def _parsed(path: Path, form: _Form, convert: Any) -> Any:
    """The table; a text with line breaks in it is only looked for if the file cannot be read without."""
    import pyarrow as pa
    import pyarrow.csv

    def parsed(breaks: bool, block: int) -> Any:
        read = pyarrow.csv.ReadOptions(
            block_size=min(block, 2**31 - 1), autogenerate_column_names=not form.header, skip_rows=form.skipped
        )
        parse = pyarrow.csv.ParseOptions(delimiter=form.separator, newlines_in_values=breaks)
        return pyarrow.csv.read_csv(path, read_options=read, parse_options=parse, convert_options=convert)

    block = max(_BLOCK, 2 * _longest_line(path))
    try:
        table = parsed(False, block)
    except pa.ArrowInvalid as error:
        try:
            table = parsed(True, max(block, min(path.stat().st_size + 1, 64 * _BLOCK)))
        except pa.ArrowException:
            _check_utf8(path)
            _check_lengths(path, form, block)
            raise error from None
    if not form.header:
        return table.rename_columns([f"c{k + 1}" for k in range(table.num_columns)])
    try:  # comments may stand before the mark of byte order
        return table.rename_columns([name.removeprefix("\ufeff") for name in table.column_names])
    except UnicodeDecodeError:  # `_check_texts` names what is not UTF-8
        return table


def _check_encoding(path: Path) -> None:
    """Check that a file does not begin with the mark of UTF-16 or UTF-32, in which Excel stores "Unicode text", or of no text."""
    with path.open("rb") as file:
        first = file.read(4)
    if first[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{path} is text in UTF-16 or UTF-32; save it in UTF-8 (Excel: CSV UTF-8)")
    for mark, (kind, remedy) in NO_TEXT.items():
        if first.startswith(mark):
            raise UserError(f"{path} is {kind}, and no text; {remedy}")


def _check_utf8(path: Path) -> None:
    """Check that a whole file is text in UTF-8: pyarrow cannot describe a row that is not.

    Raises: `UserError` that names the line.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                raise UserError(
                    f"line {number} of {path} is not in UTF-8; save the file in UTF-8 (Excel: CSV UTF-8)"
                ) from None


def _check_texts(path: Path, table: Any) -> None:
    """Check that names and texts are UTF-8: pyarrow reads others as bytes.

    Raises: `UserError`.
    """
    try:
        names = [
            name for name, kind in zip(table.column_names, table.schema.types, strict=True) if str(kind) == "binary"
        ]
    except UnicodeDecodeError:
        raise UserError(f"the header of {path} is not in UTF-8; save the file in UTF-8 (Excel: CSV UTF-8)") from None
    if names:
        raise UserError(
            f"{path} has text that is not in UTF-8, in column {listed(names)}; save the file in UTF-8 (Excel: CSV UTF-8)"
        )


def _check_lengths(path: Path, form: _Form, block: int) -> None:
    """Check that each row has as many values as the first one.

    Raises: `UserError` for the first other one.
    """
    import pyarrow as pa
    import pyarrow.csv

    found = []

    def kept(row: Any) -> str:
        found.append(row)
        return "error"

    # threads do not count rows
    read = pyarrow.csv.ReadOptions(block_size=min(block, 2**31 - 1), use_threads=False, skip_rows=form.skipped)
    parse = pyarrow.csv.ParseOptions(delimiter=form.separator, invalid_row_handler=kept)
    with contextlib.suppress(pa.ArrowException):  # the fault that was found, or another one
        pyarrow.csv.read_csv(path, read_options=read, parse_options=parse)
    if found:
        row = found[0]
        number = row.number - form.header - form.skipped
        raise UserError(
            f"data row {number} of {path} has {_values(row.actual_columns)}, and the first line has"
            f" {row.expected_columns}: {shortened(row.text, 80)!r}; {_remedy(row.text)}"
        )


def _remedy(text: str) -> str:
    """What to do about a row of another length."""
    if text.startswith("#"):
        return "delete this comment: comments are skipped above a table only"
    return (
        "correct that row, delete lines above the names of the columns, or give the character between the values with"
        " separator=…"
    )


def _values(n: int) -> str:
    return "1 value" if n == 1 else f"{n:,} values"


def _longest_line(path: Path) -> int:
    """The number of bytes of the longest line: a row must fit into a block."""
    longest, rest = 0, 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 24):
            ends = np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n"))
            if len(ends):
                longest = max(longest, rest + int(ends[0]) + 1, int(np.diff(ends).max(initial=0)))
                rest = len(chunk) - int(ends[-1]) - 1
            else:
                rest += len(chunk)
    return max(longest, rest)


def _check_header(path: Path, table: Any) -> None:
    """Check that the first line holds names.

    Raises: `UserError` if it seems to be a record.
    """
    names = table.column_names
    numeric = [name for name in names if re.fullmatch(NUMBER, name.strip())]
    inside = [_holds(table.column(k), name) for k, name in enumerate(names)]
    has_names = any(is_number(table.column(k).type) and names[k] not in numeric for k in range(len(names)))
    if not table.num_rows or not (
        (numeric and not _counted(numeric)) or all(inside) or (any(inside) and not has_names)
    ):
        return
    shown = numeric or [name for name, is_value in zip(names, inside, strict=True) if is_value]
    why = "numbers" if numeric else "values of their own columns"
    raise UserError(
        f"the first line of {path} looks like a record, not like names: it has {why} ({listed(shown, 6)}); if it is a record,"
        f" give header=false (the columns are then c1 to c{len(names)}), and header=true if these are names"
    )


def _counted(names: Sequence[str]) -> bool:
    """Whether names are numbers that rise by equal steps, such as years or wavelengths; two of them by one."""
    steps = np.diff([float(name) for name in names])
    step = 1.0 if len(steps) < 2 else steps[0]
    return step > 0 and bool(np.allclose(steps, step)) and (len(names) > 1 or names[0].strip().isdecimal())


def _holds(column: Any, name: str) -> bool:
    """Whether a name is one of the values of its column, of numbers or of text."""
    import pyarrow as pa
    import pyarrow.compute

    pc: Any = pyarrow.compute
    if pa.types.is_string(column.type):
        return bool(pc.any(pc.equal(column, name)).as_py())
    if is_number(column.type) and re.fullmatch(NUMBER, name.strip()):
        return bool((column.to_numpy() == float(name)).any())
    return False
