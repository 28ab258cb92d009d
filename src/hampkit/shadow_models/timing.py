"""How long a defense will train, from a few steps of each of its trainings."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from hampkit.defenses import Models
from hampkit.rng import derive
from hampkit.shadow_models.base import ShadowTask
from hampkit.targets.blackbox import BlackBox
from hampkit.training import Objective, Trainer
from hampkit.training.trainer import silent
from hampkit.types import Stack, Task

FEW, MANY = 4, 12  # batches of an epoch
ASKED = 512  # rows that the release is timed on
SHORT, LONG = 2, 4  # epochs; the first may be of another kind, as AdvReg's is
ROUNDS = 3  # a difference of two single timings may be anything where a machine is shared: it is of medians
ENOUGH = 4.0  # seconds of measuring after which no round is begun: so long ones have their own mean
WORSE = 1.5  # times the best way so far: one that is slower than this in its first few steps is not measured on


class TooSlow(Exception):
    """Another way to run is surely quicker."""


@dataclass
class Clock:
    """What the trainings took that were measured, and what they would take whole, in seconds."""

    measured: float = 0.0
    expected: float = 0.0
    # per training of the defense, seconds per model of its first steps: now, and in the best way so far
    first: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class MeasuringTrainer(Trainer):
    """Trains for a few steps and says how long the whole would take; the networks that it returns are good for nothing else.

    T(E, b) = start + E (a b + v) with E epochs, b batches, v the validation pass.
    """

    clock: Clock = field(default_factory=Clock)

    def fit(self, task: Task, objective: Objective, targets: Tensor | None = None) -> Stack:
        width = min(self._width(task.net), len(task))
        job = task.only(list(range(width)))
        mine = targets if targets is None or targets.ndim == 2 else targets[:width]
        steps = -(-int(task.members.sum(-1).max()) * self.config.passes_per_epoch // self.config.batch_size)
        few, many = min(FEW, steps), min(MANY, steps)
        begun = time.perf_counter()
        stack, seconds = self._short(job, objective, mine, SHORT, few)  # warm up
        best = self.clock.best[len(self.clock.first) :]
        self.clock.first.append(seconds / width)
        if best and seconds / width > WORSE * best[0]:
            raise TooSlow
        runs = self._medians(job, objective, mine, [(e, b) for e in (SHORT, LONG) for b in sorted({few, many})])
        epoch = max((runs[LONG, few] - runs[SHORT, few]) / (LONG - SHORT), 1e-6)
        longer = max((runs[LONG, many] - runs[SHORT, many]) / (LONG - SHORT), epoch)
        batch = min((longer - epoch) / max(many - few, 1), epoch / few)
        start = max(runs[SHORT, few] - SHORT * epoch, 0.0)
        epochs = min(self.config.stop_after or self.config.epochs, self.config.epochs)
        whole = start + epochs * (epoch + batch * (steps - few))
        self.clock.measured += time.perf_counter() - begun
        self.clock.expected += whole * -(-len(task) // width)
        return Stack.join([stack.take([m % width for m in range(len(task))])])

    def _medians(
        self, task: Task, objective: Objective, targets: Tensor | None, sizes: list[tuple[int, int]]
    ) -> dict[tuple[int, int], float]:
        """Seconds of so many epochs of so many batches. All sizes are timed in turn, so that a slow moment meets them alike."""
        rounds: list[list[float]] = []
        while len(rounds) < ROUNDS and sum(map(sum, rounds)) < ENOUGH:
            rounds.append([self._short(task, objective, targets, *size)[1] for size in sizes])
        return dict(zip(sizes, map(statistics.median_low, zip(*rounds, strict=True)), strict=True))

    def _short(
        self, task: Task, objective: Objective, targets: Tensor | None, epochs: int, batches: int
    ) -> tuple[Stack, float]:
        config = replace(self.config, epochs=epochs, retries=0, stop_after=0)
        trainer = Trainer(config, self.device, self.width, silent, batches, self.cuda_graphs)
        _synchronize(self.device)
        clock = time.perf_counter()
        stack = trainer.fit(task, objective, targets)
        _synchronize(self.device)
        return stack, time.perf_counter() - clock


def seconds_per_model(task: ShadowTask, way: Trainer, best: list[float]) -> tuple[float, list[float]]:
    """Seconds of a whole training of the defense by such a trainer, per model; infinite where another way is quicker.

    best: what the first steps took in the best way so far; returned with those of this one.
    """
    width, pool = way.width, len(task.task.pool)
    members = torch.zeros(width, pool, dtype=torch.bool)
    members[:, : pool // 2] = True
    seeds = tuple(derive(task.recipe.seed, "measure", m) for m in range(width))
    clock = Clock(best=best)
    trainer = MeasuringTrainer(way.config, way.device, width, silent, cuda_graphs=way.cuda_graphs, clock=clock)
    begun = time.perf_counter()
    try:
        models = task.defense.fit(replace(task.task, members=members, seeds=seeds), trainer)
    except TooSlow:
        return math.inf, clock.first
    trained = (time.perf_counter() - begun - clock.measured + clock.expected) / width
    return trained + _asking(task, models), clock.first


def _asking(task: ShadowTask, models: Models) -> float:
    """Seconds that one model takes to answer all queries to a shadow model: some releases cost more than a training."""
    release = task.defense.release(models.state_of(0), task.domain)
    box = BlackBox(models.stack.take([0]), release, task.trainer)
    rows = task.task.pool.x[:ASKED]
    begun = time.perf_counter()
    box.query(rows, seed=0)
    each = (time.perf_counter() - begun) / len(rows)
    return each * (len(task.task.pool) * task.views + len(task.population))


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
