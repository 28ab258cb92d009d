"""Cells of a user's table that are missing or cannot be read: all of them in one report, and what is done about them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hampkit.config.command_line import option
from hampkit.data.table_values import NUMBER, TableOptions, listed
from hampkit.errors import UserError, shortened
from hampkit.text import counted

MAX_CATEGORIES = 100  # distinct values of a text column; more is an identifier, or numbers written as text
_MOST_SHOWN = 30  # columns in a report
# a number with a separator of thousands, a decimal comma, a currency or a per cent sign
_OTHER_NUMBER = r"[$€£¥]?\s?[+-]?[$€£¥]?(\d+|\d{1,3}([ .,'’]\d{3})+)([.,]\d+)?\s?[%$€£¥]?"


class Problem(NamedTuple):
    """A column that cannot be used as it is."""

    name: str
    fault: str  # what is wrong, where
    remedy: str  # what the user may do


Columns = dict[str, Any]  # name → pyarrow column of N values: a table of pyarrow with many columns is slow to change


def with_nulls(columns: Columns, options: TableOptions, from_text: bool) -> Columns:
    """The columns with a null in each cell that is missing: empty, blank, NaN, or one of ``options.na``.

    from_text: columns of text in which only numbers remain become numbers, as a .csv file declares no types.
    """
    found = {name: _nulls(column, options.na) for name, column in columns.items()}
    kept = {*options.named, *options.categories}
    return {name: column if name in kept else _as_numbers(column, from_text) for name, column in found.items()}


def check_cells(path: Path, columns: Columns, options: TableOptions) -> None:
    """Check that every cell has a value that can be used, or that the user chose what to do about it.

    Raises: `UserError` with a line for each column that has a problem.
    """
    found = [problem for name, column in columns.items() for problem in _problems(name, column, options)]
    if not found:
        return
    if len(found) == 1:
        raise UserError(f"{_what(found[0].name, options)} of {path} {found[0].fault}; {found[0].remedy}")
    lines = _together(found, options) if len(found) > _MOST_SHOWN else _lines(found, options)
    shown = [shortened(line, 400) for line in lines[:_MOST_SHOWN]]
    more = [f"… and {len(lines) - _MOST_SHOWN} more lines"] if lines[_MOST_SHOWN:] else []
    names = list(dict.fromkeys(p.name for p in found))
    raise UserError(
        f"{len(names)} of {len(columns)} columns of {path} cannot be used as they are: {listed(names, 8)};"
        f" decide on {'each' if len(names) > 1 else 'it'}, see below",
        report=[*shown, *more],
    )


def _lines(found: Sequence[Problem], options: TableOptions) -> list[str]:
    return [f"{_what(p.name, options)} {p.fault}; {p.remedy}" for p in found]


def _together(found: Sequence[Problem], options: TableOptions) -> list[str]:
    """A line for each fault, with the first column that has it and the names of some others."""
    same: dict[tuple[str, bool], list[Problem]] = {}
    for problem in found:
        same.setdefault((problem.fault, problem.name in options.named), []).append(problem)
    lines = []
    for first, *others in same.values():
        more = f"{counted(len(others), 'more column')}: {listed([p.name for p in others], 4)}"
        fault = f"{first.fault} (the same in {more})" if others else first.fault
        lines += _lines([first._replace(fault=fault)], options)
    return lines


class Completed(NamedTuple):
    """The columns after ``options.missing`` was applied. Only ``category`` leaves nulls."""

    columns: Columns
    done: tuple[str, ...] = ()  # what was done, in words
    rows: np.ndarray | None = None  # the numbers of the rows that are left, if some were left out


def without_missing(path: Path, columns: Columns, options: TableOptions) -> Completed:
    """Apply ``options.missing`` to the cells that are missing."""
    counts = {name: column.null_count for name, column in columns.items() if column.null_count}
    if not counts:
        return Completed(columns)
    total = sum(counts.values())
    cells = f"{total:,} missing value{'' if total == 1 else 's'} in {_columns(counts)}"
    if options.missing == "drop":
        return _without_rows(path, columns, cells)
    if options.missing == "category":
        done = f"missing=category made {cells} of {path.name} a category, or a column of their own for numbers"
        return Completed(columns, (done,))
    filled = {name: columns[name].fill_null(typical(columns[name], name in options.categories)) for name in counts}
    done = f"missing=median filled {cells} of {path.name} with the median, or with the most frequent category"
    return Completed({**columns, **filled}, (done,))


def _without_rows(path: Path, columns: Columns, cells: str) -> Completed:
    import pyarrow as pa

    total = len(next(iter(columns.values())))
    kept = np.ones(total, dtype=bool)
    for column in columns.values():
        kept &= column.is_valid().to_numpy()
    rows, mask = np.flatnonzero(kept), pa.array(kept)
    done = f"missing=drop left out {total - len(rows):,} of {total:,} rows of {path.name}: {cells}"
    return Completed({name: column.filter(mask) for name, column in columns.items()}, (done,), rows)


def typical(column: Any, category: bool = False) -> Any:
    """The median of a column of numbers, of whole ones rounded down, else the most frequent value, of several the first.

    category: the numbers are categories, such as codes, between which there is no median.
    """
    import pyarrow as pa
    import pyarrow.compute

    pc: Any = pyarrow.compute
    values = column.drop_null()
    if category or not is_number(column.type):
        counted = sorted(pc.value_counts(values).to_pylist(), key=lambda each: (-each["counts"], str(each["values"])))
        return pa.scalar(counted[0]["values"], column.type)
    if not pa.types.is_integer(column.type):
        return pa.scalar(float(np.median(values.cast(pa.float64()).to_numpy())), column.type)
    in_order = np.sort(values.to_numpy())  # not as floats, which represent whole numbers only up to 2^53
    low, high = int(in_order[(len(in_order) - 1) // 2]), int(in_order[len(in_order) // 2])
    return pa.scalar((low + high) // 2, column.type)


def is_text(kind: Any) -> bool:
    return str(kind) in ("string", "large_string", "string_view") or str(kind).startswith("dictionary<")


def is_number(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def distinct(column: Any) -> dict[str, int]:
    """The distinct values of a column as texts, with their counts, in the order of the first row of each."""
    import pyarrow.compute

    pc: Any = pyarrow.compute
    return {str(each["values"]): each["counts"] for each in pc.value_counts(column.drop_null()).to_pylist()}


def _nulls(column: Any, na: Sequence[str]) -> Any:
    """The column with nulls in place of blanks, of NaN, and of the texts ``na``, which stand for numbers too."""
    import pyarrow as pa
    import pyarrow.compute

    pc: Any = pyarrow.compute
    if is_text(column.type):
        column = column.cast(pa.string())
        trimmed = pc.utf8_trim_whitespace(column)
        gone = pc.is_in(trimmed, value_set=pa.array(["", *(text.strip() for text in na)]))
    elif pa.types.is_integer(column.type):  # not as floats, which represent whole numbers only up to 2^53
        gone = pc.is_in(column, value_set=pa.array(_whole(na, column.type), column.type))
    elif is_number(column.type):
        values = column.cast(pa.float64(), safe=False).to_numpy()
        given = [float(text) for text in na if _is_float(text)]
        gone = pa.array(np.isnan(values) | np.isin(values, given))
    else:
        return column
    return pc.if_else(gone, pa.scalar(None, column.type), column) if pc.any(gone).as_py() else column


def _whole(texts: Sequence[str], kind: Any) -> list[int]:
    """The texts that are whole numbers, such as 5 and 5.0, and fit into a type of integers."""
    found = [Decimal(text.strip()) for text in texts if _is_float(text)]
    whole = [int(number) for number in found if number.is_finite() and number == number.to_integral_value()]
    signed = str(kind).startswith("int")
    low, high = (-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1)) if signed else (0, 2**kind.bit_width)
    return [number for number in whole if low <= number < high]


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _as_numbers(column: Any, from_text: bool) -> Any:
    """Decimals as floats; with ``from_text`` also a column of texts if all of them are numbers; others unchanged."""
    import pyarrow as pa

    if pa.types.is_decimal(column.type):
        return column.cast(pa.float64())
    if not (from_text and is_text(column.type)):
        return column
    encoded = column.combine_chunks().dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    if not texts or not all(re.fullmatch(NUMBER, text.strip()) for text in texts):
        return column
    values = pa.array([float(text) for text in texts], pa.float64())
    return pa.chunked_array([values.take(encoded.indices)])


def _problems(name: str, column: Any, options: TableOptions) -> list[Problem]:
    """The problems of a column, each with its remedy; empty if the column can be used."""
    named = name in options.named
    if column.null_count == len(column):
        return [Problem(name, "has no value in any row", leaving_out(name, options))]
    if not (named or _usable(name, column.type, options)):
        return [_type_problem(name, column, options)]
    gaps = column.null_count and (options.missing == "error" or (named and options.missing != "drop"))
    found = [_missing(name, column, options) if gaps else None]
    if not named and is_text(column.type):  # the values of labels and groups are checked where they become classes
        found.append(_text_problem(name, column, options))
    elif not named and is_number(column.type):
        found.append(_number_problem(name, column, options))
    return [problem for problem in found if problem]


def _usable(name: str, kind: Any, options: TableOptions) -> bool:
    """Whether a column of this type can be a feature: the values of a category may be dates, but not lists."""
    import pyarrow as pa

    chosen = name in options.categories and not pa.types.is_nested(kind)
    return is_text(kind) or is_number(kind) or str(kind) == "bool" or chosen


def _type_problem(name: str, column: Any, options: TableOptions) -> Problem:
    """A column that holds something else, such as dates."""
    import pyarrow as pa

    categories = "" if pa.types.is_nested(column.type) else _as_categories(name, column, options)
    return Problem(
        name,
        f"is neither numbers nor categories (type {column.type})",
        f"convert it to numbers, {categories}or {leaving_out(name, options)}",
    )


def _missing(name: str, column: Any, options: TableOptions) -> Problem:
    fault = f"has no value in {_cells(column.is_null().to_numpy())}"
    fills = ", fill them with missing=median or missing=category"
    if name in options.named:  # only features can be filled
        fills = ", which leaves out rows without a feature too" if options.missing in ("median", "category") else ""
    return Problem(name, fault, f"leave such rows out with missing=drop{fills}, or {leaving_out(name, options)}")


def _text_problem(name: str, column: Any, options: TableOptions) -> Problem | None:
    """Numbers with some cells that are none, numbers in another notation, or too many categories."""
    counts = distinct(column)
    total = sum(counts.values())
    bad = [text for text in counts if not re.fullmatch(NUMBER, text.strip())]
    numbers = total - sum(counts[text] for text in bad)
    if name not in options.categories and bad and 2 * numbers >= total:
        return _bad_cells(name, column, bad, options)
    other = {text: counts[text] for text in bad if re.fullmatch(_OTHER_NUMBER, text.strip())}
    if name not in options.categories and other and 2 * (numbers + sum(other.values())) >= total:
        return _notation_problem(name, column, other, options)
    if len(counts) <= MAX_CATEGORIES:
        return None
    remedies = ["write it as numbers", leaving_out(name, options)]
    if not options.group and len(counts) < total:  # rows are not grouped yet, and some have equal values
        together = f"keep their rows together with --group {shlex.quote(name)}"
        remedies.append(f"where equal values mean one person, {together}")
    return Problem(
        name,
        f"is text with {len(counts):,} distinct values such as {next(iter(counts))!r:.40}, and a category may have"
        f" {MAX_CATEGORIES}",
        f"{', '.join(remedies[:-1])}, or{',' if remedies[2:] else ''} {remedies[-1]}",
    )


def _notation_problem(name: str, column: Any, counts: dict[str, int], options: TableOptions) -> Problem:
    """Numbers in another notation, such as 1.234,5 or $5; counts: texts with the number of their rows."""
    categories = _as_categories(name, column, options)
    commas = [text for text in counts if re.fullmatch(r"[+-]?\d+,\d+", text.strip())]
    thousands = all(re.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}", text.strip()) for text in commas)
    if options.decimal == "." and 2 * len(commas) > len(counts) and not thousands:
        fault = f"has {commas[0]!r:.40}: numbers with decimal commas"
        return Problem(name, fault, f"read them with 'decimal=,', {categories}or {leaving_out(name, options)}")
    first = next((text for text in counts if text not in commas), commas[0] if commas else "")
    return Problem(
        name,
        f"has {first!r:.40}: numbers with a separator of thousands, a currency or a per cent sign",
        f"write them without, {categories}or {leaving_out(name, options)}",
    )


def _as_categories(name: str, column: Any, options: TableOptions) -> str:
    """The advice to take a column for categories, for the middle of a sentence; empty if it has too many values."""
    few = len(distinct(column)) <= MAX_CATEGORIES
    return f"take the column for categories with {option('categories', *options.categories, name)}, " if few else ""


def _bad_cells(name: str, column: Any, bad: list[str], options: TableOptions) -> Problem:
    """Cells that are no numbers in a column of numbers."""
    import pyarrow as pa
    import pyarrow.compute

    pc: Any = pyarrow.compute
    cells = pc.is_in(column, value_set=pa.array(bad)).to_numpy()
    return Problem(
        name,
        f"holds numbers, but not in {_cells(cells)}: {listed([shortened(text, 30) for text in bad], 4)}",
        f"correct that, read it as missing with {_as_missing(_few(bad), options)},"
        f" {_as_categories(name, column, options)}or {leaving_out(name, options)}",
    )


def _few(texts: list[str]) -> list[str]:
    """At most five texts for advice, without long ones if there are others."""
    return ([text for text in texts if len(text) <= 40] or texts)[:5]


def _number_problem(name: str, column: Any, options: TableOptions) -> Problem | None:
    import pyarrow as pa

    values = column.drop_null().cast(pa.float64(), safe=False).to_numpy()
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(values.astype(np.float32))
    if not bad.any():
        return _categories_problem(name, column, options)
    present = column.is_valid().to_numpy().copy()
    present[present] = bad
    texts = list(dict.fromkeys(map(str, values[bad])))[:5]
    return Problem(
        name,
        f"has {texts[0]} in {_cells(present)}: not a finite number (float32)",
        f"correct that, read it as missing with {_as_missing(texts, options)}, or {leaving_out(name, options)}",
    )


def _categories_problem(name: str, column: Any, options: TableOptions) -> Problem | None:
    """Too many numbers for categories, where the user asked for those."""
    if name not in options.categories or (n := len(distinct(column))) <= MAX_CATEGORIES:
        return None
    return Problem(
        name, f"has {n:,} distinct values, and a category may have {MAX_CATEGORIES}", "take it out of data.categories"
    )


def leaving_out(name: str, options: TableOptions) -> str:
    """The last remedy: another column in the place of this one, or none."""
    if name in options.named:
        return "name another label by --label" if name == options.label else "name another group by --group"
    return f"leave the column out with {option('drop', *options.drop, name)}"


def _as_missing(texts: Sequence[str], options: TableOptions) -> str:
    """The options that read these texts as missing values and then leave out their rows."""
    return option("na", *options.na, *texts) + (" missing=drop" if options.missing == "error" else "")


def _what(name: str, options: TableOptions) -> str:
    kind = "column" if name not in options.named else "label column" if name == options.label else "group column"
    return f"{kind} {name!r}"


def _cells(mask: np.ndarray) -> str:
    """The first row of some cells, and how many they are; mask: (N,) bool."""
    n = int(mask.sum())
    return f"data row {int(mask.argmax()) + 1}" + ("" if n == 1 else f" and {n - 1:,} more") + f" of {len(mask):,}"


def _columns(counts: dict[str, int]) -> str:
    return ", ".join(f"{name!r} ({n:,})" for name, n in list(counts.items())[:8]) + (
        f" and {len(counts) - 8} more columns" if len(counts) > 8 else ""
    )
