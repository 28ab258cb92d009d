"""A user's own data: a .csv or .parquet table with a label column, or a .npz with arrays."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hampkit.data.base import Place, Source, fingerprint
from hampkit.errors import UserError, did_you_mean, one_line
from hampkit.types import Dataset, Domain

MIN_ROWS = 44  # the smallest number that the default split can cut into its segments
MAX_CATEGORIES = 100  # distinct values of a text column; more is an identifier, or numbers written as text
_SUFFIXES = (".csv", ".parquet", ".npz")
_KIND = {".csv": ".csv file with commas between its columns, in UTF-8", ".parquet": ".parquet file"}


@dataclass(frozen=True)
class File(Source):
    """A table of your own: numbers stay numbers, text columns become one-hot blocks, labels become 0 … C-1."""

    name: ClassVar[str] = "file"
    stratified: ClassVar[bool] = True
    about: ClassVar[str] = "a table of your own: .csv, .parquet or .npz (--data FILE --label COLUMN)"

    file: str = ""  # path of a .csv, .parquet or .npz file
    label: str = ""  # the column (.npz: the array) with the classes
    group: str = ""  # the column (.npz: the array) whose equal values belong together, such as rows of one person
    drop: tuple[str, ...] = ()  # columns to leave out
    title: str = ""  # name in results and folders; empty: the file's stem

    def __post_init__(self) -> None:
        plain = re.sub(r"[^A-Za-z0-9._]", "_", self.title or Path(self.file).stem)
        object.__setattr__(self, "title", plain[:60])  # it becomes part of a folder's name

    def load(self, place: Place) -> Dataset:
        path = _existing(self.file)
        read = _arrays if path.suffix.lower() == ".npz" else _table
        raw = read(path, self.label, self.drop, self.group)
        if len(raw.x) < MIN_ROWS:
            raise UserError(f"{path} has {len(raw.x)} rows; at least {MIN_ROWS} are needed for a split, give more")
        if raw.group is not None and not raw.group.any():
            one = f"group {raw.label.split()[0]} {self.group!r} of {path} has one value in all {len(raw.x):,} rows"
            raise UserError(f"{one}; a split needs several groups: name another by --group")
        labels, classes = _classes(path, raw)
        x, y, group = torch.from_numpy(raw.x), torch.from_numpy(labels), raw.group
        return Dataset(
            name=self.title,
            x=x,
            y=y,
            num_classes=len(classes),
            domain=_domain(x, raw.blocks),
            sha256=fingerprint(x, y, *([] if group is None else [torch.from_numpy(group)])),
            classes=classes,
            notes=raw.notes,
            group=None if group is None else torch.from_numpy(group),
        )


class _Raw(NamedTuple):
    """What a file holds, before labels are numbered."""

    x: np.ndarray  # (N, *shape) uint8 or float32
    labels: np.ndarray | list[str]  # (N,)
    label: str  # "column 'x'" or "array 'y'"
    blocks: tuple[tuple[int, int], ...] = ()  # column ranges of one-hot blocks
    notes: tuple[str, ...] = ()
    group: np.ndarray | None = None  # (N,) int64: rows with the same number belong together


def _existing(file: str) -> Path:
    path = Path(file).expanduser()
    if not file:
        raise UserError("data set 'file' needs a file; give --data FILE, or file = \"…\" in the section data")
    if path.is_dir():
        raise UserError(f"{path} is a folder; name one {_listed(_SUFFIXES)} file in it")
    if path.suffix.lower() not in _SUFFIXES:
        raise UserError(f"{path} has the suffix {path.suffix!r}; save it as .csv, .parquet or .npz")
    if not path.exists():
        raise UserError(f"no file {path}; check the path, it is read relative to {Path.cwd()}")
    return path


# --- .csv and .parquet ---------------------------------------------------------------------------------------------


def _table(path: Path, label: str, drop: Sequence[str], group: str) -> _Raw:
    table = _read(path, label, group)
    names: list[str] = table.column_names
    _check_names(path, names, label, drop, group)
    if table.num_rows == 0:
        raise UserError(f"{path} has a header but no rows; give at least {MIN_ROWS} rows")
    features = [name for name in names if name not in (label, group, *drop)]
    if not features:
        rest = f" and group {group!r}" if group else ""
        raise UserError(
            f"{path} has no features besides label {label!r}{rest} and data.drop={list(drop)}; keep at least one"
        )
    blocks, groups, notes, width = [], [], [], 0
    for name in features:
        block, grouped = _block(path, name, table.column(name))
        if _is_identifier(name, table.column(name)):
            notes.append(
                f"column {name!r} of {path} looks like an identifier: {table.num_rows} whole numbers, no two alike; a network"
                f" learns such a column by heart: leave it out with drop=[{name}]"
            )
        if grouped:
            groups.append((width, width + block.shape[1]))
        blocks.append(block)
        width += block.shape[1]
    x = np.concatenate(blocks, axis=1)  # uint8 only if all blocks are, else float32
    belongs = _group_values(path, group, table.column(group)) if group else None
    labels = _label_values(path, label, table.column(label))
    return _Raw(x, labels, f"column {label!r}", tuple(groups), tuple(notes), belongs)


def _read(path: Path, label: str, group: str) -> Any:
    """A pyarrow Table with readable column names. Labels and groups that are too long for a number are read as text."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    try:
        if path.suffix.lower() == ".csv":
            _check_separator(path)
            options = pyarrow.csv.ConvertOptions(strings_can_be_null=True)
            table = pyarrow.csv.read_csv(path, convert_options=options)
            exact = [
                name for name in (label, group) if table.column_names.count(name) == 1 and _inexact(table.column(name))
            ]
            if exact:
                options.column_types = dict.fromkeys(exact, pa.string())
                table = pyarrow.csv.read_csv(path, convert_options=options)
        else:
            with pyarrow.parquet.ParquetFile(path) as file:  # unlike read_table, it does not read columns from the path
                table = file.read()
        assert table.column_names is not None  # names that are no UTF-8 raise here
        return table
    except (pa.ArrowException, OSError, ValueError) as error:
        what = _KIND[path.suffix.lower()]
        raise UserError(f"cannot read {path}: {one_line(error)}; is it a complete {what}?") from None


def _check_separator(path: Path) -> None:
    with path.open("rb") as file:
        header = file.readline(1 << 16)
    for separator, name in ((b";", "semicolons"), (b"\t", "tabs"), (b"|", "bars")):
        if separator in header and b"," not in header:
            raise UserError(
                f"{path} has {name} between its columns; save it with commas, and with points in decimal numbers"
            )


def _inexact(column: Any) -> bool:
    """Whether whole numbers may have merged: beyond 2^53 a float64 does not hold every one."""
    import pyarrow as pa

    if not (pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)):
        return False
    values = column.cast(pa.float64()).drop_null().to_numpy()
    return bool((np.isfinite(values) & (np.abs(values) > 2**53)).any())


def _check_names(path: Path, names: list[str], label: str, drop: Sequence[str], group: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise UserError(f"{path} has columns with the same name: {_listed(twice)}; rename them, or add a header line")
    if not label:
        raise UserError(f"{path} needs the name of its label column; give --label COLUMN, one of {_listed(names)}")
    grouped = [(group, "data.group")] if group else []
    for name, place in ((label, "label"), *grouped, *((name, "data.drop") for name in drop)):
        if name not in names:
            raise UserError(f"no column {name!r} ({place}) in {path}; {_near(name, names)}columns: {_listed(names)}")
    if label in drop:
        raise UserError(f"column {label!r} of {path} is the label and in data.drop={list(drop)}; take it out of one")
    if group and group in (label, *drop):
        other = "the label" if group == label else f"in data.drop={list(drop)}"
        raise UserError(f"column {group!r} of {path} is the group and {other}; name another group by --group")


def _block(path: Path, name: str, column: Any) -> tuple[np.ndarray, bool]:
    """One feature column as ``(N, k)`` uint8 or float32, and whether it is a one-hot block."""
    what = f"column {name!r} of {path}"
    _check_nulls(what, column, f", or leave the column out with data.drop=[{name}]")
    if _is_text(column.type):
        codes, values = _encode(column.to_pylist())
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
    return _compact(what, numbers, f", or leave the column out with data.drop=[{name}]")[:, None], False


def _is_identifier(name: str, column: Any) -> bool:
    """Whether whole numbers, no two alike, rise or fall from row to row or carry the name of an identifier."""
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
        return _encode(column.to_pylist())[0]
    return np.unique(numbers, return_inverse=True)[1].astype(np.int64)


def _check_nulls(what: str, column: Any, otherwise: str) -> None:
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0]) + 1
        raise UserError(f"{what} has no value in data row {row}; fill it, remove the row{otherwise}")


def _is_text(kind: Any) -> bool:
    return str(kind) in ("string", "large_string", "string_view") or str(kind).startswith("dictionary<")


def _numbers(column: Any) -> np.ndarray | None:
    """A numeric or boolean column as ``(N,)``, None if it is something else."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column.to_numpy()
    return column.cast(pa.float64()).to_numpy() if pa.types.is_decimal(kind) else None


def _encode(values: list[Any]) -> tuple[np.ndarray, list[str]]:
    """Texts → codes ``(N,)`` int64 and the sorted distinct texts."""
    texts = [str(value) for value in values]
    names = sorted(set(texts))
    index = {name: code for code, name in enumerate(names)}
    return np.fromiter((index[text] for text in texts), np.int64, len(texts)), names


# --- .npz ----------------------------------------------------------------------------------------------------------


def _arrays(path: Path, label: str, drop: Sequence[str], group: str) -> _Raw:
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
    values = _compact(f"array {x_name!r} of {path}", x, " of the array")
    return _Raw(values, texts, f"array {y_name!r}", group=belongs)


def _open_npz(path: Path) -> Any:
    archive = np.load(path, allow_pickle=False)
    if isinstance(archive, np.ndarray):
        raise ValueError("it holds a single array (.npy)")
    return archive


def _pick(path: Path, names: list[str], wanted: tuple[str, ...]) -> str:
    for name in wanted:
        if name in names:
            return name
    near = _near(wanted[0], names)
    raise UserError(f"no array {' or '.join(map(repr, wanted))} in {path}; {near}it holds {_listed(names)}")


# --- values --------------------------------------------------------------------------------------------------------


def _compact(what: str, values: np.ndarray, otherwise: str) -> np.ndarray:
    """Numbers as uint8 where that loses nothing, else as float32; raises `UserError` where a value is not finite."""
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


def _classes(path: Path, raw: _Raw) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels → ``(N,)`` int64 in 0 … C-1, in the order of the sorted values, and their names."""
    what = f"label {raw.label} of {path}"
    values = raw.labels
    if isinstance(values, list):
        codes, names = _encode(values)
    else:
        if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.floor(values))).all():
            row = int(np.flatnonzero(~np.isfinite(values) | (values != np.floor(values)))[0])
            kind = "no class" if np.isnan(values[row]) else "more like a regression target than a class"
            raise UserError(
                f"{what} has {values[row]} in data row {row + 1}: {kind};"
                " name another column by --label or put its values into classes"
            )
        distinct, codes = np.unique(values, return_inverse=True)
        names = [_name(value) for value in distinct.tolist()]
    if len(names) < 2:
        raise UserError(f"{what} has one class only, {names[0]!r:.40}; name another with at least two by --label")
    if 2 * len(names) > len(codes):
        raise UserError(
            f"{what} has {len(names)} distinct values in {len(codes)} rows: more like an identifier or a regression"
            " target; name another by --label"
        )
    return codes.astype(np.int64), tuple(names)


def _name(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) else str(value)


def _domain(x: Tensor, groups: tuple[tuple[int, int], ...]) -> Domain:
    """Bounds per column of a table, one pair for all of an image; whole numbers have step 1."""
    rows = x if x.dim() == 2 else x.reshape(-1, 1)
    low, high = rows.amin(0).float(), rows.amax(0).float()
    # Above 2^24 float32 has no step of 1 any more.
    whole = (rows == rows.round()).all(0) if x.is_floating_point() else torch.ones(low.shape, dtype=torch.bool)
    step = (whole & (torch.maximum(low.abs(), high.abs()) < 2**24)).float()
    if x.dim() == 2:
        return Domain(low, high, step, groups)
    return Domain.grid(tuple(x.shape[1:]), float(low), float(high), float(step))


def _near(word: str, names: Iterable[str]) -> str:
    hint = did_you_mean(word, names)
    return f"{hint} " if hint.startswith("did you mean") else ""


def _listed(names: Sequence[str], most: int = 12) -> str:
    more = f", … ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more
