"""The published way to train one HAMP model on a table, as the yardstick: written from the description of its evaluation.

Batches are consecutive slices through an autograd loop; after every epoch accuracy, top-5 accuracy and loss on training,
validation and test rows are taken in batches of 16 with autograd on, and a checkpoint is written, copied where it is the
best so far.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from hampkit.config.recipe import TrainConfig
from hampkit.training.optim import learning_rate

ACCURACY_ROWS = 16


def train(
    net: nn.Module,
    parts: dict[str, tuple[Tensor, Tensor]],
    targets: Tensor,
    config: TrainConfig,
    alpha: float,
    folder: Path,
    epochs: int,
) -> None:
    """parts: train, val and test, each float inputs and labels; targets: the soft labels of the training rows."""
    warnings.filterwarnings("ignore", "reduction: 'mean' divides", UserWarning)  # it is what was published
    x, _ = parts["train"]
    best = 0.0
    for epoch in range(epochs):
        rate = learning_rate(config, epoch)
        optimizer = torch.optim.SGD(
            net.parameters(), rate, momentum=config.momentum, weight_decay=config.weight_decay
        )  # made anew in every epoch, as published
        net.train()
        for start in range(0, len(x), config.batch_size):
            rows = slice(start, start + config.batch_size)
            logits = net(x[rows])
            entropy = Categorical(probs=softmax(logits, 1)).entropy()
            loss = kl_div(log_softmax(logits, 1), targets[rows], reduction="mean") - alpha * entropy.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        accuracy = {name: _accuracy(net, *part) for name, part in parts.items()}
        state = {
            "epoch": epoch,
            "state_dict": net.state_dict(),
            "accuracy": accuracy,
            "optimizer": optimizer.state_dict(),
        }
        torch.save(state, folder / f"epoch{epoch}.pth.tar")
        if accuracy["val"] > best:
            best = accuracy["val"]
            shutil.copyfile(folder / f"epoch{epoch}.pth.tar", folder / "best.pth.tar")


def _accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    net.eval()
    right = losses = fifth = 0.0
    for start in range(0, len(x), ACCURACY_ROWS):
        rows = slice(start, start + ACCURACY_ROWS)
        logits = net(x[rows])
        hits = logits.topk(5, 1).indices == y[rows, None]
        losses += float(cross_entropy(logits, y[rows]).detach()) * len(logits)
        right, fifth = right + float(hits[:, :1].sum()), fifth + float(hits.sum())
    return right / len(x)
