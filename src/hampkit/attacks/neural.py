"""The neural attack: a network is trained on the known examples to recognise answers to members."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hampkit import signals
from hampkit.attacks.base import Attack, Evidence, Known, Scores, first_view
from hampkit.errors import UserError
from hampkit.nets.attack import AttackNet
from hampkit.rng import derive, forked, torch_rng

MOST_ROWS = 8192  # that the network answers at once
Features = tuple[Tensor, Tensor, Tensor]  # logits (N, C), labels (N,), loss (N,)


@dataclass(frozen=True)
class Neural(Attack):
    """A network is trained on the known examples to distinguish members from non-members by logits, label and loss.

    It differs from the published code in three ways: members are the positive class (there the two rates are exchanged), the
    noise of a release is not drawn again in every epoch, and batches are shuffled.
    """

    name: ClassVar[str] = "neural"
    paper: ClassVar[str] = "https://arxiv.org/abs/1812.00910"
    reference: ClassVar[str] = "Nasr et al. 2019"
    needs: ClassVar[tuple[str, ...]] = ("known",)
    threshold: ClassVar[float | None] = 0.0

    epochs: int = 200  # passes over the larger group of known examples
    batch_size: int = 256  # rows, half of them members
    lr: float = 5e-4  # of Adam; a tenth of it in the second half, as published
    wide: bool = False  # the larger last part published for Location30
    small_init: bool = False  # weights from N(0, 0.01²), as published: it starts very slowly

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2 or not self.lr > 0:
            raise UserError(
                f"neural.epochs={self.epochs}, batch_size={self.batch_size}, lr={self.lr} must be at least 1, 2 and above 0"
            )

    def score(self, evidence: Evidence) -> Scores:
        """Logits of membership (N,), which rank examples whose probability is rounded to 1."""
        assert evidence.known is not None
        scale = _Scale.of(evidence.known)
        net = self._train(evidence.known, scale, evidence.seed)
        return _logits(net, scale.features(evidence.logits, evidence.y)).double().cpu().numpy()

    def _train(self, known: Known, scale: _Scale, seed: int) -> AttackNet:
        """Adam on the squared error. The weights with the best balanced accuracy on the known examples for choosing are kept."""
        with forked(derive(seed, "neural", "init")):
            net = AttackNet(known.logits.shape[-1], self.wide, self.small_init).to(known.logits.device)
        optimizer = torch.optim.Adam(net.parameters(), lr=self.lr)
        features, wanted = scale.features(known.logits, known.y), known.member.float()
        best, chosen = -1.0, copy.deepcopy(net.state_dict())
        for epoch in range(self.epochs):
            if epoch == (self.epochs + 1) // 2:
                optimizer.param_groups[0]["lr"] = self.lr / 10
            for rows in self._batches(known, derive(seed, "neural", epoch)):
                optimizer.zero_grad()
                ((net(*(f[rows] for f in features)) - wanted[rows]) ** 2).mean().backward()
                optimizer.step()
            accuracy = _balanced_accuracy(net, features, known.member, ~known.fit)
            if accuracy > best:
                best, chosen = accuracy, copy.deepcopy(net.state_dict())
        net.load_state_dict(chosen)
        return net

    def _batches(self, known: Known, seed: int) -> Iterator[Tensor]:
        """Rows of batches, half members and half non-members; the smaller group is repeated until the larger one is used up."""
        rng, half = torch_rng(seed), self.batch_size // 2
        groups = [(known.fit & (known.member == side)).nonzero().squeeze(-1) for side in (True, False)]
        groups = [rows[torch.randperm(len(rows), generator=rng).to(rows.device)] for rows in groups]
        longest = max(len(rows) for rows in groups)
        for start in range(0, longest, half):
            place = torch.arange(start, min(start + half, longest))
            yield torch.cat([rows[(place % len(rows)).to(rows.device)] for rows in groups])


@dataclass(frozen=True)
class _Scale:
    """Mean and standard deviation of logits and loss over the known examples for fitting.

    The published network gets raw logits. A release may put them on any scale, and a network that fails to learn for that reason
    would look like a model that leaks nothing.
    """

    logits: tuple[float, float]
    loss: tuple[float, float]

    @staticmethod
    def of(known: Known) -> _Scale:
        """Mean and deviation over the known examples for fitting."""
        z = first_view(known.logits)[known.fit]
        values = signals.loss(z, known.y[known.fit])
        return _Scale(*((float(v.mean()), float(v.std(correction=0)) or 1.0) for v in (z, values)))

    def features(self, logits: Tensor, y: Tensor) -> Features:
        """The inputs of the network for answers (N, V, C) and labels (N,): logits (N, C), labels (N,), loss (N,)."""
        z = first_view(logits)
        return _scaled(z, self.logits), y, _scaled(signals.loss(z, y), self.loss)


def _scaled(values: Tensor, by: tuple[float, float]) -> Tensor:
    mean, std = by
    return ((values - mean) / max(std, 1e-12)).clamp(-1e4, 1e4).float() if math.isfinite(std) else values.float()


@torch.no_grad()
def _logits(net: AttackNet, features: tuple[Tensor, ...]) -> Tensor:
    """The logits of membership (N,), of at most `MOST_ROWS` rows at once: the first layer is 1,024 wide."""
    parts = zip(*(f.split(MOST_ROWS) for f in features), strict=True)
    return torch.cat([net.logit(*part) for part in parts])


def _balanced_accuracy(net: AttackNet, features: Features, member: Tensor, rows: Tensor) -> float:
    """The mean of TPR and TNR on some rows (K,) bool: with many non-members, accuracy alone rewards predicting non-member."""
    right = (_logits(net, tuple(f[rows] for f in features)) >= 0) == member[rows]
    shares = [
        right[member[rows] == side].double().mean() for side in (True, False) if bool((member[rows] == side).any())
    ]
    return float(sum(shares)) / len(shares)
