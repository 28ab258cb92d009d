"""Audits of published checkpoints: the data set, its split by the protocol, and the network that the weights are of."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from hampkit.config.files import plain_file, table_advice
from hampkit.errors import Notice, UserError
from hampkit.registry import DATASETS
from hampkit.rng import forked
from hampkit.targets.base import Given
from hampkit.targets.weights import Checkpoint, given_of_weights
from hampkit.workflows.prepare import prepare
from hampkit.workflows.recipes import recipe
from hampkit.workflows.session import Session


@dataclass(frozen=True)
class PublishedWeights:
    """A file of weights with what it was trained on."""

    file: str | Path
    data: str  # the name of a data set
    net: str = ""  # default: that of the data set's recipe
    split: str | Path = ""  # a file with the permutation of the rows
    title: str = ""

    def given(self, session: Session) -> Given:
        """The answers of the network about the members and non-members of the data set's split.

        The sizes of the split are those of the recipe ``DATA/undefended``, which are the published ones.
        Raises: `UserError` for an unknown data set or network, and for weights that do not fit.
        """
        file = plain_file(self.file, "weights")
        DATASETS.get(self._named())
        options = {"net": self.net} if self.net else {}
        options |= {"split.permutation": str(self.split)} if self.split else {}
        problem = prepare(recipe(f"{self.data}/undefended", options), session)
        with forked(0):
            module = problem.task.net().to(session.torch_device())
        checkpoint = Checkpoint(file, problem.recipe.net, module, self.data)
        return given_of_weights(checkpoint, problem.task.pool, problem.table.n_members, self.title, self._notes())

    def _named(self) -> str:
        """The name of the data set. Raises: `UserError` for a table."""
        if not self.data:
            raise UserError(
                "weights need the data set that the network was trained on; give --data NAME, such as purchase100"
            )
        if table_advice(str(self.data)):
            raise UserError(
                f"weights need a data set by its name, and --data {self.data} is a table; for a table give --model"
                " package.module:load with --members and --nonmembers"
            )
        return str(self.data)

    def _notes(self) -> tuple[str, ...]:
        if self.split:
            return ()
        note = (
            "no permutation was given: members are those of hampkit's own split with seed 0; a model that was trained elsewhere"
            " needs the permutation by which its data were split (--split)"
        )
        warnings.warn(note, Notice, stacklevel=3)
        return (note,)
