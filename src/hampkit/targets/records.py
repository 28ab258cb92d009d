"""The records of an audit: labels, membership, groups and names as a user gives them, checked and in the order of judging."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hampkit.data.copies import first_alike
from hampkit.data.table_values import listed
from hampkit.errors import UserError, did_you_mean, one_line
from hampkit.rng import derive, numpy_rng
from hampkit.types import Dataset, Domain

LEAST = 100  # members, and non-members: below it an interval covers almost everything
LEAST_GROUPS = 20  # of members, and of non-members
MOST_EQUAL = 0.01  # share of the non-members that may be equal to a member
_MEMBER = {"1": True, "true": True, "yes": True, "member": True, "in": True, "train": True}
_OTHER = {"0": False, "false": False, "no": False, "nonmember": False, "non-member": False, "out": False, "test": False}


@dataclass(frozen=True)
class Records:
    """P records. Each array is in the order of the user's rows."""

    y: NDArray[np.int64]  # (P,) in [0, C)
    member: NDArray[np.bool_]  # (P,)
    classes: tuple[str, ...]  # (C,)
    x: Tensor | None = None  # (P, *shape) as attacks see them
    group: NDArray[np.int64] | None = None  # (P,)
    ids: tuple[str, ...] = ()  # (P,) the user's names; empty: row numbers from 1
    domain: Domain | None = field(default=None, repr=False)
    by: tuple[str, ...] = ()  # (P,) the subgroups that are judged apart
    persons: tuple[str, ...] = ()  # (P,) the user's names of the groups
    # (P,) one number for equal inputs, where attacks do not see all of what the model receives; None: those of ``x``
    alike: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: NDArray[np.int64]) -> Records:
        """These records (n,), in this order."""

        def names(values: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(values[row] for row in rows.tolist()) if values else ()

        return replace(
            self,
            y=self.y[rows],
            member=self.member[rows],
            x=None if self.x is None else self.x[torch.from_numpy(rows)],
            group=None if self.group is None else self.group[rows],
            ids=names(self.ids),
            by=names(self.by),
            persons=names(self.persons),
            alike=None if self.alike is None else self.alike[rows],
        )

    def order(self, seed: int) -> NDArray[np.int64]:
        """(P,) the places of the members, then of the non-members, each in random order; rows of one group are neighbours.

        It does not depend on how members and non-members are mixed: a table of both and two tables give the same order.
        """
        return np.concatenate(
            [self._shuffled(np.flatnonzero(self.member == side), seed, side) for side in (True, False)]
        )

    def _shuffled(self, places: NDArray[np.int64], seed: int, side: bool) -> NDArray[np.int64]:
        """The places (n,) of one side, shuffled as whole groups."""
        group = places if self.group is None else self.group[places]
        _, first, of = np.unique(group, return_index=True, return_inverse=True)
        appearance = np.argsort(np.argsort(first))  # groups are numbered by their first row
        rank = numpy_rng(derive(seed, "order of records", side)).permutation(len(first))[appearance[of]]
        return places[np.argsort(rank, kind="stable")]

    def pool(self, title: str, sha256: str, order: NDArray[np.int64]) -> Dataset:
        """The records as a data set; order: (P,) their places among the user's rows. Without inputs, x has the shape (P, 0)."""
        x = torch.zeros(len(self), 0) if self.x is None else self.x
        return Dataset(
            name=title,
            x=x,
            y=torch.from_numpy(self.y),
            num_classes=len(self.classes),
            domain=self.domain or Domain.grid(tuple(x.shape[1:]), 0.0, 1.0, 0.0),
            sha256=sha256,
            classes=self.classes,
            row=torch.from_numpy(order),
            group=None if self.group is None else torch.from_numpy(self.group),
        )

    def equal(self) -> int:
        """The number of non-members with the inputs of a member, or its name where there are no inputs."""
        if self.alike is not None:
            alike = self.alike
        elif self.x is not None and self.x.numel():
            alike = first_alike(self.x)
        elif self.ids:
            alike = np.unique(np.array(self.ids), return_inverse=True)[1]
        else:
            return 0
        return int(np.isin(alike[~self.member], alike[self.member]).sum())


def membership(what: str, values: Sequence[Any], of_members: str = "") -> NDArray[np.bool_]:
    """(P,) bool of values such as 1 and 0, true and false, or member and nonmember; or whether they are that of members.

    what: the place, for messages. Raises: `UserError` for another value.
    """
    if of_members:
        found = np.array(names(values))
        if of_members not in found:
            there = ", ".join(map(repr, np.unique(found)[:4].tolist()))
            raise UserError(f"{what} has no value {of_members!r}; there are {there}")
        return found == of_members
    texts, codes = np.unique(np.array([_text(value) for value in values]), return_inverse=True)
    known = {**_MEMBER, **_OTHER}
    for k, text in enumerate(texts):
        if text not in known:
            row = int((codes == k).argmax())
            raise UserError(
                f"{what} has {values[row]!r} in data row {row + 1}; give 1 for members and 0 for non-members (or true and false,"
                " yes and no, in and out, train and test, member and nonmember), or name the value of members by --member"
                " COLUMN=VALUE"
            )
    return np.array([known[text] for text in texts], dtype=bool)[codes]


def check_sides(what: str, member: NDArray[np.bool_]) -> None:
    """Check that there are enough members and non-members.

    Raises: `UserError`.
    """
    n1, n0 = int(member.sum()), int((~member).sum())
    for n, name in ((n1, "members"), (n0, "non-members")):
        if not n:
            raise UserError(
                f"{what} has no {name}; an audit compares members with non-members: add records of both kinds"
            )
    if min(n1, n0) < LEAST:
        raise UserError(
            f"{what} has {n1:,} members and {n0:,} non-members; an audit needs at least {LEAST} of each: add records"
        )


def check_groups(what: str, records: Records) -> None:
    """Check that there are enough groups on both sides: some of them are known to the attacker, and the others are judged.

    Raises: `UserError`.
    """
    if records.group is None:
        return
    n1, n0 = (len(np.unique(records.group[records.member == side])) for side in (True, False))
    if min(n1, n0) < LEAST_GROUPS:
        raise UserError(
            f"{what} has {n1:,} groups of members and {n0:,} of non-members; an audit by group needs at least {LEAST_GROUPS} of"
            " each: add groups, or leave the group out"
        )


def class_codes(what: str, labels: Sequence[Any], classes: Sequence[str]) -> NDArray[np.int64]:
    """(P,) the places of the labels among the names of the classes.

    Raises: `UserError` for a label that is none of them.
    """
    texts, codes = np.unique(np.array([_text(label, False) for label in labels]), return_inverse=True)
    index = {name: k for k, name in enumerate(classes)}
    for k, text in enumerate(texts.tolist()):
        if text not in index:
            row = int((codes == k).argmax())
            raise UserError(
                f"{what} has {text!r} in data row {row + 1}, and the answers have no such class; {did_you_mean(text, classes)}"
            )
    return np.array([index[text] for text in texts.tolist()], dtype=np.int64)[codes]


def numbered(what: str, y: Any, classes: int) -> NDArray[np.int64]:
    """(P,) int64 of labels that are numbers of classes.

    Raises: `UserError` for labels that are no whole numbers in [0, classes).
    """
    values = np.asarray(y)
    if values.ndim != 1 or values.dtype.kind not in "biuf":
        raise UserError(
            f"{what} is {values.dtype} {values.shape}; give one whole number for each record, shape (records,)"
        )
    bad = ~np.isfinite(values.astype(np.float64)) | (values < 0) | (values >= classes)
    bad |= values != np.floor(np.where(bad, 0, values))
    if bad.any():
        row = int(bad.argmax())
        raise UserError(
            f"{what} has {values[row]} in data row {row + 1}; with answers of {classes} classes labels are 0 to {classes - 1}"
        )
    return values.astype(np.int64)


def sorted_names(texts: Iterable[str]) -> list[str]:
    """Names of classes in order: by value if all are numbers, else as texts.

    >>> sorted_names({"10", "9", "1"}), sorted_names({"b", "a", "10"})
    (['1', '9', '10'], ['10', 'a', 'b'])
    """
    names = sorted(set(texts))
    try:
        return sorted(names, key=float)
    except ValueError:
        return names


def coded(values: Sequence[Any]) -> NDArray[np.int64]:
    """(P,) numbers from 0 for equal values, such as names of persons."""
    return np.unique(np.array([_text(value, False) for value in values]), return_inverse=True)[1].astype(np.int64)


def names(values: Sequence[Any]) -> tuple[str, ...]:
    """(P,) values as texts."""
    return tuple(_text(value, False) for value in values)


def by_option(**columns: str) -> dict[str, str]:
    """Option → column, of those that are named.

    >>> by_option(label="y", group="")
    {'--label': 'y'}
    """
    return {f"--{option}": name for option, name in columns.items() if name}


def arrow(what: str, table: Any) -> Any:
    """A table as a pyarrow Table: itself, or an object with the Arrow stream protocol, without the index of pandas.

    Raises: `UserError` for another object, columns with one name, and no rows.
    """
    import pyarrow as pa

    if not isinstance(table, pa.Table):
        if not hasattr(table, "__arrow_c_stream__"):
            raise UserError(
                f"{what} is a {type(table).__name__}; give a file, or a table with the Arrow stream protocol, such as a data"
                " frame of pandas 2.2 or polars"
            )
        try:
            table = pa.table(table)
        except (pa.ArrowException, TypeError, ValueError) as error:
            why = one_line(error)
            raise UserError(f"{what} cannot be read: {why}; give each column values of one kind") from error
    kept = [name for name in table.column_names if not name.startswith("__index_level_")]  # the index of pandas
    twice = sorted({name for name in kept if kept.count(name) > 1})
    if twice:
        raise UserError(f"{what} has columns with the same name: {listed(twice)}; rename them")
    if not table.num_rows:
        raise UserError(f"{what} has no rows; give at least 100 members and 100 non-members")
    return table.select(kept)


def values_of(what: str, name: str, column: Any) -> list[Any]:
    """The values of a pyarrow column. Raises: `UserError` if one is missing."""
    check_complete(what, name, column)
    return column.to_pylist()


def check_complete(what: str, name: str, column: Any) -> None:
    """Check that a pyarrow column has a value in each row. Raises: `UserError`."""
    if column.null_count:
        row = int(column.is_null().to_numpy().argmax())
        raise UserError(f"column {name!r} of {what} has no value in data row {row + 1}; fill it, or remove the row")


def _text(value: Any, lower: bool = True) -> str:
    """A value as text; a whole number has no point."""
    if isinstance(value, (bool, np.bool_)):
        value = str(bool(value))
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    text = str(value).strip()
    return text.lower() if lower else text
