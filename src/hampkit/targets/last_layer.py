"""The last linear layer of a network: its inputs, and the Laplace posterior of its weights.

Axes: N examples, n training rows, D features (with the one of the bias), C classes.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hampkit.errors import UserError

NOT_LINEAR = "the network does not end in a linear layer that is used once"


@dataclass(frozen=True)
class LastLayer:
    """The linear layer at the end of a network, whose logits are ``factor`` times what the layer returns."""

    net: nn.Module
    layer: nn.Linear
    factor: float  # 1/8 for a network that divides the outputs of its last layer by 8

    @staticmethod
    def of(net: nn.Module, x: Tensor) -> LastLayer:
        """The last layer of a network in evaluation mode; x (N, *shape): a few inputs of the network's type and device.

        Raises: `UserError` for a network that does not end in a linear layer.
        """
        called: list[nn.Module] = []
        with torch.no_grad(), contextlib.ExitStack() as hooks:
            for layer in net.modules():
                if isinstance(layer, nn.Linear):
                    hooks.enter_context(layer.register_forward_pre_hook(lambda module, _: called.append(module)))
            out = net(x)
        if not called or called.count(called[-1]) > 1:
            raise UserError(NOT_LINEAR)
        layer = called[-1]
        assert isinstance(layer, nn.Linear)
        return LastLayer(net, layer, _factor(net, layer, x, out))

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """The inputs of the layer times ``factor``, with a 1 for the bias, (N, D) float64 on the CPU."""
        kept: list[Tensor] = []
        with self.layer.register_forward_pre_hook(lambda _, args: kept.append(args[0])):
            self.net(x)
        (inputs,) = kept
        inputs = inputs.double().cpu()
        if self.layer.bias is not None:
            inputs = torch.cat([inputs, torch.ones(len(inputs), 1, dtype=torch.float64)], 1)
        return self.factor * inputs

    @torch.no_grad()
    def logits(self, features: Tensor) -> Tensor:
        """The network's logits (N, C) float64 from the features (N, D)."""
        bias = [] if self.layer.bias is None else [self.layer.bias.unsqueeze(1)]
        weights = torch.cat([self.layer.weight, *bias], 1).double().cpu()
        return features @ weights.T


@dataclass(frozen=True)
class Posterior:
    """The Laplace posterior of the weights W (C, D) of a last layer, by its curvature in eigenvectors.

    The Gauss-Newton matrix of the cross-entropy, summed over n training rows, is taken as n · A ⊗ G, with A the mean of φφᵀ
    over features φ and G the mean of diag(p) − ppᵀ over probabilities p. Source: Ritter et al. 2018, "A scalable Laplace
    approximation for neural networks"; Daxberger et al. 2021, arXiv 2106.14806, for the last layer alone.
    """

    rows: int  # n
    feature_curvature: Tensor  # (D,) eigenvalues of A
    feature_directions: Tensor  # (D, D) eigenvectors of A, as columns
    class_curvature: Tensor  # (C,) eigenvalues of G
    class_directions: Tensor  # (C, C) eigenvectors of G, as columns

    @staticmethod
    def of(features: Tensor, logits: Tensor) -> Posterior:
        """The posterior from the features (n, D) float64 and logits (n, C) float64 of the training rows."""
        n, p = len(features), logits.softmax(-1)
        a, u = torch.linalg.eigh(features.T @ features / n)
        g, v = torch.linalg.eigh(p.mean(0).diag() - p.T @ p / n)
        v = (
            v * v.gather(0, v.abs().argmax(0, keepdim=True)).sign()
        )  # the sign of an eigenvector is arbitrary, samples use it
        return Posterior(n, a.clamp_min(0), u, g.clamp_min(0), v)  # rounding may leave values of −1e-17

    def squares(self, features: Tensor) -> Tensor:
        """The squared coordinates of features (N, D) in the eigenvectors of A: (N, D)."""
        return (features @ self.feature_directions) ** 2


@torch.no_grad()
def _factor(net: nn.Module, layer: nn.Linear, x: Tensor, out: Tensor) -> float:
    """The factor between the outputs of a layer and the network's: random outputs are put in the layer's place.

    Raises: `UserError` if there is none.
    """
    drawn = torch.randn(out.shape, generator=torch.Generator().manual_seed(0)).to(out.device, out.dtype)
    fits: list[bool] = []

    def put(_: nn.Module, args: tuple[Tensor, ...], own: Tensor) -> Tensor | None:
        fits.append(own.shape == out.shape)
        return drawn if fits[-1] else None

    with layer.register_forward_hook(put):
        found = net(x)
    factor = float((found * drawn).sum() / (drawn * drawn).sum())
    if not all(fits) or not factor or not torch.allclose(found, factor * drawn, rtol=1e-4, atol=1e-5 * abs(factor)):
        raise UserError(NOT_LINEAR)
    return 1.0 if abs(factor - 1) < 1e-6 else factor
