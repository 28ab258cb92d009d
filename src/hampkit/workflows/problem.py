"""A recipe with its data: what is trained, who is a member, which rows are known to the adversary and which are judged."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hampkit.config.recipe import Recipe
from hampkit.data.candidates import Candidates, candidates
from hampkit.data.copies import first_alike, joined
from hampkit.data.splits import SplitTable
from hampkit.defenses import Defense
from hampkit.shadow_models.base import ShadowTask
from hampkit.training import Trainer
from hampkit.types import Dataset, Task

POPULATION = 10_000  # rows at most of the test segment that stand for the population

# parts of the split that may hold copies of members, and their rows in words
COPIED = {
    "nonmembers": "non-members",
    "test": "test rows",
    "validation": "validation rows",
    "reference": "reference rows",
}


@dataclass(frozen=True)
class Problem:
    """A recipe with its data loaded, checked and split: ready to train."""

    recipe: Recipe
    dataset: Dataset
    table: SplitTable
    task: Task  # pool: the members, then as many non-members
    defense: Defense
    trainer: Trainer
    test: Dataset = field(repr=False)
    shadow_val: Dataset = field(
        repr=False
    )  # for the shadow models' checkpoints: rows that the target never used, if any

    @property
    def folder(self) -> str:
        return self.recipe.folder()

    @property
    def views(self) -> int:
        """How many views of each example are asked about."""
        return self.recipe.shadows.views if self.recipe.shadows.models else 1

    def candidates(self) -> Candidates:
        """Which rows of the pool are known to the adversary, and which are judged."""
        judge = self.recipe.judge
        everyone = judge.candidates == "all"
        shares = judge.known_train, judge.known_val
        return candidates(self.once, self.table.n_members, *shares, everyone, self.task.pool.group)

    def judged(self) -> tuple[int, int]:
        """How many members and non-members every attack is judged on."""
        members = int((self.candidates().judged < self.table.n_members).sum())
        return members, len(self.candidates().judged) - members

    def left_out(self) -> int:
        """Non-members that take no part where there are shadow models: half of the pool is a training set of one size."""
        return len(self.table.rows("nonmembers")) - (len(self.task.pool) - self.table.n_members)

    def units(self) -> NDArray[np.int64]:
        """(P,) for each row of the pool the first one that is IN and OUT with it: of its group or with its features."""
        group = self.task.pool.group
        return self.alike["pool"] if group is None else joined(self.alike["pool"], group.numpy())

    @cached_property
    def alike(self) -> dict[str, NDArray[np.int64]]:
        """For each row of a part the first row with its features, see `hampkit.data.copies`.

        Rows are counted through all parts, from the pool on: places below P are rows of the pool.
        """
        parts = {
            "pool": self.task.pool,
            "test": self.test,
            "validation": self.task.val,
            "reference": self.task.reference,
        }
        xs = {name: part.x if part is not None else self.test.x[:0] for name, part in parts.items()}
        ends = np.cumsum([len(x) for x in xs.values()])
        return dict(zip(xs, np.split(first_alike(torch.cat(list(xs.values()))), ends[:-1]), strict=True))

    @cached_property
    def once(self) -> NDArray[np.bool_]:
        """(P,) the rows of the pool that are known or judged: every set of features once, as a member's where a member has it.

        Features of reference rows are left out: a defense may learn from these that their owner is no member.
        """
        places = self.alike["pool"]
        if self.recipe.judge.copies == "keep":
            return np.ones(len(places), dtype=bool)
        return (places == np.arange(len(places))) & ~np.isin(places, self.alike["reference"])

    def copies(self) -> dict[str, int]:
        """How many rows of each part are copies of members, and how many rows of the pool take no part for being copies."""
        members = self.table.n_members
        parts = {**self.alike, "nonmembers": self.alike["pool"][members:]}
        found = {name: int((places < members).sum()) for name, places in parts.items() if name != "pool"}
        return {**found, "left_out": int((~self.once).sum())}

    @property
    def duplicated(self) -> bool:
        """Whether rows of another part of the split are copies of members."""
        found = self.copies()
        return any(found[name] for name in COPIED)

    def population(self) -> Dataset:
        """Rows that no model was trained on or chosen by: the test segment, without copies of the pool if others are left."""
        unseen = np.flatnonzero(self.alike["test"] >= len(self.task.pool))
        rows = torch.from_numpy(unseen) if len(unseen) else torch.arange(len(self.test))
        return self.test.take(rows[:POPULATION])

    def shadow_task(self) -> ShadowTask:
        """What the shadow models need of this."""
        return ShadowTask(
            recipe=self.recipe,
            task=replace(self.task, val=self.shadow_val),
            defense=self.defense,
            trainer=self.trainer,
            domain=self.dataset.domain,
            population=self.population(),
            units=self.units(),
            table=self.table,
            sha256=self.dataset.sha256,
        )

    def rows(self) -> dict[str, int]:
        """How many examples stand behind the accuracies."""
        val = 0 if self.task.val is None else len(self.task.val)
        return {"train": self.table.n_members, "val": val, "test": len(self.test)}

    def data(self) -> dict[str, Any]:
        """What a result holds of its data."""
        features = int(torch.tensor(self.dataset.shape).prod())
        name = str(self.recipe.data.options.get("title") or self.dataset.name)
        return {
            "name": name,
            "rows": len(self.dataset),
            "features": features,
            "classes": self.dataset.num_classes,
            "sha256": self.dataset.sha256,
        }
