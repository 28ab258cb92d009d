"""Fits stacks: batches, optimiser, checkpoint choice, divergence. Nobody else can tell how many models run together."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hampkit.config.recipe import TrainConfig
from hampkit.errors import UserError
from hampkit.nets.normalize import Normalize
from hampkit.rng import derive, forked, torch_rng
from hampkit.training.augment import augmented
from hampkit.training.batches import batches, plan_epoch
from hampkit.training.cuda_graphs import Recorder, Replayed
from hampkit.training.denormals import denormals_as_zero
from hampkit.training.layout import arranged, channels_last, prefers_channels_last, rows_at_once
from hampkit.training.objectives import MeanLoss, Objective
from hampkit.training.optim import Optimizer, learning_rate
from hampkit.training.vectorize import vectorize_over
from hampkit.types import Batch, Dataset, History, Stack, Task

Track = Callable[[str, int, int], None]  # what is being done, how much is done, how much there is
NOT_FINITE = "its loss or its weights became infinite or NaN"
COLLAPSED = (
    0.15  # of the way from naming the largest class to a perfect fit: below it a model has learnt next to nothing
)


class Diverged(UserError):
    """A model's training ended in infinite or NaN numbers, with every seed that was tried."""


def silent(what: str, done: int, total: int) -> None:
    """The default for `Trainer.track`: nobody watches."""


@dataclass(frozen=True)
class Trainer:
    config: TrainConfig
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    width: int = 0  # models that run together; 0: one on a CPU, where stacking was measured to lose, sixteen on a GPU
    track: Track = silent
    most_steps: int = 0  # of an epoch, where only the time of a training is wanted; 0: all
    cuda_graphs: Recorder | None = None  # steps of a stack are recorded with it and replayed, where that can be done
    rates: str = ""  # the options to lower where a model diverges, with their values; empty: train.lr

    def fit(self, task: Task, objective: Objective, targets: Tensor | None = None) -> Stack:
        """Train every model of the task; a diverged model is trained again with another seed, the others never notice.

        targets: (N, C) or (M, N, C) float32 for the loss, where the defense has any. Raises `Diverged`.
        """
        stack = self._fit_all(task, objective, targets)
        for attempt in range(1, self.config.retries + 1):
            failed = [m for m, h in enumerate(stack.history) if h.diverged]
            if not failed:
                return stack
            again = replace(task.only(failed), seeds=tuple(derive(task.seeds[m], "retry", attempt) for m in failed))
            stack = _put(stack, failed, self._fit_all(again, objective, _of_models(targets, failed)))
        for m, h in enumerate(stack.history):
            if h.diverged == NOT_FINITE:
                tried = ", ".join(map(str, h.seeds))
                raise Diverged(
                    f"model {m} diverged with every seed tried ({tried}): {h.diverged}; lower"
                    f" {self.rates or f'train.lr={self.config.lr}'},"
                    " or check the defense's options and the scale of the features (train.standardize=true scales them)"
                )
        return stack  # a model that learnt nothing is kept: its history says so, and the judge flags it

    def with_config(self, config: TrainConfig, rates: str = "") -> Trainer:
        """The same trainer for another training; rates: the options that its learning rates come from, as KEY=VALUE."""
        return replace(self, config=config, rates=rates)

    def on_device(self, data: Dataset) -> Dataset:
        """The same rows where the networks are trained."""
        return _to(data, self.device)

    def predict(self, stack: Stack, x: Tensor) -> Tensor:
        """Logits of every model on every row, in evaluation mode: (M, N, C) on the CPU."""
        return torch.cat([self._predict_job(_on(part, self.device), x) for part in self._jobs(stack)])

    def _fit_all(self, task: Task, objective: Objective, targets: Tensor | None) -> Stack:
        width = self._width(task.net)
        jobs = [list(range(i, min(i + width, len(task)))) for i in range(0, len(task), width)]
        pool, val = _to(task.pool, self.device), _to(task.val, self.device)
        stacks = []
        for k, models in enumerate(jobs):
            job = replace(task.only(models), pool=pool, val=val)
            mine = _of_models(targets, models)
            stacks.append(self._fit_job(job, objective, None if mine is None else mine.to(self.device), k, len(jobs)))
        return Stack.join(stacks)

    def _fit_job(self, task: Task, objective: Objective, targets: Tensor | None, k: int, jobs: int) -> Stack:
        """One stacked training of all models of the task, from initialisation to the chosen checkpoint."""
        members = [row.nonzero().squeeze(-1) for row in task.members]
        for m, rows in enumerate(members):
            assert len(rows), f"model {m} has no members"
        stack = arranged(initial(task, members, self.device), self.device)
        stack = replace(stack, mixed=self.config.precision == "bfloat16")
        if stack.mixed and len(stack) > 1:  # mapped, batch norm takes no bfloat16 beside its float32 statistics
            for layer in (m for m in stack.net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
                layer.register_forward_pre_hook(_in_float32)
        rngs = [torch_rng(derive(seed, "noise")) for seed in task.seeds]
        run = _Run(self, task, objective, targets, members, rngs, stack)
        epochs = min(self.config.stop_after or self.config.epochs, self.config.epochs)
        # only networks that run alone draw
        with _current(self.device), forked(derive(task.seeds[0], "dropout")), denormals_as_zero():
            for epoch in range(epochs):
                run.epoch(epoch)
                self.track("training", k * epochs + epoch + 1, jobs * epochs)
        return run.result()

    def _width(self, factory: Callable[[], nn.Module]) -> int:
        with forked(0):
            net = factory()
        everywhere = list(net.named_modules(remove_duplicate=False))
        shared = len(everywhere) > len(
            list(net.modules())
        )  # functional_call leaves mapped weights behind in shared layers
        if shared or any(isinstance(m, nn.modules.dropout._DropoutNd) for _, m in everywhere):
            return 1  # dropout draws inside the network: only a model that runs alone gets its own numbers
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

        # parts bound the memory; torch runs a product of few rows by another kernel, so that in the last part, which may be
        # short, a row's answer can differ in its last bits from one among more rows
        parts = [x[i : i + size] for i in range(0, len(x), size)]
        m = len(stack)
        shared = (part.to(self.device, stack.dtype).unsqueeze(0).expand(m, *part.shape) for part in parts)
        return torch.cat([vectorize(answer)(stack.params, stack.buffers, place(rows)).cpu() for rows in shared], 1)


@dataclass
class _Run:
    """One job under way."""

    trainer: Trainer
    task: Task
    objective: Objective
    targets: Tensor | None
    members: list[Tensor]
    rngs: list[torch.Generator]
    stack: Stack

    def __post_init__(self) -> None:
        self.config = self.trainer.config
        self.vectorize = vectorize_over(len(self.stack))
        self.optimizer = Optimizer(self.config)
        self.state: Any = self.objective.init(self.stack, self.task, self.rngs)
        self.pad = normalises_batches(self.stack.net)
        self.place = channels_last if prefers_channels_last(self.stack, self.trainer.device) else _as_is
        models = len(self.stack)
        self.best = self.stack
        self.best_correct = torch.zeros(models, dtype=torch.float64)
        self.best_epoch = [-1] * models
        self.curve: list[Tensor] = []
        self.stalled = torch.zeros(models, dtype=torch.int64)  # epochs since the last better one
        self.broken = torch.zeros(models, dtype=torch.bool, device=self.trainer.device)
        self.riding = torch.zeros_like(self.broken)  # stopped before this epoch: what becomes of them is not looked at
        self.last = 0  # epoch that was trained
        self.replayed = self._replayed()

    def epoch(self, epoch: int) -> None:
        if self.broken.all() or self._stopped().all():
            return
        self.last = epoch
        self.riding.copy_(self._stopped())  # in place: a recorded step goes on reading it
        if self.config.restart_optimizer:
            self.optimizer.restart()
        self.state = self.objective.begin(self.stack, self.state, epoch, self.rngs)
        lr = learning_rate(self.config, epoch)
        plan = plan_epoch(self.members, self.task.seeds, epoch, self.config)
        self.stack.net.train()
        cut = batches(plan, self.task.pool, self.targets, self.trainer.device, self.pad, self.stack.dtype)
        for s, (batch, idle) in enumerate(cut):
            if self.trainer.most_steps and s >= self.trainer.most_steps:
                break
            if self.config.augment:
                batch = batch._replace(x=augmented(batch.x, self.config.augment, self.task.seeds, epoch, s))
            batch = batch._replace(x=self.place(batch.x))
            if self.replayed and idle is None and batch.y.shape[1] == self.config.batch_size:
                self.replayed(batch, lr)
                continue
            # who has finished the epoch must not draw: what it draws later would depend on its neighbours
            active = plan.active[:, s].tolist()
            self._step(
                batch, lr, idle, [rng if on else torch_rng(0) for rng, on in zip(self.rngs, active, strict=True)]
            )
        self._choose(epoch)

    def _step(self, batch: Batch, lr: float, idle: Tensor | None, rngs: list[torch.Generator]) -> None:
        step = self.objective.gradient(self.vectorize, self.stack, self.state, batch, rngs)
        self.optimizer.step(self.stack.params, step.grads, lr, idle)
        self.state = step.state
        for name, old in self.stack.buffers.items():
            shape = (-1, *(1,) * (old.ndim - 1))
            new = step.buffers[name]
            old.copy_(new if idle is None else torch.where(idle.view(shape), old, new))
        broken = ~step.value.isfinite() & ~self.riding
        self.broken |= broken if idle is None else broken & ~idle

    def _replayed(self) -> Replayed | None:
        """Steps that are the same work every time: no draws, nothing kept from step to step, nothing counted on the CPU."""
        plain = type(self.objective) is MeanLoss and self.config.optimizer == "sgd"
        if self.trainer.cuda_graphs is None or len(self.stack) == 1 or not plain:
            return None

        def state() -> list[Tensor]:
            groups = (self.stack.params, self.stack.buffers, *self.optimizer.state.values())
            return [*(t for group in groups for t in group.values()), self.broken]

        return Replayed(self.trainer.cuda_graphs, lambda batch, lr: self._step(batch, lr, None, []), state)

    def _choose(self, epoch: int) -> None:
        """Keep the models whose validation accuracy is the highest so far."""
        if self.task.val is None or self.config.select == "last":
            return
        correct, stopped = self._correct(self.task.val), self._stopped()
        self.curve.append(torch.where(stopped, math.nan, correct / len(self.task.val)))
        better = (correct > self.best_correct + self.config.min_delta * len(self.task.val)) & ~stopped
        if epoch < self.objective.settles:
            return
        self.stalled = torch.where(better, 0, self.stalled + 1)
        self.best_correct = torch.where(better, correct, self.best_correct)
        # where patience ends before any epoch was better, the last one is kept: alone, a model has no later ones
        kept = better | (self._stopped() & torch.tensor([e < 0 for e in self.best_epoch]))
        if kept.any():
            self.best = _merge(kept.to(self.trainer.device), self.stack, self.best)
            self.best_epoch = [epoch if k else e for k, e in zip(kept.tolist(), self.best_epoch, strict=True)]

    def _stopped(self) -> Tensor:
        """Models (M,) whose patience is at its end. In a stack they ride along, and what becomes of them is not chosen."""
        return self.stalled >= (self.config.patience or self.config.epochs + 1)

    def result(self) -> Stack:
        chosen = torch.tensor([e >= 0 for e in self.best_epoch], device=self.trainer.device)
        stack = replace(_merge(chosen, self.best, self.stack), mixed=False)  # nothing was ever chosen: the last epoch
        return replace(
            _on(stack, torch.device("cpu")), history=tuple(self._history(stack, m) for m in range(len(stack)))
        )

    def _history(self, stack: Stack, m: int) -> History:
        return History(
            seeds=(self.task.seeds[m],),
            epoch=self.best_epoch[m] if self.best_epoch[m] >= 0 else self.last,
            val_accuracy=tuple(round(float(c[m]), 6) for c in self.curve if not c[m].isnan()),
            diverged=self._failure(stack, m),
        )

    def _failure(self, stack: Stack, m: int) -> str:
        """Why this model is no use, or nothing: numbers that are not finite, or no better than naming one class."""
        if bool(self.broken[m]) or not all(bool(v[m].isfinite().all()) for v in stack.params.values()):
            return NOT_FINITE
        rows = self.members[m]
        mine = self.task.pool.take(rows.to(self.trainer.device))
        share = float(mine.y.bincount().max()) / len(rows)
        logits = self.trainer._predict_job(stack.take([m]), mine.x)[0]
        accuracy = float((logits.argmax(-1) == mine.y.cpu()).double().mean())
        # where one class holds most rows, naming it may well be the best there is
        if share < 0.5 and accuracy <= share + COLLAPSED * (1 - share):
            return f"it learnt nothing: training accuracy {accuracy:.1%}, naming the largest class gives {share:.1%}"
        return ""

    def _correct(self, data: Dataset) -> Tensor:
        logits = self.trainer._predict_job(self.stack, data.x)
        return (logits.argmax(-1) == data.y.cpu()).sum(-1).double()


def normalises_batches(net: nn.Module) -> bool:
    """Whether it holds batch norm, which sees padded rows: its batches are always padded."""
    norms = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
    return any(isinstance(m, norms) for m in net.modules())


def initial(task: Task, members: list[Tensor], device: torch.device) -> Stack:
    """Fresh networks, each from its model's own seed, on the device."""
    nets = [_seeded(task, m, rows) for m, rows in enumerate(members)]
    first = dict(nets[0].named_parameters())
    trained = [k for k, p in first.items() if p.requires_grad]
    held = [
        k for k in (*dict(nets[0].named_buffers()), *first) if k not in trained
    ]  # frozen parameters go with the buffers
    params, buffers = ({k: torch.stack([_tensors(n)[k] for n in nets]) for k in names} for names in (trained, held))
    if not params:
        raise UserError(f"the network {type(nets[0]).__name__} has no parameters to train")
    return _on(Stack(copy.deepcopy(nets[0]), params, buffers), device)


def _tensors(net: nn.Module) -> dict[str, Tensor]:
    return {k: t.detach() for k, t in (*net.named_parameters(), *net.named_buffers())}


def _seeded(task: Task, m: int, rows: Tensor) -> nn.Module:
    with forked(derive(task.seeds[m], "init")):
        net = task.net()
    for layer in net.modules():
        if isinstance(layer, Normalize) and layer.own:
            layer.fit(task.pool.x[rows.to(task.pool.x.device)].cpu())
    return net


def _current(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Streams and recordings of steps are those of torch's current device: of several GPUs it must be this one."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def _in_float32(layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(arg.float() if isinstance(arg, Tensor) and arg.dtype == torch.bfloat16 else arg for arg in args)


def _as_is(x: Tensor) -> Tensor:
    return x


def _merge(first: Tensor, a: Stack, b: Stack) -> Stack:
    """Model by model a where ``first`` (M,) is true, else b, in new tensors."""

    def pick(x: Tensor, y: Tensor) -> Tensor:
        return torch.where(first.view(-1, *(1,) * (x.ndim - 1)), x, y)

    return replace(
        a,
        params={k: pick(v, b.params[k]) for k, v in a.params.items()},
        buffers={k: pick(v, b.buffers[k]) for k, v in a.buffers.items()},
    )


def _put(stack: Stack, where: list[int], new: Stack) -> Stack:
    """The stack with some of its models exchanged, unless by infinite ones; histories remember every seed tried."""
    params, buffers = ({k: v.clone() for k, v in group.items()} for group in (stack.params, stack.buffers))
    history = list(stack.history)
    for j, m in enumerate(where):
        tried, more = history[m].seeds, new.history[j].seeds
        if new.history[j].diverged == NOT_FINITE != history[m].diverged:  # a model that learnt nothing is still a model
            history[m] = replace(history[m], seeds=(*tried[:-1], *more, tried[-1]))
            continue
        for group, fresh in ((params, new.params), (buffers, new.buffers)):
            for k in group:
                group[k][m] = fresh[k][j]
        history[m] = replace(new.history[j], seeds=tried + more)
    return replace(stack, params=params, buffers=buffers, history=tuple(history))


def _on(stack: Stack, device: torch.device) -> Stack:
    params, buffers = ({k: v.to(device) for k, v in group.items()} for group in (stack.params, stack.buffers))
    return replace(stack, net=stack.net.to(device), params=params, buffers=buffers)


def _to(data: Dataset | None, device: torch.device) -> Any:
    return None if data is None else replace(data, x=data.x.to(device), y=data.y.to(device))


def _of_models(targets: Tensor | None, models: list[int]) -> Tensor | None:
    return targets if targets is None or targets.ndim == 2 else targets[models]
