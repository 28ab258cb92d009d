"""The expected training time of a defense, extrapolated from a few steps of each of its trainings."""

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
QUERIED = 512  # rows for timing the release
SHORT, LONG = 2, 4  # epochs; more than one, because the first may differ, as AdvReg's does
MEASURING = "measuring training steps"  # what progress is shown as
ROUNDS = 3  # timings per median: on a shared machine the difference of two single timings is too noisy
LONG_ENOUGH = 4.0  # seconds of measuring after which no further round starts: long timings are less noisy
WORSE = 1.5  # a mode whose first steps take more than this many times the best mode's is not measured further


class TooSlow(Exception):
    """Another execution mode is certainly faster."""


@dataclass
class Clock:
    """Seconds of the measured trainings, and expected seconds of the complete trainings."""

    measured: float = 0.0
    expected: float = 0.0
    # seconds per model of the first steps of each training of the defense: in this mode, and in the best mode so far
    first: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class MeasuringTrainer(Trainer):
    """A trainer that trains for a few steps and adds the expected time of the complete training to its clock.

    T(E, b) = start + E (a b + v) seconds for E epochs of b batches: a per batch, v per validation pass. The networks that it
    returns are not trained.
    """

    clock: Clock = field(default_factory=Clock)

    def fit(self, task: Task, objective: Objective, targets: Tensor | None = None) -> Stack:
        """As `Trainer.fit`, but only a few steps are trained; targets: (N, C) or (M, N, C).

        Raises: `TooSlow` if the first steps take more than `WORSE` times as long as in the best mode.
        """
        width = min(self._width(task.net), len(task))
        job = task.only(list(range(width)))
        own_targets = targets if targets is None or targets.ndim == 2 else targets[:width]
        steps = -(-int(task.members.sum(-1).max()) * self.config.passes_per_epoch // self.config.batch_size)
        few, many = min(FEW, steps), min(MANY, steps)
        started = time.perf_counter()
        stack, seconds = self._short(job, objective, own_targets, SHORT, few)  # also warms up
        best = self.clock.best[len(self.clock.first) :]
        self.clock.first.append(seconds / width)
        if best and seconds / width > WORSE * best[0]:
            raise TooSlow
        runs = self._medians(job, objective, own_targets, [(e, b) for e in (SHORT, LONG) for b in sorted({few, many})])
        epoch = max((runs[LONG, few] - runs[SHORT, few]) / (LONG - SHORT), 1e-6)
        longer = max((runs[LONG, many] - runs[SHORT, many]) / (LONG - SHORT), epoch)
        batch = min((longer - epoch) / max(many - few, 1), epoch / few)
        start = max(runs[SHORT, few] - SHORT * epoch, 0.0)
        epochs = min(self.config.stop_after or self.config.epochs, self.config.epochs)
        whole = start + epochs * (epoch + batch * (steps - few))
        self.clock.measured += time.perf_counter() - started
        self.clock.expected += whole * -(-len(task) // width)
        return Stack.join([stack.take([m % width for m in range(len(task))])])

    def _medians(
        self, task: Task, objective: Objective, targets: Tensor | None, sizes: list[tuple[int, int]]
    ) -> dict[tuple[int, int], float]:
        """Median seconds for each size (epochs, batches). The sizes are timed in turn, so that other load affects all alike."""
        rounds: list[list[float]] = []
        while len(rounds) < ROUNDS and sum(map(sum, rounds)) < LONG_ENOUGH:
            self.track(MEASURING, len(rounds) + 1, ROUNDS + 1)
            rounds.append([self._short(task, objective, targets, *size)[1] for size in sizes])
        return dict(zip(sizes, map(statistics.median_low, zip(*rounds, strict=True)), strict=True))

    def _short(
        self, task: Task, objective: Objective, targets: Tensor | None, epochs: int, batches: int
    ) -> tuple[Stack, float]:
        """The stack and the seconds of a training with this many epochs and batches."""
        config = replace(self.config, epochs=epochs, retries=0, stop_after=0)
        trainer = Trainer(config, self.device, self.width, silent, batches, self.cuda_graphs)
        _synchronize(self.device)
        clock = time.perf_counter()
        stack = trainer.fit(task, objective, targets)
        _synchronize(self.device)
        return stack, time.perf_counter() - clock


def seconds_per_model(task: ShadowTask, mode: Trainer, best: list[float]) -> tuple[float, list[float]]:
    """Seconds per model of a complete training of the defense; infinite if another mode is certainly faster.

    mode: a trainer that runs in the mode. best: seconds per model of the first steps of each training in the best mode so far.
    Returned second: the same of this mode.
    """
    width, pool = mode.width, len(task.task.pool)
    members = torch.zeros(width, pool, dtype=torch.bool)
    members[:, : pool // 2] = True
    seeds = tuple(derive(task.recipe.seed, "measure", m) for m in range(width))
    clock = Clock(best=best)
    trainer = MeasuringTrainer(mode.config, mode.device, width, mode.track, cuda_graphs=mode.cuda_graphs, clock=clock)
    started = time.perf_counter()
    try:
        models = task.defense.fit(replace(task.task, members=members, seeds=seeds), trainer)
    except TooSlow:
        return math.inf, clock.first
    trained = (time.perf_counter() - started - clock.measured + clock.expected) / width
    return trained + _querying(task, models), clock.first


def _querying(task: ShadowTask, models: Models) -> float:
    """Expected seconds for all queries to one shadow model: some releases take longer than a training."""
    release = task.defense.release(models.state_of(0), task.domain)
    box = BlackBox(models.stack.take([0]), release, task.trainer)
    rows = task.task.pool.x[:QUERIED]
    started = time.perf_counter()
    box.query(rows, seed=0)
    each = (time.perf_counter() - started) / len(rows)
    return each * (len(task.task.pool) * task.questions + len(task.population))


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
