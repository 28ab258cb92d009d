"""Predictions as arrays or as a table: the answers of a model, its labels, and which records are members."""

from __future__ import annotations

import fnmatch
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hampkit.data.table import existing
from hampkit.data.table_arrays import read_npz
from hampkit.data.table_cells import is_number, leaving_out
from hampkit.data.table_values import TableOptions, check_columns, compact, domain_of, listed
from hampkit.errors import UserError, did_you_mean
from hampkit.targets.answers import KINDS, Kind, off
from hampkit.targets.base import Given
from hampkit.targets.reading import Reading
from hampkit.targets.records import (
    Records,
    arrow,
    by_option,
    check_complete,
    class_codes,
    coded,
    membership,
    names,
    numbered,
    sorted_names,
    values_of,
)

ARRAYS = ("probabilities", "logits", "y", "member", "x", "group", "id", "by", "classes", "shadow_logits", "shadow_probabilities",
          "shadow_members")  # fmt: skip


@dataclass(frozen=True)
class Columns:
    """The names of the columns of a table of predictions."""

    label: str = ""
    member: str = ""  # or COLUMN=VALUE, the value of members
    group: str = ""
    id: str = ""
    by: str = ""
    answers: str = ""  # a pattern such as ``p_*``; default: all columns that are not named otherwise
    kind: Kind = "auto"
    positive: str = ""  # the class whose probability the only column of answers is
    reading: Reading = field(default_factory=Reading)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"kind={self.kind!r} must be one of {', '.join(KINDS)}")

    @property
    def named(self) -> dict[str, str]:
        """Option → column."""
        return by_option(label=self.label, member=self.member, group=self.group, id=self.id, by=self.by)

    @property
    def given(self) -> list[str]:
        """The options that were given, for files in which they have no effect."""
        more = [("--answers", bool(self.answers)), ("--kind", self.kind != "auto"), ("--positive", bool(self.positive))]
        return [*self.named, *(option for option, is_given in more if is_given), *self.reading.given]


def from_arrays(title: str, what: str, arrays: dict[str, Any]) -> Given:
    """Predictions as arrays: ``logits`` or ``probabilities`` (P, C), ``y`` (P,), ``member`` (P,).

    Optional: ``x`` (P, …), ``group`` (P,), ``id`` (P,), ``classes`` (C,), and of M shadow models ``shadow_logits`` or
    ``shadow_probabilities`` (M, P, C) and ``shadow_members`` (M, P).
    Raises: `UserError` for missing arrays and for values that no audit can use.
    """
    given = {name: value for name, value in arrays.items() if value is not None}
    kinds = [kind for kind in ("probabilities", "logits") if kind in given]
    if len(kinds) != 1:
        raise UserError(f"{what} needs either logits or probabilities, and has {' and '.join(kinds) or 'neither'}")
    for name in ("y", "member"):
        if name not in given:
            raise UserError(f"{what} lacks {name}; give one value for each record")
    answers = np.asarray(given[kinds[0]])
    if answers.ndim != 2 or answers.shape[1] < 2:
        raise UserError(
            f"{what} has {kinds[0]} of shape {answers.shape}; give one row per record and one column per class, of at least two"
        )
    _check_rows(what, len(answers), given)
    shadow = _shadow_arrays(what, kinds[0], given)
    return Given(
        title=title,
        what=f"{kinds[0]} of {what}",
        records=_records(what, given, answers.shape[1]),
        answers=answers,
        way="predictions",
        kind="logits" if kinds[0] == "logits" else "probabilities",
        shadow_answers=shadow,
        shadow_members=given.get("shadow_members"),
    )


def from_file(file: str | Path, columns: Columns) -> Given:
    """Predictions of a .csv, .tsv, .parquet or .npz file.

    Raises: `UserError`.
    """
    path = existing(file, "predictions")
    if path.suffix.lower() == ".npz":
        if given := columns.given:
            raise UserError(
                f"{given[0]} has no effect on {path}, whose arrays have fixed names ({listed(ARRAYS, 20)}); leave it out"
            )
        return from_arrays(path.stem, str(path), dict(read_npz(path, _known, "probabilities=…, y=…, member=…")))
    table, skipped = columns.reading.file(path, columns.label, columns.group)
    given = _of_table(path.stem, str(path), arrow(str(path), table), columns)
    return replace(given, notes=(*skipped, *given.notes))


def from_table(title: str, what: str, table: Any, columns: Columns) -> Given:
    """Predictions of a table: a pyarrow Table, or an object with the Arrow stream protocol, such as a data frame.

    Raises: `UserError`.
    """
    return _of_table(title, what, columns.reading.memory(what, arrow(what, table)), columns)


def _of_table(title: str, what: str, table: Any, columns: Columns) -> Given:
    """Predictions of a pyarrow Table, see `from_table`."""
    there = list(table.column_names)
    columns, of_members = _with_value(columns, there)
    for flag in ("--label", "--member"):
        if flag not in columns.named:
            raise UserError(f"{what} needs {flag} COLUMN, one of {listed(there)}")
    check_columns(what, there, ((name, option) for option, name in columns.named.items()))
    if len(set(columns.named.values())) < len(columns.named):
        raise UserError(
            f"{what}: one column is named twice, {listed(list(columns.named.values()))}; each option needs its own"
        )
    found = {option: values_of(what, name, table.column(name)) for option, name in columns.named.items()}
    chosen = _answer_columns(what, there, columns)
    wanted = set(names(found["--label"]))
    _check_texts(what, table, chosen)
    answers = np.stack([_numbers(what, table, name, wanted, columns) for name in chosen], axis=1)
    classes, answers = _classes(what, chosen, answers, wanted, columns.positive)
    extra = [name for name, end in zip(chosen, classes, strict=False) if end not in wanted]
    if len(chosen) > 1 and extra and not columns.answers and off(answers).any():
        raise UserError(
            f"{what}: the columns {listed(extra, 4)} would be answers, and no record has such a label; name those with"
            " answers by --answers 'PREFIX*', and others by --id or --group"
        )
    records = Records(
        y=class_codes(f"column {columns.label!r} of {what}", found["--label"], classes),
        member=membership(f"column {columns.member!r} of {what}", found["--member"], of_members),
        classes=classes,
        group=coded(found["--group"]) if "--group" in found else None,
        persons=names(found["--group"]) if "--group" in found else (),
        ids=names(found["--id"]) if "--id" in found else (),
        by=names(found["--by"]) if "--by" in found else (),
    )
    return Given(
        title, what, records, answers, "predictions", columns.kind, notes=(_note(what, chosen, classes, columns),)
    )


def _with_value(columns: Columns, there: list[str]) -> tuple[Columns, str]:
    """The columns, and the value of members if ``member`` is COLUMN=VALUE; a column with such a name comes first."""
    name, _, value = columns.member.rpartition("=")
    if columns.member in there or name not in there:
        return columns, ""
    return replace(columns, member=name), value


def _note(what: str, chosen: list[str], classes: Sequence[str], columns: Columns) -> str:
    """What was taken for answers."""
    if len(chosen) > 1:
        return f"answers are the columns {listed(chosen, 4)}"
    of = _positive(what, chosen[0], classes, columns.positive)
    return f"the one column of answers, {chosen[0]!r}, is taken as the probability of class {of!r}"


def _records(what: str, given: dict[str, Any], classes: int) -> Records:
    x = None
    if "x" in given:
        values = np.asarray(given["x"])
        if values.ndim < 2 or values.dtype.kind not in "biuf":
            raise UserError(f"x of {what} is {values.dtype} {values.shape}; give numbers of shape (records, features…)")
        x = torch.from_numpy(compact(f"x of {what}", values, ""))
    names_of = tuple(map(str, given["classes"])) if "classes" in given else tuple(map(str, range(classes)))
    y = np.asarray(given["y"])
    codes = (
        class_codes(f"y of {what}", y.tolist(), names_of)
        if "classes" in given
        else numbered(f"y of {what}", y, classes)
    )
    return Records(
        y=codes,
        member=membership(f"member of {what}", np.asarray(given["member"]).tolist()),
        classes=names_of,
        x=x,
        group=coded(np.asarray(given["group"]).tolist()) if "group" in given else None,
        persons=names(np.asarray(given["group"]).tolist()) if "group" in given else (),
        ids=names(np.asarray(given["id"]).tolist()) if "id" in given else (),
        by=names(np.asarray(given["by"]).tolist()) if "by" in given else (),
        domain=None if x is None else domain_of(x, ()),
    )


def _check_rows(what: str, n: int, given: dict[str, Any]) -> None:
    for name in ("y", "member", "x", "group", "id", "by"):
        if name in given and len(np.shape(given[name])) == 0:
            raise UserError(f"{name} of {what} is a single value; give one for each record")
        if name in given and len(given[name]) != n:
            raise UserError(
                f"{name} of {what} has {len(given[name]):,} rows, and the answers have {n:,}; give one for each record"
            )


def _shadow_arrays(what: str, kind: str, given: dict[str, Any]) -> Any:
    """The answers of shadow models, of the same kind as the target's; None without any."""
    name, other = f"shadow_{kind}", "shadow_logits" if kind == "probabilities" else "shadow_probabilities"
    if other in given:
        raise UserError(
            f"{what} has {kind} and {other}; the model and its shadow models need answers of one kind: {name}"
        )
    if (name in given) != ("shadow_members" in given):
        there, lacking = (name, "shadow_members") if name in given else ("shadow_members", name)
        raise UserError(f"{what} has {there} but no {lacking}; give both or neither")
    return np.asarray(given[name]) if name in given else None


def _known(there: list[str]) -> list[str]:
    return [name for name in there if name in ARRAYS]


def _numbers(what: str, table: Any, name: str, labels: set[str], columns: Columns) -> Any:
    """A column of answers (P,); labels: those that occur. Raises: `UserError`."""
    import pyarrow as pa

    column = table.column(name)
    if not is_number(column.type):
        raise UserError(
            f"column {name!r} of {what} is taken as an answer and {_no_numbers(column, labels)}, name this column by --id or"
            f" --group, or {leaving_out(name, TableOptions(drop=columns.reading.drop))}"
        )
    check_complete(what, name, column)
    return column.cast(pa.float64(), safe=False).to_numpy()


def _check_texts(what: str, table: Any, chosen: list[str]) -> None:
    """Check that at most one column of answers has no numbers: that one gets a message of its own. Raises: `UserError`."""
    texts = [name for name in chosen if not is_number(table.column(name).type)]
    numbers = [name for name in chosen if name not in texts]
    if len(texts) > 1 and numbers:
        raise UserError(
            f"the columns {listed(texts, 8)} of {what} hold no numbers and would be answers, as {listed(numbers, 4)} would; name"
            f" the columns of answers by --answers, such as --answers {shlex.quote(numbers[0])}"
        )


def _no_numbers(column: Any, labels: set[str]) -> str:
    """What a column without numbers holds, and the first remedy."""
    texts = set(names(column.drop_null().to_pylist()))
    if texts and all(re.fullmatch(r"\d+([.,]\d+)?\s?%", text) for text in texts):
        return f"holds percentages, such as {min(texts)!r}; write them as numbers from 0 to 1"
    if texts and texts <= labels:
        return "holds labels, not probabilities; give a column of probabilities for each class"
    if texts and all(re.fullmatch(r"[+-]?\d+(,\d+)?([eE][+-]?\d+)?", text) for text in texts):
        return f"holds numbers with decimal commas, such as {min(texts)!r}; read them with 'decimal=,'"
    return f"holds no numbers ({column.type}); name the columns with the answers: --answers 'PREFIX*'"


def _answer_columns(what: str, there: Sequence[str], columns: Columns) -> list[str]:
    others = [name for name in there if name not in columns.named.values()]
    found = fnmatch.filter(others, columns.answers) if columns.answers else others
    if not found:
        pattern = f" that matches {columns.answers!r}" if columns.answers else ""
        raise UserError(f"{what} has no column of answers{pattern}; columns: {listed(list(there))}")
    return found


def _classes(what: str, chosen: list[str], answers: Any, wanted: set[str], named: str) -> tuple[tuple[str, ...], Any]:
    """The names of the classes: those of the columns, without their common prefix; and the answers (P, C).

    wanted: the labels that occur. named: the class that a single column is the probability of, see `_positive`.
    """
    if len(chosen) > 1:
        if named:
            raise UserError(
                f"--positive {named} names the class of the only column of answers, and {what} has {len(chosen)}:"
                f" {listed(chosen, 4)}; leave it out, or name the column by --answers"
            )
        return _named(chosen, wanted), answers
    if len(wanted) != 2:
        raise UserError(
            f"{what} has one column of answers, {chosen[0]!r}, and {len(wanted)} labels; one column is the probability of one of"
            " two classes: give a column per class"
        )
    if ((answers < 0) | (answers > 1)).any():
        percent = " (percentages are divided by 100 first)" if answers.min() >= 0 and answers.max() <= 100 else ""
        raise UserError(
            f"column {chosen[0]!r} of {what} is the only answer and has values outside [0, 1]; one column is the probability of"
            f" one of two classes{percent}: give a column per class for logits"
        )
    first, second = sorted_names(wanted)
    both = np.concatenate([1 - answers, answers], axis=1)
    of = _positive(what, chosen[0], (first, second), named)
    return (first, second), both if of == second else both[:, ::-1].copy()


def _positive(what: str, column: str, classes: Sequence[str], named: str) -> str:
    """The one of two classes whose probability the only column of answers is: the one that was named, else the one that the
    column is named after, else the second of 0 and 1, or of false and true.

    Raises: `UserError` if nothing decides.
    """
    if named:
        if named not in classes:
            raise UserError(f"--positive {named} is none of the labels of {what}; {did_you_mean(named, classes)}")
        return named
    ends = [name for name in classes if column == name or column.endswith((f"_{name}", f".{name}", f" {name}"))]
    if len(ends) == 1:
        return ends[0]
    if [name.lower() for name in classes] in (["0", "1"], ["false", "true"]):
        return classes[1]
    raise UserError(
        f"{what} has one column of answers, {column!r}, which is not named after a class; give the class whose probability it is:"
        f" --positive {shlex.quote(classes[0])} or --positive {shlex.quote(classes[1])}"
    )


def _named(chosen: list[str], wanted: set[str]) -> tuple[str, ...]:
    """The names of columns as classes: as they are if they hold all labels, else without their common prefix.

    A label of a data frame with missing values is 1.0, and so is its column p_1.0: both are the class 1.

    >>> _named(["p_0.0", "p_1.0"], {"0", "1"})
    ('0', '1')
    """
    if wanted <= set(chosen):
        return tuple(chosen)
    if all(name.endswith(".0") for name in chosen):
        whole = _named([name[:-2] for name in chosen], wanted)
        if wanted <= set(whole):
            return whole
    shortest, longest = min(chosen), max(chosen)
    length = next((k for k, c in enumerate(shortest) if k >= len(longest) or c != longest[k]), len(shortest))
    for k in range(length, -1, -1):  # "class_10" and "class_11" share "class_1", which is too much
        cut = tuple(name[k:] for name in chosen)
        if wanted <= set(cut):
            return cut
    return tuple(name[length:] for name in chosen)
