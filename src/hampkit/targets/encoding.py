"""The encoding of records that attacks see, and the way back: the inputs that a model receives for an encoded record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hampkit.data.table_cells import is_number
from hampkit.data.table_values import domain_of, encode, listed
from hampkit.types import Domain

MOST_CATEGORIES = 100  # of a text column that attacks see; other columns, such as names, are left out of their encoding
CHANNELS = (1, 3, 4)  # numbers of channels of an image; an axis of another length is one of pixels


class Place(NamedTuple):
    """Where a column of a table lies among the encoded columns: one of a number, the one-hot block of a text."""

    column: int
    start: int
    stop: int
    text: bool


@dataclass(frozen=True)
class Encoding:
    """Records as a model receives them, and as attacks see them."""

    inputs: Any  # (P, …) numbers, or a pandas DataFrame
    x: Tensor  # (P, *shape) uint8 or float32
    places: tuple[Place, ...] = ()  # of the columns of a DataFrame; columns without a place are not seen

    @property
    def channels_last(self) -> bool:
        """Whether the records are images with their channels in the last axis."""
        return self.x.dim() == 4 and self.x.shape[-1] in CHANNELS and self.x.shape[1] not in CHANNELS

    @property
    def seen(self) -> Tensor:
        """The encoded inputs (P, *shape) as probes and canaries take them, images with channels first."""
        return self.x.movedim(-1, 1) if self.channels_last else self.x

    @cached_property
    def domain(self) -> Domain:
        """The bounds of the inputs."""
        return domain_of(self.seen, tuple((place.start, place.stop) for place in self.places if place.text))

    def stored(self, x: Tensor) -> Tensor:
        """Inputs (n, *shape) that are like `seen`, in the order of the axes of ``x``."""
        return x.movedim(1, -1) if self.channels_last else x

    def decoded(self, x: Tensor, rows: NDArray[np.int64], filled: bool = False) -> Any:
        """What the model receives for inputs x (n, *shape), which are like `seen`, and were made of these records (n,).

        A value that is that of its record stays what the model received for it, to the last bit. A missing value stays missing,
        unless it is to be ``filled``. A column without a place keeps its value.
        """
        new, old = self.stored(x).float().numpy(), self.x[torch.from_numpy(rows)].float().numpy()
        if isinstance(self.inputs, np.ndarray):
            given = self.inputs[rows]
            return np.where((new != old) & (filled | ~np.isnan(given)), new.astype(given.dtype), given)
        found = some_of(self.inputs, rows)
        for place in self.places:
            column, part = self.inputs.iloc[:, place.column], slice(place.start, place.stop)
            there = column.notna().to_numpy()
            changed = (new[:, part] != old[:, part]).any(1) & (filled | there[rows])
            if place.text:  # a missing text is a category of its own, which no other value turns into
                first = self.x[:, part].argmax(0).numpy()[new[:, part].argmax(1)]  # the first record with the new text
                changed &= filled | there[first]
                values = column.iloc[first[changed]].array
            else:
                values = _numbers(column, new[changed, part])
            if changed.any():
                found.isetitem(place.column, _changed(found.iloc[:, place.column], changed, values))
        return found


def some_of(inputs: Any, rows: NDArray[np.int64]) -> Any:
    """The inputs of these records (n,), an array or a data frame as ``inputs``."""
    return inputs[rows] if isinstance(inputs, np.ndarray) else inputs.iloc[rows].reset_index(drop=True)


def encoded(table: Any, features: Sequence[str]) -> tuple[Tensor, tuple[Place, ...], tuple[str, ...]]:
    """The features (P, D) of a pyarrow table as attacks see them, their places, and notes on those that they do not see.

    Numbers have medians for missing values, texts are one-hot blocks.
    """
    blocks: list[Any] = []
    places: list[Place] = []
    left, start = [], 0
    for number, name in enumerate(features):
        block = _block(table.column(name))
        if block is None:
            left.append(name)
            continue
        places.append(Place(number, start, start + block.shape[1], not is_numeric(table.column(name))))
        blocks.append(block)
        start = places[-1].stop
    note = (
        (f"attacks do not see the columns {listed(left, 5)}, which have more than {MOST_CATEGORIES} values",)
        if left
        else ()
    )
    x = np.concatenate(blocks, axis=1) if blocks else np.zeros((table.num_rows, 0), dtype=np.float32)
    return torch.from_numpy(x), tuple(places), note


def is_numeric(column: Any) -> bool:
    """Whether a pyarrow column holds numbers or truth values."""
    return is_number(column.type) or str(column.type) == "bool"


def floats(column: Any) -> NDArray[np.float32]:
    """(P,) the numbers of a pyarrow column; a missing value is NaN."""
    import pyarrow as pa

    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    return column.cast(pa.float64(), safe=False).to_numpy().astype(np.float32)


def _block(column: Any) -> Any:
    """The encoded columns (P, K) float32 of a column; None for a text with too many values."""
    if is_numeric(column):
        values = floats(column)
        usual = np.nanmedian(values) if np.isfinite(values).any() else 0.0
        return np.where(np.isfinite(values), values, usual).astype(np.float32)[:, None]
    codes, texts = encode(column.to_pylist())
    return np.eye(len(texts), dtype=np.float32)[codes] if len(texts) <= MOST_CATEGORIES else None


def _numbers(column: Any, blocks: Any) -> list[Any]:
    """Numbers (n, 1) as values of a column: between its least and largest one; whole, or a truth value, if all of them are."""
    known = column[column.notna()]
    if not len(blocks) or not len(known):
        return [np.nan] * len(blocks)
    kind, least, largest = type(known.iloc[0]), known.min(), known.max()
    values = blocks[:, 0].tolist()
    if issubclass(kind, (bool, np.bool_)):
        return [value >= 0.5 for value in values]
    if issubclass(kind, (int, np.integer)):
        return [min(max(round(value), int(least)), int(largest)) for value in values]
    if issubclass(kind, (float, np.floating)):
        whole = bool((known % 1 == 0).all())
        return [float(round(value)) if whole else value for value in values]
    return [kind(str(value)) for value in values]


def _changed(column: Any, changed: NDArray[np.bool_], values: Any) -> Any:
    """A column (n,) with other values where it changed, in its own type."""
    found = column.copy()
    found[changed] = values if column.dtype == object else type(column)(values, dtype=column.dtype).array
    return found
