"""A dry run of a user's own network before anything is trained: construction, forward passes and one training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hampkit.config.sections import TrainConfig
from hampkit.errors import UserError, one_line
from hampkit.rng import derive, forked
from hampkit.training.layout import MOST_ROWS, rows_at_once
from hampkit.training.objectives import MeanLoss, Objective
from hampkit.training.stacks import initial, normalises_batches
from hampkit.training.trainer import Trainer
from hampkit.training.vectorize import vectorize_over
from hampkit.types import Batch, Stack, Task

SAME = 1e-5  # repeated answers may differ by this share of the largest, where a device sums in no fixed order


def try_network(task: Task, trainer: Trainer, name: str) -> None:
    """Build the network as training does, query it twice, and take one step on every batch size of an epoch.

    It draws from its own generators and drops the network, so that training is not affected. name: of the network, as in
    ``net=name``.

    Raises: `UserError` for a network that cannot be built, fails, or returns anything but finite, repeatable logits (B, C).
    """
    with forked(derive(task.seeds[0], "trial")):
        stack = _built(task, trainer, name)
        _try_answers(stack, task, name)
        for rows in _batch_rows(task, stack, trainer.config):
            _try_step(stack, task, rows, name, trainer.config)


def one_step(stack: Stack, objective: Objective, task: Task, rows: Tensor) -> None:
    """Compute the gradients of one training step of a single model on rows (B,) of the pool; nothing is updated."""
    x = _inputs(task.pool.x[rows], stack)
    batch = Batch(x, task.pool.y[rows].to(x.device), x.new_empty(len(x), 0), x.new_ones(len(x)))
    rngs = [torch.Generator()]
    stack.net.train()
    state = objective.init(stack, task, rngs)
    objective.gradient(vectorize_over(1), stack, state, Batch(*(t.unsqueeze(0) for t in batch)), rngs)


def _built(task: Task, trainer: Trainer, name: str) -> Stack:
    fails = f"net={name} cannot be made"
    net = _guarded(fails, task.net)
    if any(isinstance(p, nn.UninitializedParameter) for p in net.parameters()):
        raise UserError(f"net={name} has lazy layers, whose shapes are not known yet; give them their number of inputs")
    _check_untrained(net, _guarded(fails, task.net), name)
    members = [task.rows(m) for m in range(len(task))]
    return _guarded(fails, lambda: initial(task, members, trainer.device))


def _check_untrained(net: nn.Module, other: nn.Module, name: str) -> None:
    """Raise `UserError` for a factory that makes two networks with the same random weights.

    Networks that begin with constants, such as a logistic regression with zeros, are the same each time and pass.
    """
    pairs = zip(net.parameters(), other.parameters(), strict=False)
    drawn = [torch.equal(a, b) for a, b in pairs if a.numel() > 1 and bool((a != a.flatten()[0]).any())]
    if net is other or (drawn and all(drawn)):
        raise UserError(
            f"net={name} has the same weights each time it is made: it is trained already, or sets a seed of its own. Members"
            " of such a network are those of another training; the factory must return a new network with random weights"
        )


def _try_answers(stack: Stack, task: Task, name: str) -> None:
    """Query two rows, then as many as one forward pass takes, twice each."""
    net, fails = stack.net.eval(), f"net={name} fails"
    with torch.no_grad():
        _try_answer(net, _inputs(task.pool.x[:2], stack), task.pool.num_classes, name)
        size = _guarded(fails, rows_at_once, net, task.pool.shape, stack.dtype)
        _try_answer(net, _inputs(task.pool.x[:size], stack), task.pool.num_classes, name)


def _try_answer(net: nn.Module, x: Tensor, num_classes: int, name: str) -> None:
    fails = f"net={name} fails on {_described(x)}"
    out, again = (_guarded(fails, net, x) for _ in range(2))
    for answer in (out, again):
        _check_logits(answer, len(x), num_classes, f"net={name} in evaluation mode")
    if len(out) > 1 and (out >= 0).all() and ((out.double().sum(1) - 1).abs() < 1e-3).all():
        raise UserError(
            f"net={name} returns probabilities (all at least 0, rows that sum to 1); return the logits: leave the last"
            " softmax out"
        )
    if not (out.isfinite().all() and again.isfinite().all()):
        raise UserError(
            f"net={name} returns NaN or infinite numbers before any training (features up to"
            f" {float(x.abs().max()):.3g}); check its forward, or scale the features with train.standardize=true"
        )
    if float((out - again).abs().max()) > SAME * max(1.0, float(out.abs().max())):
        raise UserError(
            f"net={name} gives different answers to the same inputs in evaluation mode; draw no random numbers there:"
            " use nn.Dropout, or F.dropout(x, training=self.training)"
        )


def _batch_rows(task: Task, stack: Stack, config: TrainConfig) -> Iterator[Tensor]:
    """Rows (B,) of the first and of the last batch of an epoch, at the sizes that the trainer uses."""
    members = task.rows(0)
    whole, size = len(members) * config.passes_per_epoch, config.batch_size
    pad = normalises_batches(stack.net)
    full = size if pad else min(size, whole)
    last = size if pad else whole % size
    # a very large batch is mostly padding: a few thousand rows find the same faults
    for count in dict.fromkeys((min(full, MOST_ROWS), min(last, MOST_ROWS))):
        if count:
            yield members[torch.arange(count) % len(members)]


def _try_step(stack: Stack, task: Task, rows: Tensor, name: str, config: TrainConfig) -> None:
    def loss(logits: Tensor, batch: Batch) -> Tensor:
        _check_logits(logits, len(rows), task.pool.num_classes, f"net={name} in training mode")
        return cross_entropy(logits, batch.y, reduction="none")

    remedy = "; take another train.batch_size: batch norm needs at least two rows" if len(rows) == 1 else ""
    _guarded(
        f"net={name} fails in training on {_described(task.pool.x[rows])} (train.batch_size={config.batch_size}{remedy})",
        lambda: one_step(stack, MeanLoss(loss), task, rows),
    )


def _check_logits(out: Any, n_rows: int, num_classes: int, subject: str) -> None:
    if not isinstance(out, Tensor) or out.shape != (n_rows, num_classes):
        got = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else f"a {type(out).__name__}"
        raise UserError(
            f"{subject} returns {got} for {n_rows} rows; it must return logits of shape ({n_rows}, {num_classes})"
        )
    if not out.is_floating_point():
        raise UserError(f"{subject} returns numbers of type {out.dtype}; it must return logits, floating-point numbers")


def _inputs(x: Tensor, stack: Stack) -> Tensor:
    """x (B, *shape) on the device and in the dtype of the network."""
    return x.to(stack.device, stack.dtype)


def _described(x: Tensor) -> str:
    return f"inputs of shape {tuple(x.shape[1:])}, {len(x)} at once"


def _guarded(what: str, call: Callable[..., Any], *args: Any) -> Any:
    """The result of a call into a user's code.

    Raises: `UserError` for whatever the code raises, `SystemExit` included.
    """
    try:
        return call(*args)
    except (UserError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{what}: {one_line(error, named=True)}") from error
