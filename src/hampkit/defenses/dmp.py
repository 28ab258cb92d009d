"""DMP (Shejwalkar & Houmansadr, AAAI 2021): a student learns a teacher's answers to inputs that nobody's record is among."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from hampkit.config.schema import build, parse_text
from hampkit.config.sections import TrainOverrides
from hampkit.defenses.base import Defense, Models
from hampkit.errors import UserError, one_line
from hampkit.generators.base import Generator
from hampkit.registry import GENERATORS
from hampkit.rng import derive
from hampkit.training import CROSS_ENTROPY, MeanLoss, Trainer
from hampkit.training.soft_labels import hamp_loss
from hampkit.types import Dataset, Stack, Task

MOST_BYTES = 1 << 30  # of made-up inputs that are held at once; more models wait their turn
FILE = "file"


@dataclass(frozen=True)
class Dmp(Defense):
    """An undefended teacher answers inputs that a generator made from its members; a fresh network learns these answers and
    never sees a member.

    Differs from the paper in using all inputs, as does the published code of HAMP's comparison; ``keep`` below 1 takes those
    with the lowest entropy of the teacher's answers, as the paper does. Differs from that code in the default generator for
    tables, a mixture fitted by EM, which needs no other package, in place of CTGAN; images have the published DCGAN. The
    generator learns from a model's own members, for shadow models too.
    """

    name: ClassVar[str] = "dmp"
    paper: ClassVar[str] = "https://arxiv.org/abs/1906.06589"
    quick: ClassVar[dict[str, Any]] = {"synthetic": 200}

    generator: str = "auto"  # hampkit list generators; auto: dcgan for images, bernoulli-mixture for tables
    options: tuple[str, ...] = ()  # of the generator, e.g. [epochs=50, batch_size=256]
    synthetic: int = 10_000  # inputs that are made
    file: str = ""  # a .npy of ready inputs (rows, *shape), or a .npz with the array x, instead of a generator
    keep: float = 1.0  # share of the inputs that is used, those with the lowest entropy of the teacher's answer
    distill: TrainOverrides = field(
        default_factory=TrainOverrides
    )  # how the student is trained; what is not set is as in train
    kl: Literal["batchmean", "mean"] = (
        "batchmean"  # of the student's loss; mean: divided by rows and by classes, as published
    )

    def __post_init__(self) -> None:
        if not 1 <= self.synthetic <= 10**7:
            raise UserError(f"defense.synthetic={self.synthetic} must be a number of inputs, at most 10^7")
        if not 0 < self.keep <= 1:
            raise UserError(f"defense.keep={self.keep} must lie in (0, 1]")
        if self.generator != "auto":
            _made(self.generator, self.options)
        elif self.options:
            raise UserError(
                f"defense.options={list(self.options)} of dmp needs the generator's name: defense.generator=…"
            )

    def check(self, task: Task, trainer: Trainer) -> None:
        self.distill.of(trainer.config)
        if self.file:
            read_inputs(self.file, task.pool)
        else:
            self._generator(task.pool).check(task.pool)

    def fit(self, task: Task, trainer: Trainer) -> Models:
        teachers = trainer.fit(task, CROSS_ENTROPY)
        config = self.distill.of(trainer.config)
        student = trainer.with_config(config, f"defense.distill.lr={config.lr}")
        ready = read_inputs(self.file, task.pool) if self.file else None
        made = self.synthetic if ready is None else len(ready)
        bytes_each = made * math.prod(task.pool.shape) * task.pool.x.element_size()
        group = max(1, min(MOST_BYTES // max(bytes_each, 1), 64))
        stacks: list[Stack] = []
        used = 0  # inputs per student
        for start in range(0, len(task), group):
            models = list(range(start, min(start + group, len(task))))
            inputs = [self._inputs(task, m, trainer) if ready is None else ready for m in models]
            logits = [trainer.predict(teachers.take([m]), x)[0] for m, x in zip(models, inputs, strict=True)]
            kept = [surest(z, self.keep) for z in logits]
            inputs = [x[k] for x, k in zip(inputs, kept, strict=True)]
            logits = [z[k] for z, k in zip(logits, kept, strict=True)]
            used = len(inputs[0])
            loss = MeanLoss(hamp_loss(0.0, self.kl))
            stacks.append(student.fit(_distillation(task, models, inputs, logits), loss, torch.cat(logits).softmax(-1)))
        source = FILE if self.file else self._generator(task.pool).name
        said = f"student of {used:,} inputs from {source}"
        fact = {"synthetic": used, "generator": source, "summary": said}
        return Models(Stack.join(stacks), facts=tuple(dict(fact) for _ in task.seeds))

    def _inputs(self, task: Task, m: int, trainer: Trainer) -> Tensor:
        members = task.pool.take(task.members[m].nonzero().squeeze(-1))
        return self._generator(task.pool).sample(
            members, self.synthetic, derive(task.seeds[m], "generator"), trainer.device
        )

    def _generator(self, data: Dataset) -> Generator:
        name = self.generator if self.generator != "auto" else "dcgan" if len(data.shape) == 3 else "bernoulli-mixture"
        return _made(name, self.options)


def _made(name: str, options: tuple[str, ...]) -> Generator:
    """A generator with options written KEY=VALUE. Errors: `UserError`."""
    for option in options:
        if "=" not in option:
            raise UserError(f"defense.options holds {option!r}; options of a generator are written KEY=VALUE")
    values = {key: parse_text(text) for key, _, text in (option.partition("=") for option in options)}
    return build(GENERATORS.get(name), values, f"generator {name}")


def surest(logits: Tensor, share: float) -> Tensor:
    """The rows (k,) of (N, C) with the lowest entropy, in their old order; at least one."""
    log_p = logits.double().log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    count = max(1, round(share * len(logits)))
    return entropy.argsort(stable=True)[:count].sort().values


def read_inputs(file: str, like: Dataset) -> Tensor:
    """Ready inputs (rows, *shape) in the dtype of the data. Errors: `UserError`."""
    place, path = f"defense.file={file}", Path(file).expanduser()
    try:
        found = np.load(path, allow_pickle=False)
        x = np.asarray(found["x"] if isinstance(found, np.lib.npyio.NpzFile) else found)
    except Exception as error:  # a damaged file may raise anything, and claim more rows than fit into memory
        raise UserError(
            f"{place} cannot be read ({one_line(error)}); give a .npy, or a .npz with the array x"
        ) from None
    if x.shape[1:] != like.shape or not len(x):
        raise UserError(
            f"{place} has shape {x.shape}; the data's examples have shape {like.shape}: give (rows, *shape)"
        )
    if x.dtype.kind not in "biuf" or not np.isfinite(x).all():
        raise UserError(f"{place} must hold finite numbers, not {x.dtype}, NaN or infinity")
    low, high = like.domain.low.numpy(), like.domain.high.numpy()
    if (x < low).any() or (x > high).any():
        raise UserError(
            f"{place} holds values outside the data's bounds, {low.min():g} to {high.max():g}; scale it as the data are"
        )
    if not like.x.is_floating_point() and (x != np.floor(x)).any():
        raise UserError(f"{place} holds fractions where the data hold whole numbers; scale it as the data are")
    # numpy converts first: torch takes neither a foreign byte order nor long doubles
    return torch.from_numpy(x.astype(np.float64 if x.dtype.kind == "f" else np.int64)).to(like.x.dtype)


def _distillation(task: Task, models: list[int], inputs: list[Tensor], logits: list[Tensor]) -> Task:
    """The students' task: every model has a block of inputs of its own, labelled by its teacher."""
    sizes = torch.tensor([len(x) for x in inputs])
    owner = torch.arange(len(models)).repeat_interleave(sizes)
    pool = replace(task.pool, x=torch.cat(inputs), y=torch.cat(logits).argmax(-1), sha256="")
    members = owner == torch.arange(len(models)).unsqueeze(-1)
    seeds = tuple(derive(task.seeds[m], "student") for m in models)
    return replace(task, pool=pool, members=members, seeds=seeds)
