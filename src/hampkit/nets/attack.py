"""Networks that classify members and non-members: those of the neural attack, AdvReg and MemGuard."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn


class AttackNet(nn.Module):
    """The neural attack's network: logits, one-hot label and loss in separate branches, then joint layers.

    logits (B, C), y (B,), loss (B,) → probability of membership (B,). wide: the larger joint layers that were published for
    Location30. small_init: weights from N(0, 0.01²) and biases 0, as published; training starts very slowly.
    """

    def __init__(self, num_classes: int, wide: bool = False, small_init: bool = False) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.logits = _layers((num_classes, 1024, 512, 64))
        self.label = _layers((num_classes, 128, 64))
        self.loss = _layers((1, num_classes, 64))
        self.combine = _layers((192, *((512,) if wide else ()), 256, 128, 64, 1), last_relu=False)
        if small_init:
            for p in self.parameters():
                nn.init.normal_(p, 0.0, 0.01) if p.ndim > 1 else nn.init.zeros_(p)

    def forward(self, logits: Tensor, y: Tensor, loss: Tensor) -> Tensor:
        """The probability of membership (B,) for logits (B, C), y (B,) and loss (B,)."""
        return torch.sigmoid(self.logit(logits, y, loss))

    def logit(self, logits: Tensor, y: Tensor, loss: Tensor) -> Tensor:
        """The logit ln p − ln(1 − p) of membership (B,), which ranks examples whose probability p is rounded to 1."""
        hot = nn.functional.one_hot(y, self.num_classes).to(logits.dtype)
        parts = (self.logits(logits), self.label(hot), self.loss(loss.unsqueeze(-1)))
        return self.combine(torch.cat(parts, -1)).squeeze(-1)


class InferenceNet(nn.Module):
    """AdvReg's inference network: logits and one-hot label in separate branches, then joint layers.

    logits (B, C), y (B,) → logit of membership (B,). Initial weights from N(0, 0.01²) and biases 0, as published.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.logits = _layers((num_classes, 1024, 512, 64))
        self.label = _layers((num_classes, 128, 64))
        self.combine = _layers((128, 512, 256, 128, 64, 1), last_relu=False)
        for p in self.parameters():
            nn.init.normal_(p, 0.0, 0.01) if p.ndim > 1 else nn.init.zeros_(p)

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        """The logit of membership (B,) for logits (B, C) and y (B,)."""
        hot = (y.unsqueeze(-1) == torch.arange(self.num_classes, device=y.device)).to(logits.dtype)
        return self.combine(torch.cat((self.logits(logits), self.label(hot)), -1)).squeeze(-1)


class SortedNet(nn.Module):
    """MemGuard's surrogate: probabilities in ascending order (B, C) → logit of membership (B, 1)."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layers = _layers((num_classes, 256, 128, 64, 1), last_relu=False)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, p: Tensor) -> Tensor:
        """The logit of membership (B, 1) for ascending probabilities p (B, C)."""
        return self.layers(p)


def _layers(widths: tuple[int, ...], last_relu: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*(layers if last_relu else layers[:-1]))
