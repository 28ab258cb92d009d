"""What a foreign model receives: the columns of the user's tables as they are, and the encoding that attacks use."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hampkit.data.copies import first_alike
from hampkit.data.table import existing
from hampkit.data.table_arrays import read_npz
from hampkit.data.table_values import check_columns, compact, listed
from hampkit.errors import UserError
from hampkit.targets.encoding import Encoding, Place, encoded, floats, is_numeric
from hampkit.targets.reading import Reading
from hampkit.targets.records import arrow, by_option, coded, names, values_of

Inputs = Literal["auto", "array", "frame", "encoded"]  # as a user names them
INPUTS = ("auto", "array", "frame", "encoded")
LABEL = "\x00label"  # the column of y beside a table x: no column of a user has this name


@dataclass(frozen=True)
class Rows:
    """Members and non-members as the model and as the attacks see them, members first."""

    inputs: Any  # (P, …) float32 or a pandas DataFrame
    x: Tensor  # (P, *shape) float32 or uint8
    labels: Sequence[Any]  # (P,)
    member: np.ndarray  # (P,) bool
    group: np.ndarray | None = None  # (P,)
    ids: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    by: tuple[str, ...] = ()  # (P,)
    persons: tuple[str, ...] = ()  # (P,) the names of the groups
    places: tuple[Place, ...] = ()  # where the columns of a table lie in x

    @cached_property
    def alike(self) -> np.ndarray:
        """(P,) int64: the first record with the same inputs as each, as the model receives them."""
        if isinstance(self.inputs, np.ndarray):
            given = self.inputs + 0.0  # -0.0 is 0
            return first_alike(torch.from_numpy(np.where(np.isnan(given), np.inf, given)))
        _, first, of = np.unique(_row_hashes(self.inputs), return_index=True, return_inverse=True)
        return first[of]

    @cached_property
    def encoding(self) -> Encoding:
        """The records as the model receives them, and as attacks see them."""
        return Encoding(self.inputs, self.x, self.places)


def _row_hashes(frame: Any) -> np.ndarray:
    """(P,) a hash of each row of a data frame."""
    from pandas.util import hash_pandas_object  # pyright: ignore[reportMissingImports]

    return np.asarray(hash_pandas_object(frame, index=False))  # pyright: ignore[reportCallIssue]


@dataclass(frozen=True)
class TableColumns:
    """The columns of the user's tables that are no features, and how the others are given to the model."""

    label: str
    group: str = ""
    id: str = ""
    inputs: Inputs = "auto"
    by: str = ""  # the column of the subgroups, which stays a feature
    reading: Reading = field(default_factory=Reading)

    def __post_init__(self) -> None:
        if self.inputs not in INPUTS:
            raise UserError(f"inputs={self.inputs!r} must be one of {', '.join(INPUTS)}")

    @property
    def named(self) -> dict[str, str]:
        return by_option(label=self.label, group=self.group, id=self.id)

    @property
    def wanted(self) -> list[tuple[str, str]]:
        """The columns that must be there, each with its option."""
        return [(name, option) for option, name in {**self.named, **by_option(by=self.by)}.items()]


def is_table(value: Any) -> bool:
    """Whether a value is a file, or a table in memory: a pyarrow Table, or a data frame with the Arrow stream protocol."""
    return isinstance(value, (str, Path)) or hasattr(value, "__arrow_c_stream__")


def rows_of_tables(members: Any, nonmembers: Any, columns: TableColumns) -> Rows:
    """The rows of two tables with the same columns, each a file or a table in memory, or of two .npz files with x and y.

    Raises: `UserError`.
    """
    sides = (("members", members), ("nonmembers", nonmembers))
    paths = [existing(table, name) for name, table in sides if isinstance(table, (str, Path))]
    kinds = [path.suffix.lower() for path in paths]
    if kinds == [".npz", ".npz"]:
        return rows_of_arrays(*(_npz(path) for path in paths))
    if len(kinds) == 2 and ".npz" in kinds:
        raise UserError(f"members {paths[0]} and non-members {paths[1]} must be files of one kind")
    table, member, what, skipped = joined_tables(members, nonmembers, columns)
    rows = _rows_of(table, member, what, columns)
    return replace(rows, notes=(*skipped, *rows.notes))


def joined_tables(members: Any, nonmembers: Any, columns: TableColumns) -> tuple[Any, np.ndarray, str, tuple[str, ...]]:
    """The rows of two tables as one pyarrow table, which of them are members (P,), the place for messages, and notes.

    Raises: `UserError` for tables with other columns.
    """
    first, place, skipped = _named_table("members", members, columns)
    second, other, also_skipped = _named_table("nonmembers", nonmembers, columns)
    return (*_alike(first, second, (place, other)), (*skipped, *also_skipped))


def _named_table(name: str, table: Any, columns: TableColumns) -> tuple[Any, str, tuple[str, ...]]:
    """One table, of a file or in memory, its place for messages, and its notes."""
    if isinstance(table, (str, Path)):
        path = existing(table, name)
        if path.suffix.lower() == ".npz":
            raise UserError(f"{name}={path} holds arrays, and the other side is a table; give tables for both")
        found, skipped = _table(path, columns)
        return found, str(path), skipped
    if not columns.label:
        raise UserError(f"{name} is a table and needs the name of its label column; give label=COLUMN")
    found = columns.reading.memory(name, arrow(name, table))
    check_columns(name, found.column_names, columns.wanted)
    return found, name, ()


def _alike(first: Any, second: Any, names: tuple[str, str]) -> tuple[Any, np.ndarray, str]:
    """Two tables as one, which rows are members (P,), and the place for messages.

    Raises: `UserError` for tables with other columns.
    """
    if first.column_names != second.column_names:
        only = sorted(set(first.column_names) ^ set(second.column_names))
        why = f"only one of them has {listed(only)}" if only else "their order differs"
        raise UserError(f"{names[0]} and {names[1]} have other columns: {why}; give tables with the same columns")
    return _joined(first, second, " and ".join(names))


def rows_of_file(file: Any, columns: TableColumns) -> Rows:
    """The rows of one table, a file or in memory, or of one .npz file with x and y, of which none is a member yet.

    Raises: `UserError`.
    """
    path = existing(file, "data") if isinstance(file, (str, Path)) else None
    if path is not None and path.suffix.lower() == ".npz":
        return rows_of_pair(_npz(path))
    table, what, skipped = _named_table("data", file, columns)
    rows = _rows_of(table, np.zeros(table.num_rows, dtype=bool), what, columns)
    return replace(rows, notes=(*skipped, *rows.notes))


def rows_of_pair(pair: tuple[Any, Any], *, inputs_as: Inputs = "auto") -> Rows:
    """The rows of a pair (x, y), of which none is a member yet; x: numbers (P, …), or a table whose columns the model receives.

    Raises: `UserError` for arrays that do not fit together.
    """
    if _has_frame(pair):
        columns = TableColumns(LABEL, inputs=_frame(inputs_as))
        table = _with_label("data", pair)
        return _rows_of(table, np.zeros(table.num_rows, dtype=bool), "data", columns)
    x, y = _pair("data", pair)
    inputs = torch.from_numpy(compact("the inputs", x, ""))
    return Rows(x.astype(np.float32), inputs, y.tolist(), np.zeros(len(x), dtype=bool))


def rows_of_arrays(members: Any, nonmembers: Any, *, inputs_as: Inputs = "auto") -> Rows:
    """The rows of two pairs (x, y); each x: numbers (P, …), or a table whose columns the model receives.

    Raises: `UserError` for arrays that do not fit together.
    """
    frames = [_has_frame(members), _has_frame(nonmembers)]
    if all(frames):
        one, other = _with_label("members", members), _with_label("nonmembers", nonmembers)
        return _rows_of(*_alike(one, other, ("members", "nonmembers")), TableColumns(LABEL, inputs=_frame(inputs_as)))
    if any(frames):
        raise UserError("x of members and x of nonmembers must both be tables, or both be arrays")
    if is_table(members) != is_table(nonmembers):
        raise UserError("members and nonmembers must both be tables, or both be pairs (x, y)")
    pairs = [_pair(name, pair) for name, pair in (("members", members), ("nonmembers", nonmembers))]
    if pairs[0][0].shape[1:] != pairs[1][0].shape[1:]:
        raise UserError(
            f"members have the shape {pairs[0][0].shape}, non-members {pairs[1][0].shape}; their rows must be alike"
        )
    x = np.concatenate([pair[0] for pair in pairs])
    y = np.concatenate([pair[1] for pair in pairs])
    member = np.arange(len(x)) < len(pairs[0][0])
    return Rows(x.astype(np.float32), torch.from_numpy(compact("the inputs", x, "")), y.tolist(), member)


def _frame(inputs: Inputs) -> Inputs:
    """How a model that was trained on a data frame receives its rows: as a data frame, unless something else is asked for."""
    return "frame" if inputs == "auto" and importlib.util.find_spec("pandas") else inputs


def _has_frame(pair: Any) -> bool:
    """Whether x of a pair (x, y) is a table in memory."""
    return isinstance(pair, (tuple, list)) and len(pair) == 2 and hasattr(pair[0], "__arrow_c_stream__")


def _with_label(name: str, pair: tuple[Any, Any]) -> Any:
    """The table x of a pair (x, y), with y as the column `LABEL`."""
    import pyarrow as pa

    table, y = arrow(f"x of {name}", pair[0]), np.asarray(pair[1])
    if y.shape != (table.num_rows,):
        raise UserError(f"y of {name} has shape {y.shape}, x has {table.num_rows:,} rows; give one label for each row")
    return table.append_column(LABEL, pa.array(y.tolist()))


def _pair(name: str, pair: Any) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise UserError(f"{name} must be a pair of arrays (x, y), or a file")
    x, y = (np.asarray(each.detach().cpu() if hasattr(each, "detach") else each) for each in pair)
    if x.ndim < 2 or x.dtype.kind not in "biuf":
        raise UserError(f"x of {name} is {x.dtype} {x.shape}; give numbers of shape (records, features…)")
    if y.shape != x.shape[:1]:
        raise UserError(f"y of {name} has shape {y.shape}, x has {len(x):,} rows; give one label for each row")
    return x, y


def _npz(path: Path) -> tuple[Any, Any]:
    x, y = (array for _, array in read_npz(path, lambda there: ["x", "y"], "x=…, y=…"))
    return x, y


def _table(path: Path, columns: TableColumns) -> tuple[Any, tuple[str, ...]]:
    if not columns.label:
        raise UserError(f"{path} needs the name of its label column; give --label COLUMN")
    table, skipped = columns.reading.file(path, columns.label, columns.group)
    check_columns(path, table.column_names, columns.wanted)
    if not table.num_rows:
        raise UserError(f"{path} has no rows; give at least 100")
    return table, skipped


def _joined(first: Any, second: Any, what: str) -> tuple[Any, np.ndarray, str]:
    import pyarrow as pa

    member = np.arange(first.num_rows + second.num_rows) < first.num_rows
    try:
        table = pa.concat_tables([first, second], promote_options="permissive").combine_chunks()
    except pa.ArrowException:
        kinds = [
            f"{name} ({a.type}, {b.type})"
            for name, a, b in zip(first.column_names, first.columns, second.columns, strict=True)
            if a.type != b.type
        ]
        raise UserError(
            f"columns of {what} hold values of different kinds: {', '.join(kinds[:5])}; make them alike"
        ) from None
    return table, member, what


def _rows_of(table: Any, member: np.ndarray, what: str, columns: TableColumns) -> Rows:
    features = features_of(table, what, columns)
    x, places, notes = encoded(table, features)
    inputs = _inputs(table.select(features), x, columns.inputs, what)
    return replace(labelled(table, member, what, columns), inputs=inputs, x=x, places=places, notes=notes)


def features_of(table: Any, what: str, columns: TableColumns) -> list[str]:
    """The columns of a table that are not named otherwise. Raises: `UserError` if there are none."""
    features = [name for name in table.column_names if name not in columns.named.values()]
    if not features:
        raise UserError(
            f"{what} have no columns besides {listed(list(columns.named.values()))}; keep at least one feature"
        )
    return features


def labelled(table: Any, member: np.ndarray, what: str, columns: TableColumns) -> Rows:
    """The labels, groups and names of a table's rows, without inputs. Raises: `UserError` for missing values."""
    found = {option: values_of(what, name, table.column(name)) for option, name in columns.named.items()}
    return Rows(
        inputs=None,
        x=torch.zeros(table.num_rows, 0),
        labels=found["--label"],
        member=member,
        group=coded(found["--group"]) if "--group" in found else None,
        persons=names(found["--group"]) if "--group" in found else (),
        ids=names(found["--id"]) if "--id" in found else (),
        by=names(values_of(what, columns.by, table.column(columns.by))) if columns.by else (),
    )


def _inputs(features: Any, x: Tensor, inputs: Inputs, what: str) -> Any:
    """The columns as float32 (P, D) if all are numbers, else as a pandas DataFrame; or what was asked for."""
    if inputs == "encoded":
        return x.float().numpy().copy()
    texts = [
        name for name, column in zip(features.column_names, features.columns, strict=True) if not is_numeric(column)
    ]
    if inputs == "array" and texts:
        raise UserError(
            f"column {texts[0]!r} of {what} holds no numbers, so that --inputs array is not possible; take frame"
        )
    if inputs == "frame" or texts:
        if importlib.util.find_spec("pandas") is None:
            raise UserError(
                f"{what} need a data frame for column {(texts or features.column_names)[0]!r}; install pandas: pip install"
                " 'hampkit[pandas]', or give --inputs encoded"
            )
        return features.to_pandas()
    return np.stack([floats(column) for column in features.columns], axis=1)
