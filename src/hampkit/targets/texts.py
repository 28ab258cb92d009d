"""Texts as inputs of a foreign model: a column of the user's tables, or lists of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hampkit.data.table import existing
from hampkit.data.table_values import listed
from hampkit.errors import UserError
from hampkit.targets.model_inputs import Rows, TableColumns, features_of, joined_tables, labelled
from hampkit.targets.records import values_of


def text_rows_of_files(members: str | Path, nonmembers: str | Path, columns: TableColumns, text: str) -> Rows:
    """The rows of two tables, .csv, .tsv or .parquet, with the texts of one column as inputs.

    text: the column; empty: the only one of texts. Raises: `UserError`.
    """
    paths = existing(members, "members"), existing(nonmembers, "nonmembers")
    for path in paths:
        if path.suffix.lower() == ".npz":
            raise UserError(f"{path} holds arrays, and the model reads texts; give a .csv, .tsv or .parquet file")
    table, member, what, skipped = joined_tables(*paths, columns)
    texts = _column(what, table, features_of(table, what, columns), text)
    rows = labelled(table, member, what, columns)
    return replace(rows, inputs=texts, notes=(*skipped, *rows.notes))


def text_rows(members: Any, nonmembers: Any) -> Rows:
    """The rows of two pairs (texts, y), lists of texts with their labels.

    Raises: `UserError` for anything else.
    """
    sides = [_pair(name, pair) for name, pair in (("members", members), ("nonmembers", nonmembers))]
    texts, labels = ([*sides[0][k], *sides[1][k]] for k in (0, 1))
    return Rows(texts, torch.zeros(len(texts), 0), labels, np.arange(len(texts)) < len(sides[0][0]))


def _column(what: str, table: Any, features: Sequence[str], text: str) -> list[str]:
    """The texts (P,) of the column ``text`` of a pyarrow table, or of the only column of texts among the features.

    Raises: `UserError` for a column that is missing, that holds no texts, or that is not the only one.
    """
    if not text:
        found = [name for name in features if _holds_texts(table.column(name))]
        if len(found) != 1:
            there = f"the columns of texts {listed(found)}" if found else "no column of texts"
            raise UserError(f"{what} have {there}; name the one that the model reads: --text COLUMN")
        text = found[0]
    if text not in features:
        raise UserError(f"{what} have no column {text!r} (--text); columns: {listed(list(features))}")
    if not _holds_texts(table.column(text)):
        raise UserError(f"column {text!r} of {what} (--text) holds {table.column(text).type}, not texts")
    return [str(value) for value in values_of(what, text, table.column(text))]


def _pair(name: str, pair: Any) -> tuple[list[str], list[Any]]:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise UserError(f"{name} must be a pair (texts, y), or a file")
    texts, y = list(pair[0]), np.asarray(pair[1]).tolist()
    wrong = next((text for text in texts if not isinstance(text, str)), None)
    if isinstance(pair[0], str) or wrong is not None:
        raise UserError(f"the texts of {name} must be a list of texts; one of them is a {type(wrong).__name__}")
    if not isinstance(y, list) or len(y) != len(texts):
        raise UserError(f"{name} has {len(texts):,} texts; give a list with one label for each of them")
    return texts, y


def _holds_texts(column: Any) -> bool:
    return str(column.type) in ("string", "large_string", "string_view") or str(column.type).startswith(
        "dictionary<values=string"
    )
