"""A user's own network, tried before anything is trained: made, asked, and taken through one training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hampkit.config.recipe import TrainConfig
from hampkit.errors import UserError
from hampkit.rng import derive, forked
from hampkit.training.layout import MOST_ROWS, rows_at_once
from hampkit.training.objectives import MeanLoss
from hampkit.training.trainer import Trainer, initial, normalises_batches
from hampkit.training.vectorize import vectorize_over
from hampkit.types import Batch, Stack, Task

SAME = 1e-5  # answers to one question may differ by this share of the largest, where a device adds up in any order


def try_network(task: Task, trainer: Trainer, name: str) -> None:
    """Make the network as training will, ask it twice, and take one step on batches of every size that will occur.

    Random numbers come from generators of its own, and the tried network is thrown away: training never notices.
    Errors: `UserError`.
    """
    with forked(derive(task.seeds[0], "trial")):
        stack = _made(task, trainer, name)
        _ask(stack, task, name)
        for rows in _batches(task, stack, trainer.config):
            _step(stack, task, rows, name, trainer.config)


def _made(task: Task, trainer: Trainer, name: str) -> Stack:
    net = _guarded(f"net={name} cannot be made", task.net)
    if any(isinstance(p, nn.UninitializedParameter) for p in net.parameters()):
        raise UserError(f"net={name} has lazy layers, whose shapes are not known yet; give them their number of inputs")
    members = [row.nonzero().squeeze(-1) for row in task.members]
    return _guarded(f"net={name} cannot be made", lambda: initial(task, members, trainer.device))


def _ask(stack: Stack, task: Task, name: str) -> None:
    net, classes = stack.net.eval(), task.pool.num_classes
    with torch.no_grad():
        for size in (2, 0):  # few rows, then as many as are answered at once
            size = size or _guarded(f"net={name} fails", rows_at_once, net, task.pool.shape, stack.dtype)
            x = _rows(task.pool.x[:size], stack)
            fails = f"net={name} fails on {_inputs(x)}"
            out, again = (_guarded(fails, net, x) for _ in range(2))
            for answer in (out, again):
                _check(answer, len(x), classes, f"net={name} in evaluation mode")
            if not (out.isfinite().all() and again.isfinite().all()):
                raise UserError(
                    f"net={name} answers with NaN or infinite numbers before any training (features up to"
                    f" {float(x.abs().max()):.3g}); check its forward, or scale the features with train.standardize=true"
                )
            if float((out - again).abs().max()) > SAME * max(1.0, float(out.abs().max())):
                raise UserError(
                    f"net={name} gives other answers when asked again in evaluation mode; draw no random numbers there:"
                    " use nn.Dropout, or F.dropout(x, training=self.training)"
                )


def _batches(task: Task, stack: Stack, config: TrainConfig) -> Iterator[Tensor]:
    """Rows of the first and of the last batch of an epoch, as the trainer will cut them."""
    members = task.members[0].nonzero().squeeze(-1)
    whole, size = len(members) * config.passes_per_epoch, config.batch_size
    pad = normalises_batches(stack.net)
    # padding repeats rows; a few thousand of them show as much as the whole of a very large batch
    full = size if pad else min(size, whole)
    last = size if pad else whole % size
    for count in dict.fromkeys((min(full, MOST_ROWS), min(last, MOST_ROWS))):
        if count:
            yield members[torch.arange(count) % len(members)]


def _step(stack: Stack, task: Task, rows: Tensor, name: str, config: TrainConfig) -> None:
    """Forward and backward, exactly as an objective does it."""
    x, classes = _rows(task.pool.x[rows], stack), task.pool.num_classes
    y = task.pool.y[rows].to(x.device)
    batch = Batch(x, y, x.new_empty(len(x), 0), x.new_ones(len(x)))

    def loss(logits: Tensor, batch: Batch) -> Tensor:
        _check(logits, len(x), classes, f"net={name} in training mode")
        return cross_entropy(logits, batch.y, reduction="none")

    stack.net.train()
    one = Batch(*(t.unsqueeze(0) for t in batch))
    remedy = "; take another train.batch_size: batch norm needs at least two rows" if len(rows) == 1 else ""
    _guarded(
        f"net={name} fails in training on {_inputs(x)} (train.batch_size={config.batch_size}{remedy})",
        lambda: MeanLoss(loss).gradient(vectorize_over(1), stack, None, one, []),
    )


def _check(out: Any, rows: int, classes: int, who: str) -> None:
    if not isinstance(out, Tensor) or out.shape != (rows, classes):
        got = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else f"a {type(out).__name__}"
        raise UserError(f"{who} answers {rows} rows with {got}; it must return logits of shape ({rows}, {classes})")
    if not out.is_floating_point():
        raise UserError(
            f"{who} answers with numbers of type {out.dtype}; it must return logits, floating-point numbers"
        )


def _rows(x: Tensor, stack: Stack) -> Tensor:
    return x.to(next(iter(stack.params.values())).device, stack.dtype)


def _inputs(x: Tensor) -> str:
    return f"inputs of shape {tuple(x.shape[1:])}, {len(x)} at once"


def _guarded(what: str, call: Callable[..., Any], *args: Any) -> Any:
    """Whatever a user's code raises is about that code, an exit too."""
    try:
        return call(*args)
    except (UserError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        _refuse(what, error)


def _refuse(what: str, error: BaseException) -> NoReturn:
    lines = str(error).strip().splitlines()
    raise UserError(f"{what}: {type(error).__name__}: {lines[0] if lines else 'no message'}") from error
