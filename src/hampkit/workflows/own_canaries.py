"""Canaries among the records of a user's own training function."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hampkit.config.sections import CanaryConfig
from hampkit.data.canaries import Canaries, make_canaries
from hampkit.errors import UserError
from hampkit.rng import derive, numpy_rng
from hampkit.targets.encoding import some_of
from hampkit.targets.model_inputs import Rows
from hampkit.types import Dataset
from hampkit.workflows.own_training import OwnTraining

LEAST = 50  # canaries in training, and others


def own_with_canaries(own: OwnTraining, config: CanaryConfig) -> OwnTraining:
    """The training function with K canaries behind its records. Mislabelled ones take the place of the records they are made of.

    Raises: `UserError` for a number that these records do not allow, and for blank canaries of a table.
    """
    (y, classes), rows, encoding = own.labels, own.rows, own.rows.encoding
    n = len(y)
    if 2 * config.count > n and config.kind in ("mislabelled", "near-duplicate"):
        raise UserError(
            f"canaries={config.count} must be at most half of the {n:,} records, of which {config.kind} canaries are made; take"
            " fewer, more records, or --canary-kind out-of-support"
        )
    places = torch.arange(n)
    data = Dataset(own.name, encoding.seen, torch.from_numpy(y), len(classes), encoding.domain)
    made = make_canaries(data, {"members": places, "nonmembers": places}, config, own.seed)
    _check_sides(made)
    if made.rows is None:  # columns that attacks do not see are those of any record
        origin = numpy_rng(derive(config.seed, "canaries", "origin")).integers(0, n, len(made))
    else:
        origin = made.rows.numpy()
    mislabelled = config.kind == "mislabelled"
    stay = np.setdiff1d(np.arange(n), origin) if mislabelled else np.arange(n)
    whole = _behind(
        rows, stay, made, encoding.decoded(made.x, origin, filled=True), [classes[c] for c in made.y.tolist()]
    )
    whole = replace(whole, ids=("",) * len(stay) + _names(rows, made))
    return replace(own, rows=whole, canaries=made, true_labels=y[origin] if mislabelled else None, classes=classes)


def _behind(rows: Rows, stay: NDArray[np.int64], made: Canaries, inputs: Any, labels: list[str]) -> Rows:
    """The rows that stay, and behind them the canaries. Every canary is a unit of its own, and others are always in training."""
    before = some_of(rows.inputs, stay)
    if isinstance(before, np.ndarray):
        whole = np.concatenate([before, inputs])
    else:
        import pandas  # pyright: ignore[reportMissingImports]

        whole = pandas.concat([before, inputs], ignore_index=True)
    x = torch.cat([rows.x[torch.from_numpy(stay)], rows.encoding.stored(made.x).to(rows.x.dtype)])
    values = list(rows.labels)
    return Rows(
        whole,
        x,
        [*(values[k] for k in stay), *labels],
        np.zeros(len(x), dtype=bool),
        notes=rows.notes,
        places=rows.places,
    )


def _names(rows: Rows, made: Canaries) -> tuple[str, ...]:
    """The names of the canaries, with the record that each is made of."""
    if made.rows is None:
        return tuple(f"canary {k + 1}" for k in range(len(made)))
    named = [rows.ids[row] if rows.ids else f"data row {row + 1}" for row in made.rows.tolist()]
    return tuple(f"canary {k + 1} of {name}" for k, name in enumerate(named))


def _check_sides(made: Canaries) -> None:
    """Raises: `UserError` for fewer canaries on one side than an audit needs."""
    inside = int(made.included.sum())
    if min(inside, len(made) - inside) < LEAST:
        raise UserError(
            f"of {len(made)} canaries {inside} are in training by their coins and {len(made) - inside} are not; an audit needs at"
            f" least {LEAST} of each: take --canaries 200 or more"
        )
