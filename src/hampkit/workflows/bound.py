"""The workflow of ``hampkit bound``: bounds on epsilon and mu from the scores of canaries."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from hampkit.data.table import existing
from hampkit.data.table_columns import read_file
from hampkit.data.table_values import TableOptions, check_columns, listed
from hampkit.errors import Notice, UserError
from hampkit.stats.bounds import OneRun, audit_scores, unlikely_coins
from hampkit.targets.records import membership

LOOSE = (
    "These are lower bounds from one model. They hold if a fair coin decided for each record whether it was trained on; they are"
    " loose: one model cannot show more than its number of records allows, and the true values may be much higher"
)


def bound_of_file(file: str | Path, included: str, score: str, delta: float, level: float, seed: int) -> OneRun:
    """The bounds from a table with a column of scores and one that says whether each record was trained on.

    score: default: the only other column. Raises: `UserError`.
    """
    path = existing(file, "scores")
    if path.suffix.lower() == ".npz":
        raise UserError(
            f"{path} is no table; give a .csv, .tsv or .parquet file with a column of scores and --included COLUMN"
        )
    table, skipped = read_file(path, TableOptions(label=included))
    for line in skipped:
        warnings.warn(line, Notice, stacklevel=2)
    there = list(table.column_names)
    if not included:
        raise UserError(f"{path} needs --included COLUMN, one of {listed(there)}")
    check_columns(path, there, [(included, "--included"), *([(score, "--score")] if score else [])])
    others = [name for name in there if name != included]
    if score == included:
        raise UserError(
            f"--score and --included name one column, {score!r}; name the column with the scores by --score"
        )
    if not table.num_rows:
        raise UserError(f"{path} has no rows; give one row for each record")
    if not score and len(others) != 1:
        raise UserError(f"{path} has the columns {listed(others)}; name the one with the scores: --score COLUMN")
    name = score or others[0]
    values = _numbers(f"column {name!r} of {path}", table.column(name))
    inside = membership(f"column {included!r} of {path}", table.column(included).to_pylist())
    return bounds(values, inside, delta, level, seed)


def one_run_bounds(attack: str, scores: Any, included: Any, delta: float, seed: int) -> dict[str, Any]:
    """The bounds from an attack's scores of all records (m,) as a results document has them, and those of a perfect attack."""
    inside = np.asarray(included, dtype=bool)
    found, most = (audit_scores(values, inside, delta=delta, seed=seed) for values in (scores, inside.astype(float)))
    ends = ("epsilon", "mu", "epsilon_of_mu")
    numbers = {key: getattr(found, key) for key in ("canaries", "delta", "level", *ends)}
    return {"attack": attack, **numbers, "most": {key: getattr(most, key) for key in ends}}


def bounds(scores: Any, included: Any, delta: float, level: float, seed: int) -> OneRun:
    """`hampkit.stats.bounds.audit_scores` for a user. Raises: `UserError`."""
    if not 0 <= delta < 1:
        raise UserError(f"--delta {delta:g} must be at least 0 and below 1")
    if not 0 < level < 1:
        raise UserError(f"--level {level:g} must lie between 0 and 1, such as 0.95")
    if seed < 0:
        raise UserError(f"--seed {seed} must be at least 0")
    if why := unlikely_coins(included):
        raise UserError(f"no bound: {why}; give the records on which fair coins decided")
    try:
        return audit_scores(scores, included, delta=delta, level=level, seed=seed)
    except ValueError as error:
        raise UserError(f"no bound: {error}") from None


def lines(found: OneRun) -> list[str]:
    """The bounds in words."""
    best = max(found.tried, key=lambda guesses: guesses.epsilon)
    return [
        f"{found.canaries:,} records, confidence {found.level:g}, delta {found.delta:g}",
        f"epsilon is at least {found.epsilon:.4f} (Steinke et al. 2023; {best.correct:,} of {best.guesses:,} guesses are right)",
        f"mu is at least {found.mu:.4f}{_epsilon(found)} (Mahloujifar et al. 2024)",
        f"{LOOSE}.",
    ]


def _epsilon(found: OneRun) -> str:
    """The epsilon of mu in words; at a delta of 0 there is none."""
    return f", an epsilon of {found.epsilon_of_mu:.4f}" if found.delta else ""


def _numbers(what: str, column: Any) -> np.ndarray:
    import pyarrow as pa

    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise UserError(f"{what} holds no numbers ({column.type}); name another by --score")
    if column.null_count:
        raise UserError(f"{what} has {column.null_count:,} cells without a value; leave these records out")
    return column.to_numpy().astype(np.float64)
