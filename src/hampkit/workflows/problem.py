"""A recipe with its data: the training task, the members, the rows that the adversary knows, and the rows that are judged."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hampkit.config.recipe import Recipe
from hampkit.data.canaries import Canaries
from hampkit.data.candidates import Candidates, candidates
from hampkit.data.copies import first_alike, joined
from hampkit.data.splits import SplitTable
from hampkit.defenses import Defense
from hampkit.shadow_models.base import ShadowTask
from hampkit.training import Trainer
from hampkit.types import Dataset, Probe, Task

POPULATION = 10_000  # largest number of rows of the test segment that represent the population

# parts of the split that may contain copies of members → their rows in words
COPIED = {
    "nonmembers": "non-members",
    "test": "test rows",
    "validation": "validation rows",
    "reference": "reference rows",
}


@dataclass(frozen=True)
class Problem:
    """A recipe with its data loaded, split and checked, ready to train."""

    recipe: Recipe
    dataset: Dataset
    table: SplitTable
    task: Task  # its pool of P rows: the members, then the non-members
    defense: Defense
    trainer: Trainer
    test: Dataset = field(repr=False)
    shadow_val: Dataset = field(repr=False)  # validation rows of the shadow models, see `hampkit.workflows.prepare`
    canaries: Canaries | None = None  # the last rows of the data set; then only they are known and judged

    @property
    def folder(self) -> str:
        """The name of the run folder."""
        return self.recipe.folder()

    @property
    def views(self) -> int:
        """Number of views that are queried per example."""
        return self.recipe.shadows.views if self.recipe.shadows.models else 1

    def candidates(self) -> Candidates:
        """The rows of the pool that the adversary knows, and those that are judged."""
        return candidates(self.once, self.table.n_members, self.recipe.judge, self.task.pool.group)

    def judged(self) -> tuple[int, int]:
        """Numbers of judged members and non-members."""
        judged = self.candidates().judged
        members = int((judged < self.table.n_members).sum())
        return members, len(judged) - members

    def left_out(self) -> int:
        """Number of non-members outside the pool: with shadow models, half of the pool must be as large as the training set."""
        return len(self.table.rows("nonmembers")) - (len(self.task.pool) - self.table.n_members)

    def units(self) -> NDArray[np.int64]:
        """(P,) for each row of the pool the first row of its unit.

        The rows of a unit share a group or features, and are IN or OUT together.
        """
        return self._units

    @cached_property
    def _units(self) -> NDArray[np.int64]:
        group = self.task.pool.group
        return self.alike["pool"] if group is None else joined(self.alike["pool"], group.numpy())

    def places(self) -> NDArray[np.int64]:
        """(P,) for each row of the pool its place in the data set."""
        return torch.cat([self.table.rows("members"), self.table.rows("nonmembers")])[: len(self.task.pool)].numpy()

    @cached_property
    def units_of_data(self) -> NDArray[np.int64]:
        """(P,) for each row of the pool the first row of its unit in the whole data set: a number that no split changes.

        The rows of a unit share a group or features, and are IN or OUT together in every set of shadow models.
        """
        group, alike = self.dataset.group, self._alike_in_data
        return (alike if group is None else joined(alike, group.numpy()))[self.places()]

    def units_of_judged(self) -> NDArray[np.int64]:
        """(P,) the same for attacks on the target, which are judged by group.

        Without groups, a unit is the rows with the same features. They are not joined further unless all copies are judged: of
        each set of features one row is judged then, and chains of groups and copies would join most rows of a small domain.
        """
        if self.dataset.group is None:
            return self._alike_in_data[self.places()]
        return self.units_of_data if self.recipe.judge.copies == "keep" else self.dataset.group.numpy()[self.places()]

    @cached_property
    def _alike_in_data(self) -> NDArray[np.int64]:
        """(R,) for each row of the data set the first row with the same features."""
        return first_alike(self.dataset.x)

    @cached_property
    def alike(self) -> dict[str, NDArray[np.int64]]:
        """Part → for each of its rows (n,) the first row with the same features, see `hampkit.data.copies`.

        Rows are numbered through all parts: numbers below P are rows of the pool.
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
    def drawn(self) -> NDArray[np.int64]:
        """The rows of the pool on which the shadow models differ: the canaries if there are any, else all."""
        others = 0 if self.canaries is None else len(self.dataset) - len(self.canaries)
        return np.flatnonzero(self.places() >= others)

    @cached_property
    def once(self) -> NDArray[np.bool_]:
        """(P,) the rows of the pool that may be known or judged: `distinct` ones; with canaries only canaries."""
        judged = np.zeros_like(self.distinct)
        judged[self.drawn] = self.distinct[self.drawn]
        return judged

    @cached_property
    def distinct(self) -> NDArray[np.bool_]:
        """(P,) of rows with equal features only the first, a member if any is.

        Rows with the features of a reference row are left out: a defense may learn from it that they are non-members.
        """
        places = self.alike["pool"]
        if self.recipe.judge.copies == "keep":
            return np.ones(len(places), dtype=bool)
        return (places == np.arange(len(places))) & ~np.isin(places, self.alike["reference"])

    def copies(self) -> dict[str, int]:
        """Numbers of rows that are copies of members, by part; "left_out": rows of the pool that are left out as copies."""
        members = self.table.n_members
        parts = {**self.alike, "nonmembers": self.alike["pool"][members:]}
        found = {name: int((places < members).sum()) for name, places in parts.items() if name != "pool"}
        return {**found, "left_out": int((~self.distinct).sum())}

    @property
    def duplicated(self) -> bool:
        """Whether any part of the split contains copies of members."""
        found = self.copies()
        return any(found[name] for name in COPIED)

    def population(self) -> Dataset:
        """At most `POPULATION` test rows, which no model is trained on or chosen by, without copies of the pool if possible."""
        # not kept: a command may hold many problems, and of CIFAR this is 31 MB
        return self.test.take(self.population_rows)

    @cached_property
    def population_rows(self) -> Tensor:
        """(Z,) the places of the population in the test segment."""
        unseen = np.flatnonzero(self.alike["test"] >= len(self.task.pool))
        rows = torch.from_numpy(unseen) if len(unseen) else torch.arange(len(self.test))
        return rows[:POPULATION].clone()

    def shadow_task(self, probes: tuple[Probe, ...] = ()) -> ShadowTask:
        """The part of the problem that shadow models need. It is not kept, because it holds the population.

        probes: what the models are asked beyond one question per example.
        """
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
            probes=probes,
            drawn=self.drawn,
        )

    def rows(self) -> dict[str, int]:
        """Numbers of examples of the accuracies."""
        val = 0 if self.task.val is None else len(self.task.val)
        return {"train": self.table.n_members, "val": val, "test": len(self.test)}

    def data(self) -> dict[str, Any]:
        """The description of the data in results."""
        features = int(torch.tensor(self.dataset.shape).prod())
        name = str(self.recipe.data.options.get("title") or self.dataset.name)
        return {
            "name": name,
            "rows": len(self.dataset),
            "features": features,
            "classes": self.dataset.num_classes,
            "sha256": self.dataset.sha256,
            "notes": [*self.dataset.done, *self.dataset.notes],
        }
