"""A user's own training function: from labelled records to a model, which is asked about records and what probes ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hampkit.errors import UserError, one_line
from hampkit.targets.answers import Kind, Scale, floor_of, scale_of
from hampkit.targets.encoding import Encoding, some_of
from hampkit.targets.model import answers_of
from hampkit.targets.probing import SAME_ANSWERS, input_space, questions
from hampkit.types import Dataset, InputSpace, Probe

Fit = Callable[[Any, Any, int], Any]  # (x, y, seed) → a model
SAME = 1e-5  # by which two answers to one question may differ where nothing is random: batches round in other orders


@dataclass(frozen=True)
class Fitted:
    """A model that a training function made."""

    model: Any
    classes: int  # C of all labels; an estimator that never saw a class answers 0 for it
    seed: int

    def answers(self, inputs: Any) -> NDArray[Any]:
        """The answers (N, C). Raises: `UserError` with the seed if the model cannot answer."""
        found, classes, _ = answers_of(self.model, inputs)
        return _spread(found, classes, self.classes, self.seed)


@dataclass(frozen=True)
class About:
    """The records that the models are asked about."""

    encoding: Encoding  # of all records
    y: NDArray[np.int64]  # (N,) of all records
    rows: NDArray[np.int64]  # (P,) those that are asked about
    classes: int  # C

    @cached_property
    def data(self) -> Dataset:
        """These records as attacks see them."""
        places, encoding = torch.from_numpy(self.rows), self.encoding
        y = torch.from_numpy(self.y)[places]
        return Dataset("records", encoding.seen[places], y, self.classes, encoding.domain)

    @cached_property
    def space(self) -> InputSpace:
        """What an adversary knows of the inputs."""
        return input_space(self.encoding.domain, self.encoding.seen, self.data.x)


def fitted(fit: Fit, about: About, member: NDArray[np.bool_], seed: int) -> Fitted:
    """The model that ``fit`` makes of the members (N,), with numbers as labels.

    Raises: `UserError` with the seed if the function fails.
    """
    inputs = about.encoding.inputs
    rows = some_of(inputs, np.flatnonzero(member))
    try:
        model = fit(rows, about.y[member], seed)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # the function is the user's: it may raise anything
        raise UserError(f"the training function fails with seed {seed}: {one_line(error, named=True)}") from error
    if model is None:
        raise UserError(f"the training function returned nothing with seed {seed}; it must return the model")
    return Fitted(model, about.classes, seed)


def kept_answers(model: Fitted, probe: Probe, about: About, answers: Any, kind: Kind) -> NDArray[np.float32]:
    """The numbers (P, k) that a probe keeps of the model's answers to its questions about P records.

    answers: (N, C) those to all records as they are. Raises: `UserError` if the model cannot answer, or if a probe that repeats
    one question would get the same answer again.
    """
    what = f"the answers of the model with seed {model.seed}"
    scale, data, inputs = scale_of(what, answers, kind), about.data, about.encoding.inputs
    if scale.kind == "probabilities":  # where these have no zero, answers to other questions may have some
        scale = Scale(scale.kind, floor_of(answers))
    if probe.repeats and np.allclose(model.answers(inputs.copy()), answers, rtol=SAME, atol=SAME):
        raise UserError(SAME_ANSWERS)
    parts = []
    for block, asked in questions(probe, data, about.space):
        rows = about.rows[block].repeat(asked.shape[1])
        found = model.answers(about.encoding.decoded(asked.flatten(0, 1), rows))
        if bad := int((~np.isfinite(found)).any(1).sum()):
            raise UserError(f"{what} to the questions of the probe {probe.name} have NaN or infinity in {bad:,} rows")
        logits = torch.from_numpy(scale.logits(found)).unflatten(0, asked.shape[:2])
        parts.append(probe.keep(logits, data.y[block]).float())
    kept = torch.cat(parts).numpy()
    if not np.isfinite(kept).all():
        raise UserError(f"{what} to the questions of the probe {probe.name} have no finite scaled logits")
    return kept


def _spread(answers: Any, classes: Sequence[str], n: int, seed: int) -> Any:
    """The answers with a column for each class, 0 where the model has none."""
    if classes and tuple(classes) != tuple(map(str, range(n))):
        full = np.zeros((len(answers), n))
        for k, name in enumerate(classes):
            if not name.isdigit() or int(name) >= n:
                raise UserError(f"with seed {seed} the model has a class {name!r}, and labels are 0 to {n - 1}")
            full[:, int(name)] = answers[:, k]
        return full
    if answers.shape[1] != n:
        raise UserError(
            f"with seed {seed} the model answers {answers.shape[1]} classes, and the labels have {n}; its answers need a column"
            " for each class"
        )
    return answers
