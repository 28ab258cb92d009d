"""DMP (Shejwalkar & Houmansadr, AAAI 2021): a student learns a teacher's answers to synthetic inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from hampkit.config.command_line import read_value
from hampkit.config.files import plain_file
from hampkit.config.schema import build, field_types
from hampkit.config.sections import TrainOverrides
from hampkit.defenses.base import Defense, Models
from hampkit.errors import UserError, one_line
from hampkit.generators.base import Generator
from hampkit.registry import GENERATORS
from hampkit.rng import derive
from hampkit.training import CROSS_ENTROPY, MeanLoss, Trainer
from hampkit.training.batches import block_members
from hampkit.training.soft_labels import entropy, hamp_loss
from hampkit.types import Dataset, Stack, Task

MOST_BYTES = 1 << 30  # of synthetic inputs in memory at once; the models are trained in groups that fit
MOST_STUDENTS = 64  # in a group
FILE = "file"


@dataclass(frozen=True)
class Dmp(Defense):
    """A student network learns the answers of an undefended teacher to synthetic inputs, and is never trained on a member. The
    inputs come from a generator that is fitted to the members.

    Differs from the paper: all inputs are used, as in the published code of HAMP's comparison; with ``keep`` below 1, those with
    the lowest entropy of the teacher's answer, as in the paper. Differs from that code: the default generator for tables is a
    mixture fitted by EM, which needs no other package, in place of CTGAN; images have the published DCGAN. Every model, also
    every shadow model, has a generator fitted to its own members.
    """

    name: ClassVar[str] = "dmp"
    paper: ClassVar[str] = "https://arxiv.org/abs/1906.06589"
    quick: ClassVar[dict[str, Any]] = {"synthetic": 200}

    generator: str = "auto"  # hampkit list generators; auto: dcgan for images, bernoulli-mixture for tables
    options: tuple[str, ...] = ()  # of the generator, e.g. [epochs=50, batch_size=256]
    synthetic: int = 10_000  # number of synthetic inputs
    file: str = ""  # a .npy of inputs (rows, *shape), or a .npz with the array x, in place of a generator
    keep: float = 1.0  # share of the inputs to use: those with the lowest entropy of the teacher's answer
    distill: TrainOverrides = field(default_factory=TrainOverrides)  # training of the student
    kl: Literal["batchmean", "mean"] = (
        "batchmean"  # average of the student's loss; mean: over rows and classes, as published
    )

    def __post_init__(self) -> None:
        if not 1 <= self.synthetic <= 10**7:
            raise UserError(f"defense.synthetic={self.synthetic} must be a number of inputs from 1 to 10^7")
        if not 0 < self.keep <= 1:
            raise UserError(f"defense.keep={self.keep} must lie in (0, 1]")
        if self.generator != "auto":
            _made(self.generator, self.options)
        elif self.options:
            raise UserError(
                f"defense.options={list(self.options)} of dmp needs the generator's name: defense.generator=…"
            )

    def check(self, task: Task, trainer: Trainer) -> None:
        trainer.with_overrides(self.distill)
        if self.file:
            read_inputs(self.file, task.pool)
        else:
            self._generator(task.pool).check(task.pool)

    def fit(self, task: Task, trainer: Trainer) -> Models:
        teachers = trainer.fit(task, CROSS_ENTROPY)
        student, loss = trainer.with_overrides(self.distill), MeanLoss(hamp_loss(0.0, self.kl))
        from_file = read_inputs(self.file, task.pool) if self.file else None
        stacks: list[Stack] = []
        n_inputs = 0  # per student
        for models in _groups(task, self.synthetic if from_file is None else len(from_file)):
            inputs = [self._inputs(task, m, trainer) if from_file is None else from_file for m in models]
            logits = [trainer.predict(teachers.take([m]), x)[0] for m, x in zip(models, inputs, strict=True)]
            kept = [lowest_entropy(z, self.keep) for z in logits]
            inputs = [x[k] for x, k in zip(inputs, kept, strict=True)]
            logits = [z[k] for z, k in zip(logits, kept, strict=True)]
            n_inputs = len(inputs[0])
            stacks.append(student.fit(_distillation(task, models, inputs, logits), loss, torch.cat(logits).softmax(-1)))
        return Models(Stack.join(stacks), facts=tuple(self._facts(task, n_inputs) for _ in task.seeds))

    def _facts(self, task: Task, n_inputs: int) -> dict[str, Any]:
        source = FILE if self.file else self._generator(task.pool).name
        summary = f"student of {n_inputs:,} inputs from {source}"
        return {"synthetic": n_inputs, "generator": source, "summary": summary}

    def _inputs(self, task: Task, m: int, trainer: Trainer) -> Tensor:
        """Synthetic inputs (rows, *shape) for model m."""
        members, seed = task.pool.take(task.rows(m)), derive(task.seeds[m], "generator")
        return self._generator(task.pool).sample(members, self.synthetic, seed, trainer.device)

    def _generator(self, data: Dataset) -> Generator:
        name = self.generator if self.generator != "auto" else "dcgan" if len(data.shape) == 3 else "bernoulli-mixture"
        return _made(name, self.options)


def lowest_entropy(logits: Tensor, share: float) -> Tensor:
    """This share of the rows of logits (N, C), those of the lowest entropy: (k,) int64, ascending, k ≥ 1."""
    count = max(1, round(share * len(logits)))
    return entropy(logits.double().log_softmax(-1)).argsort(stable=True)[:count].sort().values


def read_inputs(file: str, like: Dataset) -> Tensor:
    """The inputs (rows, *shape) of a file, in the dtype of the data.

    Raises: `UserError` for a file that cannot be read, of another shape, or with values that the data cannot have.
    """
    place = f"defense.file={file}"
    x = _array(file, place)
    if x.shape[1:] != like.shape or not len(x):
        raise UserError(
            f"{place} has shape {x.shape}; the data's examples have shape {like.shape}: give (rows, *shape)"
        )
    if x.dtype.kind not in "biuf" or not np.isfinite(x).all():
        raise UserError(f"{place} must hold finite numbers, not {x.dtype}, NaN or infinity")
    low, high = like.domain.low.numpy(), like.domain.high.numpy()
    if (x < low).any() or (x > high).any():
        raise UserError(
            f"{place} holds values outside the data's bounds, {low.min():g} to {high.max():g}; scale it like the data"
        )
    if not like.x.is_floating_point() and (x != np.floor(x)).any():
        raise UserError(f"{place} holds fractions where the data hold whole numbers; scale it like the data")
    # numpy converts first: torch takes neither a foreign byte order nor long doubles
    return torch.from_numpy(x.astype(np.float64 if x.dtype.kind == "f" else np.int64)).to(like.x.dtype)


def _array(file: str, place: str) -> np.ndarray:
    path = plain_file(file, "defense.file")
    try:
        found = np.load(path, allow_pickle=False)
        return np.asarray(found["x"] if isinstance(found, np.lib.npyio.NpzFile) else found)
    except Exception as error:  # a damaged file may raise anything, and claim more rows than fit into memory
        raise UserError(
            f"{place} cannot be read ({one_line(error)}); give a .npy, or a .npz with the array x"
        ) from None


def _made(name: str, options: tuple[str, ...]) -> Generator:
    """A generator with options written KEY=VALUE."""
    for option in options:
        if "=" not in option:
            raise UserError(f"defense.options holds {option!r}; options of a generator are written KEY=VALUE")
    cls = GENERATORS.get(name)
    hints = field_types(cls)
    parts = (option.partition("=") for option in options)
    values = {key: read_value(text, hints.get((key,))) for key, _, text in parts}
    return build(cls, values, f"generator {name}")


def _groups(task: Task, n_inputs: int) -> list[list[int]]:
    """The models in groups whose inputs fit into `MOST_BYTES`; n_inputs: per model."""
    bytes_each = n_inputs * math.prod(task.pool.shape) * task.pool.x.element_size()
    size = max(1, min(MOST_BYTES // max(bytes_each, 1), MOST_STUDENTS))
    return [list(range(start, min(start + size, len(task)))) for start in range(0, len(task), size)]


def _distillation(task: Task, models: list[int], inputs: list[Tensor], logits: list[Tensor]) -> Task:
    """The task of the students: per model a block of inputs (rows, *shape), with the labels that its teacher predicts."""
    pool = replace(task.pool, x=torch.cat(inputs), y=torch.cat(logits).argmax(-1), sha256="")
    seeds = tuple(derive(task.seeds[m], "student") for m in models)
    return replace(task, pool=pool, members=block_members([len(x) for x in inputs]), seeds=seeds)
