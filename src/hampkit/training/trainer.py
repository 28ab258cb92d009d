"""The trainer: batches, optimiser steps, choice of the checkpoint, divergence, for any number of models at once."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hampkit.config.sections import TrainConfig, TrainOverrides
from hampkit.errors import UserError
from hampkit.rng import derive, forked, torch_rng
from hampkit.training.augment import augmented
from hampkit.training.batches import batches, plan_epoch
from hampkit.training.cuda_graphs import Recorder, Replayed
from hampkit.training.denormals import denormals_as_zero
from hampkit.training.layout import arranged, channels_last, prefers_channels_last, rows_at_once
from hampkit.training.objectives import MeanLoss, Objective
from hampkit.training.optim import Optimizer, learning_rate
from hampkit.training.stacks import NOT_FINITE, initial, merged, normalises_batches, on_device, with_models
from hampkit.training.vectorize import vectorize_over
from hampkit.types import Batch, Dataset, History, Stack, Task

Track = Callable[[str, int, int], None]  # description of the work, units done, units in all
TRAINING = "training"  # what epochs are reported as
# training accuracy as a share of the way from the largest class's share to 1, below which a model counts as collapsed
COLLAPSED = 0.15


class Diverged(UserError):
    """A model's training ended in infinite or NaN numbers with every seed that was tried."""


def silent(what: str, done: int, total: int) -> None:
    """The default of `Trainer.track`: no progress is shown."""


@dataclass(frozen=True)
class Trainer:
    """Trains stacks of networks as a `TrainConfig` describes, and computes their logits."""

    config: TrainConfig
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    width: int = 0  # models that run together; 0: one on a CPU, where stacks were measured to be slower, 16 on a GPU
    track: Track = silent
    most_steps: int = 0  # per epoch, to measure the time of a training; 0: all
    cuda_graphs: Recorder | None = None  # records the steps of a stack, which are then replayed where possible
    rates: str = ""  # the options to lower if a model diverges, with their values; empty: train.lr

    def fit(self, task: Task, objective: Objective, targets: Tensor | None = None) -> Stack:
        """Train every model of the task; one that diverges is trained again with another seed, at most ``config.retries`` times.

        targets: (N, C) or (M, N, C) float32, for objectives that use ``batch.target``. A model that trains to the end without
        learning anything is returned, with the reason in its history.

        Raises: `Diverged` if a model has infinite or NaN numbers with every seed.
        """
        stack = self._fit_all(task, objective, targets)
        for attempt in range(1, self.config.retries + 1):
            failed = [m for m, h in enumerate(stack.history) if h.diverged]
            if not failed:
                return stack
            again = replace(task.only(failed), seeds=tuple(derive(task.seeds[m], "retry", attempt) for m in failed))
            stack = with_models(stack, failed, self._fit_all(again, objective, _of_models(targets, failed)))
        self._check_finite(stack)
        return stack

    def with_config(self, config: TrainConfig, rates: str = "") -> Trainer:
        """The same trainer with another configuration; rates: the options that set its learning rates, as KEY=VALUE."""
        return replace(self, config=config, rates=rates)

    def with_overrides(self, overrides: TrainOverrides) -> Trainer:
        """The same trainer for a student: with the options of ``defense.distill``, and its own where those are None.

        Raises: `UserError` for options that exclude each other.
        """
        config = overrides.of(self.config)
        return self.with_config(config, f"defense.distill.lr={config.lr}")

    def on_device(self, data: Dataset) -> Dataset:
        """The same rows on the device that trains the networks."""
        return _to(data, self.device)

    def predict(self, stack: Stack, x: Tensor) -> Tensor:
        """Logits (M, N, C) of every model for x (N, *shape) in evaluation mode, on the CPU."""
        return torch.cat([self._predict_job(on_device(part, self.device), x) for part in self._jobs(stack)])

    def _check_finite(self, stack: Stack) -> None:
        for m, h in enumerate(stack.history):
            if h.diverged == NOT_FINITE:
                tried = ", ".join(map(str, h.seeds))
                raise Diverged(
                    f"model {m} diverged with every seed tried ({tried}): {h.diverged}; lower"
                    f" {self.rates or f'train.lr={self.config.lr}'},"
                    " or check the defense's options and the scale of the features (train.standardize=true scales them)"
                )

    def _fit_all(self, task: Task, objective: Objective, targets: Tensor | None) -> Stack:
        width = self._width(task.net)
        jobs = [list(range(i, min(i + width, len(task)))) for i in range(0, len(task), width)]
        pool, val = _to(task.pool, self.device), _to(task.val, self.device)
        stacks = []
        for k, models in enumerate(jobs):
            job = replace(task.only(models), pool=pool, val=val)
            own = _of_models(targets, models)
            stacks.append(self._fit_job(job, objective, None if own is None else own.to(self.device), k, len(jobs)))
        return Stack.join(stacks)

    def _fit_job(self, task: Task, objective: Objective, targets: Tensor | None, k: int, jobs: int) -> Stack:
        """Train all models of the task as one stack, from initialisation to the chosen checkpoint."""
        members = [task.rows(m) for m in range(len(task))]
        for m, rows in enumerate(members):
            assert len(rows), f"model {m} has no members"
        rngs = [torch_rng(derive(seed, "noise")) for seed in task.seeds]
        run = _Run(self, task, objective, targets, members, rngs, self._initial(task, members))
        epochs = min(self.config.stop_after or self.config.epochs, self.config.epochs)
        # the fork is for dropout, which only networks that run alone may have
        with _current(self.device), forked(derive(task.seeds[0], "dropout")), denormals_as_zero():
            for epoch in range(epochs):
                run.epoch(epoch)
                self.track(TRAINING, k * epochs + epoch + 1, jobs * epochs)
        return run.result()

    def _initial(self, task: Task, members: list[Tensor]) -> Stack:
        stack = arranged(initial(task, members, self.device), self.device)
        stack = replace(stack, mixed=self.config.precision == "bfloat16")
        if stack.mixed and len(stack) > 1:  # under vmap, batch norm refuses bfloat16 inputs with float32 statistics
            for layer in (m for m in stack.net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
                layer.register_forward_pre_hook(_in_float32)
        return stack

    def _width(self, factory: Callable[[], nn.Module]) -> int:
        with forked(0):
            net = factory()
        layers = list(net.named_modules(remove_duplicate=False))
        # functional_call leaves mapped weights in layers that are used twice
        shared = len(layers) > len(list(net.modules()))
        # dropout draws inside the network: only a model that runs alone has its own random numbers
        if shared or any(isinstance(m, nn.modules.dropout._DropoutNd) for _, m in layers):
            return 1
        return self.width or (1 if self.device.type == "cpu" else 16)

    def _jobs(self, stack: Stack) -> list[Stack]:
        width = self._width(lambda: stack.net)
        return [stack.take(list(range(i, min(i + width, len(stack))))) for i in range(0, len(stack), width)]

    @torch.no_grad()
    def _predict_job(self, stack: Stack, x: Tensor) -> Tensor:
        stack = arranged(stack, self.device)
        place = channels_last if prefers_channels_last(stack, self.device) else _as_is
        size = rows_at_once(stack.net, x.shape[1:], stack.dtype)
        stack.net.eval()
        vectorize = vectorize_over(len(stack))

        def answer(params: dict[str, Tensor], buffers: dict[str, Tensor], rows: Tensor) -> Tensor:
            return functional_call(stack.net, (params, buffers), (rows,))

        # parts bound the memory; torch multiplies few rows with another kernel, so that answers to the last part, which may be
        # short, can differ in their last bits
        parts = [x[i : i + size] for i in range(0, len(x), size)]
        m = len(stack)
        shared = (part.to(self.device, stack.dtype).unsqueeze(0).expand(m, *part.shape) for part in parts)
        return torch.cat([vectorize(answer)(stack.params, stack.buffers, place(rows)).cpu() for rows in shared], 1)


@dataclass
class _Run:
    """The state of one stacked training."""

    trainer: Trainer
    task: Task
    objective: Objective
    targets: Tensor | None
    members: list[Tensor]  # per model, rows (n,) of the pool
    rngs: list[torch.Generator]
    stack: Stack

    def __post_init__(self) -> None:
        self.config = self.trainer.config
        self.vectorize = vectorize_over(len(self.stack))
        self.optimizer = Optimizer(self.config)
        self.state: Any = self.objective.init(self.stack, self.task, self.rngs)
        self.pad = normalises_batches(self.stack.net)
        self.place = channels_last if prefers_channels_last(self.stack, self.trainer.device) else _as_is
        n_models = len(self.stack)
        self.best = self.stack
        self.best_correct = torch.zeros(n_models, dtype=torch.float64)
        self.best_epoch = [-1] * n_models
        self.curve: list[Tensor] = []  # validation accuracy (M,) after each epoch
        self.stalled = torch.zeros(n_models, dtype=torch.int64)  # epochs since the best one
        self.diverged = torch.zeros(n_models, dtype=torch.bool, device=self.trainer.device)
        self.stopped = torch.zeros_like(self.diverged)  # stopped before this epoch, see `_out_of_patience`
        self.last = 0  # the last epoch that was trained
        self.replayed = self._replayed()

    def epoch(self, epoch: int) -> None:
        """Train one epoch and keep the best checkpoints; nothing happens once all models have diverged or all have stopped."""
        if self.diverged.all() or self._out_of_patience().all():
            return
        self.last = epoch
        self.stopped.copy_(self._out_of_patience())  # in place: a recorded step reads this memory
        if self.config.restart_optimizer:
            self.optimizer.restart()
        self.state = self.objective.begin(self.stack, self.state, epoch, self.rngs)
        self._steps(epoch, learning_rate(self.config, epoch))
        self._choose(epoch)

    def _steps(self, epoch: int, lr: float) -> None:
        plan = plan_epoch(self.members, self.task.seeds, epoch, self.config)
        self.stack.net.train()
        cut = batches(plan, self.task.pool, self.targets, self.pad, self.stack.dtype)
        for s, (batch, idle) in enumerate(cut):
            if self.trainer.most_steps and s >= self.trainer.most_steps:
                break
            if self.config.augment:
                batch = batch._replace(x=augmented(batch.x, self.config.augment, self.task.seeds, epoch, s))
            batch = batch._replace(x=self.place(batch.x))
            if self.replayed and idle is None and batch.y.shape[1] == self.config.batch_size:
                self.replayed(batch, lr)
            else:
                self._step(batch, lr, idle, self._rngs_of(plan.active[:, s].tolist()))

    def _rngs_of(self, active: list[bool]) -> list[torch.Generator]:
        """A generator per model. One that has finished its epoch gets another: its own must not depend on its neighbours."""
        return [rng if on else torch_rng(0) for rng, on in zip(self.rngs, active, strict=True)]

    def _step(self, batch: Batch, lr: float, idle: Tensor | None, rngs: list[torch.Generator]) -> None:
        step = self.objective.gradient(self.vectorize, self.stack, self.state, batch, rngs)
        self.optimizer.step(self.stack.params, step.grads, lr, idle)
        self.state = step.state
        for name, old in self.stack.buffers.items():
            shape = (-1, *(1,) * (old.ndim - 1))
            new = step.buffers[name]
            old.copy_(new if idle is None else torch.where(idle.view(shape), old, new))
        diverged = ~step.value.isfinite() & ~self.stopped
        self.diverged |= diverged if idle is None else diverged & ~idle

    def _replayed(self) -> Replayed | None:
        """Recorded steps, for trainings whose steps do the same work every time: a `MeanLoss` and SGD."""
        plain = type(self.objective) is MeanLoss and self.config.optimizer == "sgd"
        if self.trainer.cuda_graphs is None or len(self.stack) == 1 or not plain:
            return None

        def state() -> list[Tensor]:
            groups = (self.stack.params, self.stack.buffers, *self.optimizer.state.values())
            return [*(t for group in groups for t in group.values()), self.diverged]

        return Replayed(self.trainer.cuda_graphs, lambda batch, lr: self._step(batch, lr, None, []), state)

    def _choose(self, epoch: int) -> None:
        """Keep the weights of each model whose validation accuracy is its highest so far."""
        if self.task.val is None or self.config.select == "last":
            return
        correct, stopped = self._correct(self.task.val), self._out_of_patience()
        self.curve.append(torch.where(stopped, math.nan, correct / len(self.task.val)))
        better = (correct > self.best_correct + self.config.min_delta * len(self.task.val)) & ~stopped
        if epoch < self.objective.settles:
            return
        self.stalled = torch.where(better, 0, self.stalled + 1)
        self.best_correct = torch.where(better, correct, self.best_correct)
        # a model whose patience ends before any epoch was better keeps these weights: a stack trains it further
        kept = better | (self._out_of_patience() & torch.tensor([e < 0 for e in self.best_epoch]))
        if kept.any():
            self.best = merged(kept.to(self.trainer.device), self.stack, self.best)
            self.best_epoch = [epoch if k else e for k, e in zip(kept.tolist(), self.best_epoch, strict=True)]

    def _out_of_patience(self) -> Tensor:
        """Models (M,) bool that have stopped early. Their stack trains them further, but later weights are not kept."""
        return self.stalled >= (self.config.patience or self.config.epochs + 1)

    def result(self) -> Stack:
        """The stack with the chosen weights, or those of the last epoch where none was chosen, on the CPU."""
        chosen = torch.tensor([e >= 0 for e in self.best_epoch], device=self.trainer.device)
        stack = replace(merged(chosen, self.best, self.stack), mixed=False)
        return replace(
            on_device(stack, torch.device("cpu")), history=tuple(self._history(stack, m) for m in range(len(stack)))
        )

    def _history(self, stack: Stack, m: int) -> History:
        return History(
            seeds=(self.task.seeds[m],),
            epoch=self.best_epoch[m] if self.best_epoch[m] >= 0 else self.last,
            val_accuracy=tuple(round(float(c[m]), 6) for c in self.curve if not c[m].isnan()),
            diverged=self._failure(stack, m),
        )

    def _failure(self, stack: Stack, m: int) -> str:
        """Why model m is unusable, or "": it has infinite or NaN numbers, or predicts little more than the largest class."""
        if bool(self.diverged[m]) or not all(bool(v[m].isfinite().all()) for v in stack.params.values()):
            return NOT_FINITE
        data = self.task.pool.take(self.members[m].to(self.trainer.device))
        share = float(data.y.bincount().max()) / len(data)
        logits = self.trainer._predict_job(stack.take([m]), data.x)[0]
        accuracy = float((logits.argmax(-1) == data.y.cpu()).double().mean())
        # if one class holds most rows, always predicting it may be the best there is
        if share < 0.5 and accuracy <= share + COLLAPSED * (1 - share):
            return f"it learnt nothing: training accuracy {accuracy:.1%}, of the largest class alone {share:.1%}"
        return ""

    def _correct(self, data: Dataset) -> Tensor:
        """Correct predictions (M,) float64 of each model."""
        logits = self.trainer._predict_job(self.stack, data.x)
        return (logits.argmax(-1) == data.y.cpu()).sum(-1).double()


def _current(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Make the device torch's current one, to which CUDA streams and graphs belong."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def _in_float32(layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(arg.float() if isinstance(arg, Tensor) and arg.dtype == torch.bfloat16 else arg for arg in args)


def _as_is(x: Tensor) -> Tensor:
    return x


def _to(data: Dataset | None, device: torch.device) -> Any:
    return None if data is None else replace(data, x=data.x.to(device), y=data.y.to(device))


def _of_models(targets: Tensor | None, models: list[int]) -> Tensor | None:
    return targets if targets is None or targets.ndim == 2 else targets[models]
