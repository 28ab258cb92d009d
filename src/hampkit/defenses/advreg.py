"""AdvReg (Nasr et al., CCS 2018): the classifier is trained against a membership inference network, in turns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from hampkit.config.sections import TrainConfig
from hampkit.defenses.base import Defense, Models
from hampkit.errors import UserError
from hampkit.nets.attack import InferenceNet
from hampkit.rng import derive, forked, torch_rng
from hampkit.training import Gradient, Objective, Trainer
from hampkit.training.layout import rows_at_once
from hampkit.training.objectives import Params, forward, gradient_of, mean_of
from hampkit.training.optim import Optimizer
from hampkit.training.vectorize import Vectorize, vectorize_over
from hampkit.types import Batch, Dataset, Stack, Task


@dataclass(frozen=True)
class AdvReg(Defense):
    """The classifier minimises cross-entropy + strength · (mean g(answer, label) − 1/2). The inference network g is trained to
    give members 1 and reference rows 0, with the squared error. Rounds alternate: ``attack_steps`` batches for g, half members
    and half reference rows, then ``round_batches`` batches for the classifier. In the first epoch only the classifier is
    trained; then g makes ``warmup_passes`` passes over the members in batches of ``warmup_batch`` rows.

    Differs from the published code, unless ``published_order`` is set: there g reads the members by an index that never
    reaches their last part, and its first passes leave out the last full batch. Reference rows are used by nothing else; in the
    published Location30 and CIFAR evaluations they were the non-members of the attacks. Shadow models have the target's
    reference rows and strength; in the published code they had the examples that they were not trained on, and on Texas100
    another strength.
    """

    name: ClassVar[str] = "advreg"
    paper: ClassVar[str] = "https://arxiv.org/abs/1807.05852"
    needs: ClassVar[tuple[str, ...]] = ("reference",)
    quick: ClassVar[dict[str, Any]] = {"attack_steps": 1, "warmup_passes": 1}

    strength: float = 3.0  # weight of the inference network's gain; lambda in the paper
    attack_steps: int = 52  # batches of the inference network per round
    round_batches: int = 2  # batches of the classifier per round
    attack_lr: float = 1e-4  # learning rate of the inference network's Adam
    warmup_passes: int = 5  # of the inference network over all members, after the first epoch
    warmup_batch: int = 0  # rows of a batch in these passes, half of them reference rows; 0: train.batch_size
    published_order: bool = False  # read the members in the published order, which never reaches the last of them

    def __post_init__(self) -> None:
        if self.strength < 0 or not math.isfinite(self.strength):
            raise UserError(f"defense.strength={self.strength} of advreg must be a number of at least 0")
        for name, low in (("attack_steps", 1), ("round_batches", 1), ("warmup_passes", 0)):
            if getattr(self, name) < low:
                raise UserError(f"defense.{name}={getattr(self, name)} of advreg must be at least {low}")
        if self.warmup_batch < 0 or self.warmup_batch % 2:
            raise UserError(
                f"defense.warmup_batch={self.warmup_batch} of advreg must be an even number of rows, half of them reference"
                " rows, or 0 to take train.batch_size"
            )
        if not self.attack_lr > 0:
            raise UserError(f"defense.attack_lr={self.attack_lr} must be above 0")

    def check(self, task: Task, trainer: Trainer) -> None:
        super().check(task, trainer)
        if min(trainer.config.stop_after or trainer.config.epochs, trainer.config.epochs) < 2:
            raise UserError(
                "advreg with one epoch is a model without a defense: its first epoch is plain training; train.epochs and"
                " train.stop_after must be at least 2"
            )
        smallest = min(int(task.members.sum(-1).min()), len(task.reference or ()))
        sizes = {"train.batch_size": trainer.config.batch_size}
        if self.warmup_batch:
            sizes["defense.warmup_batch"] = self.warmup_batch
        for name, rows in sizes.items():
            if rows // 2 not in range(1, smallest + 1):
                raise UserError(
                    f"{name}={rows} of advreg must be between 2 and {2 * smallest}: half a batch must fit into the members and"
                    " into the reference rows"
                )

    def fit(self, task: Task, trainer: Trainer) -> Models:
        assert task.reference is not None
        reference = trainer.on_device(task.reference)
        rates = f"train.lr={trainer.config.lr} or defense.attack_lr={self.attack_lr}"
        trainer = trainer.with_config(trainer.config, rates)
        stack = trainer.fit(task, _MinMax(self, trainer.config, reference))
        return Models(stack, facts=tuple({"reference_rows": len(reference)} for _ in task.seeds))


@dataclass
class _State:
    """The inference networks of a stack, and the position of their training."""

    net: InferenceNet
    params: Params  # each (M, *shape)
    optimizer: Optimizer
    task: Task
    rows: list[Tensor]  # per model, its members (n,)
    epoch: int = 0
    step: int = 0  # of the classifier, in this epoch


class _MinMax(Objective):
    settles = 1  # the first epoch is plain training: its weights would be those of an undefended model

    def __init__(self, defense: AdvReg, config: TrainConfig, reference: Dataset) -> None:
        self.d, self.config, self.reference = defense, config, reference
        self.half = config.batch_size // 2
        self.warmup_half = (defense.warmup_batch or config.batch_size) // 2

    def init(self, stack: Stack, task: Task, rngs: list[torch.Generator]) -> _State:
        nets = []
        for seed in task.seeds:
            with forked(derive(seed, "inference network")):
                nets.append(InferenceNet(task.pool.num_classes))
        params = {
            k: torch.stack([dict(n.named_parameters())[k].detach() for n in nets]).to(stack.device)
            for k, _ in nets[0].named_parameters()
        }
        adam = Optimizer(TrainConfig(optimizer="adam", lr=self.d.attack_lr))
        return _State(nets[0], params, adam, task, [task.rows(m) for m in range(len(task))])

    def begin(self, stack: Stack, state: _State, epoch: int, rngs: list[torch.Generator]) -> _State:
        state.epoch, state.step = epoch, 0
        if epoch == 1:
            for _ in range(self.d.warmup_passes):
                self._attack(stack, state, [self._pass(len(rows)) for rows in state.rows], self.warmup_half, rngs)
            stack.net.train()
        return state

    def gradient(
        self, vectorize: Vectorize, stack: Stack, state: _State, batch: Batch, rngs: list[torch.Generator]
    ) -> Gradient:
        if state.epoch and state.step % self.d.round_batches == 0:
            k = state.step // self.d.round_batches
            self._attack(stack, state, [self._round(len(rows), k, state.step) for rows in state.rows], self.half, rngs)
            stack.net.train()
        strength = self.d.strength if state.epoch else 0.0
        state.step += 1

        def loss(params: Params, buffers: Params, attacker: Params, batch: Batch) -> tuple[Tensor, Params]:
            logits, buffers = forward(stack, params, buffers, batch.x)
            rows = cross_entropy(logits, batch.y, reduction="none")
            if strength:
                rows = rows + strength * (functional_call(state.net, attacker, (logits, batch.y)).sigmoid() - 0.5)
            return mean_of(rows, batch), buffers

        return gradient_of(loss, vectorize, stack, state, state.params, batch)

    def _pass(self, n_members: int) -> list[int]:
        """The half batches of one warm-up pass, as numbers from 0."""
        half = self.warmup_half
        return list(range(max(n_members // half - 1, 1) if self.d.published_order else -(-n_members // half)))

    def _round(self, n_members: int, k: int, step: int) -> list[int]:
        """The half batches of round k, as numbers from 0; none for a model that has finished the epoch at this step."""
        if step >= -(-n_members * self.config.passes_per_epoch // self.config.batch_size):
            return []
        if not self.d.published_order:
            count = -(-n_members // self.half)
            return [(k * self.d.attack_steps + j) % count for j in range(self.d.attack_steps)]
        # the start is a number of full batches and is used as one of half batches (protocol Q23)
        start = (k * self.d.attack_steps) % max(n_members // self.config.batch_size, 1)
        most = max(n_members // self.half - 1, 1)
        return [start + j for j in range(self.d.attack_steps) if start + j < most]

    def _attack(
        self, stack: Stack, state: _State, halves: list[list[int]], size: int, rngs: list[torch.Generator]
    ) -> None:
        """Train the inference networks on half batches of ``size`` members each and as many reference rows.

        halves: per model, the numbers of its half batches. The classifiers are in evaluation mode and are not trained.
        """
        steps = max(map(len, halves))
        if not steps:
            return
        plans = [self._rows(state.rows[m], numbers, steps, size, rngs[m]) for m, numbers in enumerate(halves)]
        members, others, weight = (
            torch.stack([p[i] for p in plans]).to(stack.device) for i in range(3)
        )  # (M, S, size), …
        logits = [self._answers(stack, *rows) for rows in ((state.task.pool, members), (self.reference, others))]
        z = torch.cat(logits, 2)
        y = torch.cat([state.task.pool.y[members], self.reference.y[others]], 2)
        for s in range(steps):
            # on the CPU: reading it from a GPU would wait for the step under way
            idle = torch.tensor([s >= len(numbers) for numbers in halves])
            self._step(state, z[:, s], y[:, s], weight[:, s], idle if idle.any() else None)

    def _rows(
        self, members: Tensor, numbers: list[int], steps: int, size: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Members (S, size) and reference rows (S, size) of every step, and weights (S, 2 · size), 0 for padding."""
        n, used = len(members), len(numbers)
        place = torch.tensor(numbers, dtype=torch.int64).view(-1, 1) * size + torch.arange(size)
        weight = torch.zeros(steps, 2 * size)
        weight[:used] = torch.cat([(place < n).float()] * 2, 1)
        inside, outside = torch.zeros(steps, size, dtype=torch.int64), torch.zeros(steps, size, dtype=torch.int64)
        inside[:] = members[0]
        inside[:used] = members[place % n]
        if numbers:
            outside[:used] = self._reference_rows(used * size, rng).view(-1, size)
        return inside, outside, weight

    def _reference_rows(self, count: int, rng: torch.Generator) -> Tensor:
        """Reference rows (count,) in random order, each as often as the others or once more."""
        draws = torch_rng(int(torch.randint(2**62, (), generator=rng)))
        orders = -(-count // len(self.reference))
        return torch.cat([torch.randperm(len(self.reference), generator=draws) for _ in range(orders)])[:count]

    @torch.no_grad()
    def _answers(self, stack: Stack, data: Dataset, rows: Tensor) -> Tensor:
        """Logits (M, S, size, C) of every model for its rows (M, S, size), in evaluation mode."""
        stack.net.eval()

        def answer(params: Params, buffers: Params, x: Tensor) -> Tensor:
            return functional_call(stack.net, (params, buffers), (x,))

        f, size = vectorize_over(len(stack))(answer), rows_at_once(stack.net, data.shape, stack.dtype)
        parts = [f(stack.params, stack.buffers, data.x[p].to(stack.dtype)) for p in rows.flatten(1).split(size, 1)]
        return torch.cat(parts, 1).view(*rows.shape, -1)

    def _step(self, state: _State, logits: Tensor, y: Tensor, weight: Tensor, idle: Tensor | None) -> None:
        """One step of the inference networks: logits (M, 2 · size, C), y and weight (M, 2 · size), idle (M,) bool."""
        half = weight.shape[1] // 2
        target = torch.cat([torch.ones(half), torch.zeros(half)]).to(logits)

        def loss(params: Params, logits: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
            rows = (functional_call(state.net, params, (logits, y)).sigmoid() - target).square()
            return (rows * weight).sum() / weight.sum().clamp_min(1), rows

        grads, _ = vectorize_over(len(state.rows)).gradient(loss)(state.params, logits, y, weight)
        state.optimizer.step(state.params, grads, self.d.attack_lr, idle)
