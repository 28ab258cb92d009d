"""Canaries: records that are made to be remembered, each put into the training data by a fair coin of its own.

A model is audited on them, because what leaks most is seldom among typical records (Aerni et al. 2024, arXiv 2404.17399). They
are chosen and hashed before any training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hampkit.config.sections import CanaryConfig
from hampkit.data.base import fingerprint
from hampkit.data.splits import SEGMENTS, SplitTable
from hampkit.errors import UserError
from hampkit.rng import derive, numpy_rng, torch_rng
from hampkit.types import Dataset

FLIPPED = 0.02  # share of the values of a near-duplicate that are replaced by those of another record


@dataclass(frozen=True)
class Canaries:
    """K records with their coins."""

    kind: str
    x: Tensor  # (K, *shape) raw inputs
    y: Tensor  # (K,) int64
    included: NDArray[np.bool_]  # (K,) the coins: whether the target is trained on each
    rows: Tensor | None = None  # (K,) int64, the rows of the data set that they are made of; None: of none

    def __len__(self) -> int:
        return len(self.y)

    @property
    def sha256(self) -> str:
        """A hash of inputs, labels and coins."""
        return fingerprint(self.x, self.y, torch.from_numpy(self.included))

    @property
    def facts(self) -> dict[str, Any]:
        """Their kind, number, number in training, and hash, as reports give them."""
        inside = int(self.included.sum())
        return {"kind": self.kind, "count": len(self), "included": inside, "sha256": self.sha256}


def make_canaries(data: Dataset, sides: Mapping[str, Tensor], config: CanaryConfig, seed: int) -> Canaries:
    """K canaries for a data set. sides: the rows of its members and of its nonmembers, see `sides_of`.

    mislabelled: non-members with another label, drawn uniformly. out-of-support: inputs drawn uniformly from the domain, with a
    uniform label. blank: images of one colour, each its own, with a uniform label. near-duplicate: members of which `FLIPPED` of
    the values, at least one, are those of another member, with another label. The inputs depend on ``config.seed`` and the split,
    the coins on ``config.seed`` and on ``seed``, the recipe's.

    Raises: `UserError` for more canaries than there are records to make them of, and for blank ones of a table.
    """
    kind, k = config.kind, config.count
    rng = numpy_rng(derive(config.seed, "canaries", kind))
    chosen = None
    if kind in ("mislabelled", "near-duplicate"):
        segment = "nonmembers" if kind == "mislabelled" else "members"
        rows = sides[segment]
        if k > len(rows):
            raise UserError(
                f"canaries.count={k} must be at most {len(rows)}, the number of {segment} of which {kind} canaries are made; take"
                " fewer, or canaries.kind=out-of-support"
            )
        chosen = rows[torch.from_numpy(rng.permutation(len(rows))[:k])]
        x = data.x[chosen] if kind == "mislabelled" else _varied(data, chosen, sides["members"], rng)
        y = _other_labels(data.y[chosen], data.num_classes, rng)
    else:
        if kind == "blank" and len(data.shape) != 3:
            raise UserError(
                f"canaries.kind=blank is for images of shape (channels, height, width); examples of {data.name} have shape"
                f" {data.shape}: take mislabelled, out-of-support or near-duplicate"
            )
        drawn = data.domain.sample(k, torch_rng(derive(config.seed, "canaries", kind, "inputs")))
        x = (_blank(drawn) if kind == "blank" else drawn).to(data.x.dtype)
        y = torch.from_numpy(rng.integers(0, data.num_classes, k))
    coins = numpy_rng(derive(seed, "coins", config.seed)).random(k) < 0.5
    _check_coins(coins)
    return Canaries(kind, x, y, coins, chosen)


def sides_of(table: SplitTable) -> dict[str, Tensor]:
    """The rows of the members and of the non-members."""
    return {name: table.rows(name) for name in ("members", "nonmembers")}


def with_canaries(data: Dataset, table: SplitTable, canaries: Canaries) -> tuple[Dataset, SplitTable]:
    """The data set with the canaries behind its rows, and a split of it.

    Members are the members of before and the included canaries, non-members the other canaries. The non-members of before are not
    used. In groups, every canary is a group of its own.
    """
    n, places = len(data), torch.arange(len(data), len(data) + len(canaries))
    inside = torch.from_numpy(canaries.included)
    group, row = data.group, data.row
    if group is not None:
        group = torch.cat([group, int(group.max()) + 1 + torch.arange(len(canaries))])
    if row is not None:
        row = torch.cat([row, int(row.max()) + 1 + torch.arange(len(canaries))])
    x, y = torch.cat([data.x, canaries.x]), torch.cat([data.y, canaries.y])
    parts = {name: table.rows(name) for name in SEGMENTS}
    parts["members"] = torch.cat([parts["members"], places[inside]])
    parts["unused"] = torch.cat([parts["unused"], parts["nonmembers"]])
    parts["nonmembers"] = places[~inside]
    ends = np.cumsum([len(parts[name]) for name in SEGMENTS]).tolist()
    starts = [0, *ends[:-1]]
    segments = {name: (start, end) for name, start, end in zip(SEGMENTS, starts, ends, strict=True)}
    assert ends[-1] == n + len(canaries), (ends, n)
    whole = torch.cat([parts[name] for name in SEGMENTS])
    return replace(data, x=x, y=y, group=group, row=row), SplitTable(whole, segments)


def _other_labels(y: Tensor, classes: int, rng: np.random.Generator) -> Tensor:
    """A label other than y (K,) for each, uniformly: (K,) int64."""
    return (y + torch.from_numpy(rng.integers(1, classes, len(y)))) % classes


def _varied(data: Dataset, rows: Tensor, members: Tensor, rng: np.random.Generator) -> Tensor:
    """The inputs of rows (K,), with a share of the values of another member, and at least one value that differs."""
    x = data.x[rows].clone().flatten(1)
    others = data.x[members[torch.from_numpy(rng.integers(0, len(members), len(rows)))]].flatten(1)
    swapped = torch.from_numpy(rng.random(x.shape) < FLIPPED) & (x != others)
    for k in (~swapped.any(1)).nonzero().flatten().tolist():
        if len(differing := (x[k] != others[k]).nonzero().flatten()):
            swapped[k, differing[rng.integers(len(differing))]] = True
    for start, stop in data.domain.groups:  # a category is one value, and all of its columns are swapped together
        swapped[:, start:stop] = swapped[:, start:stop].any(1, keepdim=True)
    return torch.where(swapped, others, x).view(len(rows), *data.shape)


def _blank(drawn: Tensor) -> Tensor:
    """Images (K, channels, height, width) of one colour each, that of their first pixel."""
    return drawn[:, :, :1, :1].expand_as(drawn).contiguous()


def _check_coins(included: NDArray[np.bool_]) -> None:
    """Raises: `UserError` if all coins fell alike, so that nothing can be told apart."""
    inside = int(included.sum())
    if min(inside, len(included) - inside) < 2:
        raise UserError(
            f"of {len(included)} canaries the coins put {inside} into the training data: too few on one side; take more canaries"
        )
