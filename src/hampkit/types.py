"""The types that the parts of hampkit exchange.

Axes: N examples, M models, B batch rows, C classes, V views of one example, K known examples. The model is axis 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call


@dataclass(frozen=True)
class Domain:
    """The public set of possible inputs: bounds, step and one-hot blocks. It is not a distribution.

    low, high, step: (*shape) float32; step 0 means continuous, else values are low, low + step, …, high.
    groups: [start, stop) ranges of columns, exactly one of which is 1 (a category in one-hot form; tables only).
    """

    low: Tensor
    high: Tensor
    step: Tensor
    groups: tuple[tuple[int, int], ...] = ()

    @staticmethod
    def grid(shape: tuple[int, ...], low: float, high: float, step: float) -> Domain:
        """The domain with the same bounds for every coordinate, such as ``grid((446,), 0, 1, 1)`` for binary features."""
        return Domain(torch.full(shape, low), torch.full(shape, high), torch.full(shape, step))

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Random inputs (n, *shape) float32, uniform over the domain and independent (HAMP's "random non-member" inputs)."""
        u = torch.rand((n, *self.low.shape), generator=rng)
        span = self.high - self.low
        steps = torch.where(self.step > 0, (span / self.step.clamp_min(1e-12)).round() + 1, torch.ones_like(span))
        stepped = self.low + (u * steps).floor().minimum(steps - 1) * self.step
        x = torch.where(self.step > 0, stepped, self.low + u * span)
        for start, stop in self.groups:
            hot = (u[:, start] * (stop - start)).long().clamp_max(stop - start - 1)
            x[:, start:stop] = nn.functional.one_hot(hot, stop - start).to(x.dtype)
        return x

    def snap(self, x: Tensor) -> Tensor:
        """Inputs (N, *shape) with each value moved to the nearest one of the domain, (N, *shape) float64."""
        low, high, step = (t.double() for t in (self.low, self.high, self.step))
        x = torch.nan_to_num(x).clamp(low, high)
        stepped = low + ((x - low) / step.clamp_min(1e-12)).round() * step
        return torch.where(step > 0, stepped, x) + 0.0  # + 0.0: −0.0 is 0


@dataclass(frozen=True)
class Dataset:
    """N labelled examples.

    x: (N, *shape) uint8 or float32, raw values (a network normalises its inputs); y: (N,) int64 in [0, C).
    """

    name: str
    x: Tensor
    y: Tensor
    num_classes: int
    domain: Domain
    sha256: str = ""  # of the content: results name the data that they came from
    classes: tuple[str, ...] = ()  # names of the labels
    mean: tuple[float, ...] | None = None  # public constants for normalisation (one, or one per channel)
    std: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()  # one line for each thing that is allowed but probably not intended
    done: tuple[str, ...] = ()  # one line for each thing that an option did to the file's values
    row: Tensor | None = None  # (N,) int64: number of each row in its file, if some were left out
    group: Tensor | None = (
        None  # (N,) int64: rows with equal numbers, such as those of one person, stay on one side of a split
    )

    def __len__(self) -> int:
        return len(self.y)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example, (*shape)."""
        return tuple(self.x.shape[1:])

    def take(self, rows: Tensor) -> Dataset:
        """The data set with only these rows (n,) int64, in this order."""
        group = None if self.group is None else self.group[rows]
        row = None if self.row is None else self.row[rows]
        return replace(self, x=self.x[rows], y=self.y[rows], group=group, row=row)


class Batch(NamedTuple):
    """One batch of one model. The trainer adds the model axis in front and maps over it.

    It is a NamedTuple because torch.func can map over one. Rows with weight 0 are padding and must not count.
    """

    x: Tensor  # (B, *shape) float32
    y: Tensor  # (B,) int64
    target: Tensor  # (B, C) float32, or (B, 0) if the defense has no soft targets
    weight: Tensor  # (B,) float32


Loss = Callable[[Tensor, Batch], Tensor]  # logits (B, C), batch → loss per row (B,); one model, pure


@dataclass(frozen=True)
class Task:
    """M training problems posed on one pool of N examples."""

    pool: Dataset
    members: Tensor  # (M, N) bool: model m trains on example i
    seeds: tuple[int, ...]  # (M,) the only source of randomness of each model
    net: Callable[[], nn.Module]
    reference: Dataset | None = None  # non-members that a defense may use
    val: Dataset | None = None  # for choosing a checkpoint

    def __post_init__(self) -> None:
        assert self.members.dtype == torch.bool, self.members.dtype
        assert self.members.shape == (len(self.seeds), len(self.pool)), (self.members.shape, len(self.seeds))

    def __len__(self) -> int:
        return len(self.seeds)

    def rows(self, m: int) -> Tensor:
        """Rows (n,) of the pool that model m is trained on, ascending."""
        return self.members[m].nonzero().squeeze(-1)

    def only(self, models: list[int]) -> Task:
        """The task with only these of its models."""
        return replace(self, members=self.members[models], seeds=tuple(self.seeds[m] for m in models))


@dataclass(frozen=True)
class History:
    """How one model was trained."""

    seeds: tuple[int, ...]  # all seeds that were tried; the last one was kept
    epoch: int  # whose weights were kept, from 0
    val_accuracy: tuple[float, ...] = ()  # after each epoch, a fraction
    diverged: str = ""  # why the model is unusable; empty: it is usable


@dataclass(frozen=True)
class Stack:
    """M networks of one architecture."""

    net: nn.Module  # the architecture; its own weights are never used
    params: dict[str, Tensor]  # each (M, *shape)
    buffers: dict[str, Tensor] = field(default_factory=dict)  # each (M, *shape)
    history: tuple[History, ...] = ()  # (M,), or empty if the stack was not trained here
    mixed: bool = False  # in training matrix products are computed in bfloat16

    def __len__(self) -> int:
        return len(next(iter(self.params.values())))

    @property
    def device(self) -> torch.device:
        """The device of the networks' weights."""
        return next(iter(self.params.values())).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the networks' inputs: float64 if their weights are float64, else float32."""
        return torch.promote_types(next(iter(self.params.values())).dtype, torch.float32)

    def forward(self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        """Logits (B, C) of one model in training for x (B, *shape): pure, except that batch norm writes into the buffers."""
        if not self.mixed:
            return functional_call(self.net, (params, buffers), (x,))
        with torch.autocast(x.device.type, torch.bfloat16):
            return functional_call(self.net, (params, buffers), (x,)).float()

    def take(self, models: list[int]) -> Stack:
        """The stack with only these of its models."""
        return Stack(
            self.net,
            {k: v[models] for k, v in self.params.items()},
            {k: v[models] for k, v in self.buffers.items()},
            tuple(self.history[m] for m in models) if self.history else (),
        )

    def state(self, m: int) -> dict[str, Tensor]:
        """The state dict of model m, each tensor (*shape)."""
        return {k: v[m] for k, v in (self.params | self.buffers).items()}

    @staticmethod
    def join(stacks: list[Stack]) -> Stack:
        """One stack of all models of several stacks with one architecture, in this order."""
        first = stacks[0]
        return Stack(
            first.net,
            {k: torch.cat([s.params[k] for s in stacks]) for k in first.params},
            {k: torch.cat([s.buffers[k] for s in stacks]) for k in first.buffers},
            tuple(h for s in stacks for h in s.history),
        )


class Target(Protocol):
    """What is attacked: a trained run, somebody's model, a table of predictions. Attacks and judging treat all alike."""

    @property
    def title(self) -> str: ...
    @property
    def fingerprint(self) -> str:
        """A hash of what is attacked: of the weights, a file of predictions or the code of a callable."""
        ...

    @property
    def pool(self) -> Dataset:
        """P candidates, members and non-members."""
        ...

    @property
    def membership(self) -> NDArray[np.bool_]:
        """True membership (P,), which only judging reads."""
        ...

    @property
    def population(self) -> Dataset | None:
        """Z rows of the same distribution that no model was trained on, or None."""
        ...

    @property
    def own_logits(self) -> Tensor | None:
        """Logits (P, C) float64 for the pool before the release, or None if they are not available."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """Facts that a report must state; "summary" is a text."""
        ...

    def query(self, x: Tensor, seed: int) -> Tensor:
        """Released logits (N, C) float64 for raw inputs x (N, *shape)."""
        ...


@dataclass(frozen=True)
class InputSpace:
    """What an adversary knows of a model's inputs: the possible ones, their spread, and the candidates."""

    domain: Domain
    deviation: Tensor  # (*shape) float32: standard deviation of each coordinate over the population
    rows: Tensor  # (P, *shape) raw inputs of the candidates

    PROJECTED: ClassVar[int] = 128  # coordinates to which longer inputs are projected

    def scaled(self, x: Tensor) -> Tensor:
        """Inputs (N, *shape) in deviations of each coordinate, (N, D) float32, for distances; D is the number of coordinates.

        From 4 · `PROJECTED` coordinates on, D is `PROJECTED`: the inputs are projected to random directions.
        """
        span = (self.domain.high - self.domain.low).flatten()
        unit = torch.maximum(self.deviation.flatten(), 0.01 * span).clamp_min(1e-6)
        if len(unit) < 4 * self.PROJECTED:
            return x.flatten(1).float() / unit
        rng = torch.Generator().manual_seed(0)
        directions = torch.randn(len(unit), self.PROJECTED, generator=rng) / unit.unsqueeze(1) / self.PROJECTED**0.5
        return torch.cat([part.flatten(1).float().matmul(directions) for part in x.split(4096)])

    @cached_property
    def scaled_rows(self) -> Tensor:
        """The candidates, `scaled`."""
        return self.scaled(self.rows)


@dataclass(frozen=True)
class Probe(ABC):
    """R questions about each example, and the k numbers that are kept of the R answers. Target and shadow models are asked alike.

    Subclasses are frozen dataclasses: two probes with equal options are one, and are asked once.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1  # raised when the same options would give other questions or keep other numbers
    released: ClassVar[bool] = True  # False: the network behind the release is asked, which only its owner can do
    # whether only the order of the classes in an answer counts: then a release that keeps it need not be computed
    order_only: ClassVar[bool] = False
    repeats: ClassVar[bool] = (
        False  # whether it only repeats one question, which shows nothing where answers are not random
    )

    def key(self) -> list[Any]:
        """What decides questions and kept numbers beside the name, as JSON values: a part of the names of steps."""
        return [self.version, asdict(self)]

    @abstractmethod
    def questions(self, shape: tuple[int, ...]) -> int:
        """R, the number of questions about one example of this shape."""

    @abstractmethod
    def inputs(self, x: Tensor, space: InputSpace, rng: torch.Generator) -> Tensor:
        """The questions (B, R, *shape) about raw inputs x (B, *shape)."""

    @abstractmethod
    def keep(self, answers: Tensor, y: Tensor) -> Tensor:
        """The numbers (B, k) that are kept of the answers (B, R, C) float64 about examples with labels y (B,)."""


class Launcher(Protocol):
    """Runs jobs in workers. A result never depends on the launcher, the number of workers or the order of the jobs."""

    @property
    def workers(self) -> int:
        """Requested number of jobs at the same time; 0: as many as fit."""
        ...

    def at_once(self, threads: int) -> int:
        """Number of jobs with this many threads that run at the same time."""
        ...

    def map(
        self, function: str, context: dict[str, Any], jobs: Sequence[Any], event: Callable[[dict[str, Any]], None]
    ) -> None:
        """Run ``function(context) → (job, send) → None`` over all jobs; everything that is passed is JSON.

        function: ``package.module:name``, called once per worker. ``send`` passes a dict to ``event`` in this process.
        Raises: `UserError` of the first job that fails; the others are stopped.
        """
        ...

    def limited(self, workers: int) -> Launcher:
        """The same launcher with at most this many jobs at the same time."""
        ...
