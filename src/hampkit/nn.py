"""HAMP for a training loop of one's own: a loss, and a wrapper that releases only the ranking of the classes.

loss_fn = hampkit.nn.HampLoss(num_classes=10, gamma=0.5, alpha=0.003)
...                                             # in any training loop: loss_fn(model(x), y).backward()
released = hampkit.nn.HampModel(model, noise="uniform")
released(x)                                     # the same predicted labels, the confidences of random inputs
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hampkit.defenses.hamp import SwapConfidences, hamp_loss, soft_labels
from hampkit.errors import UserError
from hampkit.types import Batch, Domain

Draw = Callable[[int, torch.Generator], Tensor]  # n, generator → inputs (n, *shape)


class HampLoss(nn.Module):
    """HAMP's training loss, averaged over the batch as published (https://arxiv.org/abs/2307.01610).

    L = 1/B Σ_b [ KL(t_b ‖ p_b) / C − alpha · H(p_b) ] in nats, with p = softmax(logits) and the soft label t of entropy
    gamma · ln C: logits (B, C), integers y (B,) → scalar. ``kl="batchmean"``, the default of recipes for one's own data, does not
    divide by C: with C times the alpha, the loss and its gradients are C times as large. ``grid=0.01`` takes the published search
    for t in place of the exact solution.

    Raises: `UserError` for options out of range, `ValueError` for tensors of other shapes.
    """

    table: Tensor

    def __init__(
        self,
        num_classes: int,
        gamma: float,
        alpha: float,
        kl: Literal["mean", "batchmean"] = "mean",
        grid: float | None = None,
    ) -> None:
        super().__init__()
        if kl not in ("mean", "batchmean"):
            raise UserError(f"kl={kl!r} must be 'mean' or 'batchmean'")
        self.register_buffer(
            "table", soft_labels(torch.arange(num_classes), num_classes, gamma, grid), persistent=False
        )
        self.rows = hamp_loss(alpha, kl)

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        """The loss, a scalar in nats, for logits (B, C) and labels y (B,).

        Raises: `ValueError` for other shapes.
        """
        if logits.ndim != 2 or logits.shape[1] != len(self.table) or y.shape != logits.shape[:1]:
            raise ValueError(
                f"logits {tuple(logits.shape)} and labels {tuple(y.shape)} must be (B, {len(self.table)}) and (B,)"
            )
        target = self.table.to(logits)[y]
        return self.rows(logits, Batch(logits, y, target, torch.ones_like(y, dtype=logits.dtype))).mean()


class HampModel(nn.Module):
    """A trained network with HAMP's output modification: (B, *shape) → modified logits (B, C), with the same predicted labels.

    The network runs in evaluation mode, because batch statistics of the queries would change its labels, and without gradients.
    Its mode is restored afterwards.

    noise: the distribution of the random inputs, as the network takes them: ``"bernoulli"`` (0 or 1 with probability 1/2, as
    published for binary tables), ``"uniform"`` (in [0, 1)), a `hampkit.types.Domain`, a tensor of inputs (K, *shape) to draw
    from, or a function of (n, generator). For standardised or mixed features give a function or a tensor that covers their
    ranges, but no real examples: their answers would be released.

    bank: prepare answers to this many random inputs at the first call and draw from them, which saves the second forward pass.
    keyed: derive the random input from the query and ``secret``, so that repeated queries have one answer. secret, seed: drawn if
    not given.

    Raises: `UserError` for options out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        noise: str | Domain | Tensor | Draw = "bernoulli",
        *,
        bank: int = 0,
        keyed: bool = False,
        secret: bytes | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if isinstance(noise, str) and noise not in ("bernoulli", "uniform"):
            raise UserError(
                f"noise={noise!r} must be 'bernoulli', 'uniform', a Domain, a tensor of inputs or a function of (n, generator)"
            )
        if bank < 0:
            raise UserError(f"bank={bank} must be 0 or the number of answers to prepare")
        self.model = model
        self._noise, self._bank_size, self._keyed = noise, bank, keyed
        self._secret = torch.tensor(list(secret or secrets.token_bytes(32)), dtype=torch.uint8)
        self._rng = torch.Generator().manual_seed(secrets.randbits(63) if seed is None else seed)
        self._bank: Tensor | None = None

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """The modified logits (B, C) for inputs x (B, *shape)."""
        modes = {module: module.training for module in self.model.modules()}
        self.model.eval()
        try:
            return self._release(x)(lambda rows: self.model(rows.to(x)), x, self._rng)
        finally:
            for module, mode in modes.items():
                module.training = mode

    def _release(self, x: Tensor) -> SwapConfidences:
        source: Any = _Drawn(self._noise, tuple(x.shape[1:]))
        if self._bank_size and self._bank is None:
            self._bank = self.model(source.sample(self._bank_size, self._rng).to(x))
        return SwapConfidences(source, "keyed" if self._keyed else "fresh", self._secret, self._bank)


class _Drawn:
    """The noise of a `HampModel` with the methods `snap` and `sample` of a domain."""

    def __init__(self, noise: str | Domain | Tensor | Draw, shape: tuple[int, ...]) -> None:
        self.noise, self.shape = noise, shape

    def snap(self, x: Tensor) -> Tensor:
        """Inputs (B, *shape) moved to the nearest point of the domain: 0 or 1 for bernoulli noise, unchanged without a domain."""
        if isinstance(self.noise, Domain):
            return self.noise.snap(x)
        return (x.round().clamp(0, 1) if isinstance(self.noise, str) and self.noise == "bernoulli" else x) + 0.0

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Random inputs (n, *shape)."""
        if isinstance(self.noise, Domain):
            return self.noise.sample(n, rng)
        if isinstance(self.noise, Tensor):
            return self.noise[torch.randint(len(self.noise), (n,), generator=rng).to(self.noise.device)]
        if callable(self.noise):
            return self.noise(n, rng)
        u = torch.rand((n, *self.shape), generator=rng)
        return (u < 0.5).float() if self.noise == "bernoulli" else u
