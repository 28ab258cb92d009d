"""The distribution of the random inputs whose answers are released."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hampkit.errors import UserError, shortened
from hampkit.nn.inputs import Inputs, moved_to, only
from hampkit.types import Domain

Draw = Callable[[int, torch.Generator], Inputs]  # n, generator → inputs of n examples


class Noise:
    """A distribution of random inputs."""

    def __init__(self, source: str | Domain | Tensor | Draw) -> None:
        self.source = source
        ends = (
            (source.low, source.high) if isinstance(source, Domain) else (source,) if isinstance(source, Tensor) else ()
        )
        self._largest = max((float(end.abs().max()) for end in ends if end.is_floating_point()), default=0.0)

    def sample(self, n: int, rng: torch.Generator, like: Inputs) -> Inputs:
        """Random inputs of n examples, with the device and type of those of a query."""
        if callable(self.source):
            return moved_to(self.source(n, rng), like)
        first = only(like)
        return self._drawn(n, rng, first).to(first)

    def _drawn(self, n: int, rng: torch.Generator, like: Tensor) -> Tensor:
        source = self.source
        if isinstance(source, Domain):
            return source.sample(n, rng)
        if isinstance(source, Tensor):
            return source[torch.randint(len(source), (n,), generator=rng, device=rng.device).to(source.device)]
        u = torch.rand((n, *like.shape[1:]), generator=rng, device=rng.device)
        return (u < 0.5).float() if source == "bernoulli" else u

    def snap(self, x: Tensor) -> Tensor:
        """Inputs (B, *shape) moved to the nearest point of the domain: 0 or 1 for bernoulli noise, unchanged without a domain."""
        x = x.detach().cpu().double()
        if isinstance(self.source, Domain):
            return self.source.snap(x)
        return (x.round().clamp(0, 1) if self.source == "bernoulli" else x) + 0.0  # + 0.0: −0.0 is 0

    def check(self, x: Inputs) -> None:
        """Raises: `UserError` for inputs (B, *shape) of another shape than the domain's, and of a type too narrow for it."""
        if not isinstance(self.source, (Domain, Tensor)):
            return
        given = only(x)
        if isinstance(self.source, Domain) and given.shape[1:] != self.source.low.shape:
            raise UserError(
                f"inputs {tuple(given.shape)} must be {('B', *self.source.low.shape)}, as the domain of the noise is: give a"
                " batch of such inputs (x[None] for a single example x), or noise for inputs of another shape"
            )
        if given.is_floating_point() and self._largest > torch.finfo(given.dtype).max:
            raise UserError(
                f"inputs of type {given.dtype} hold numbers to {torch.finfo(given.dtype).max:g}, and the noise has numbers to"
                f" {self._largest:g}: scale the inputs and the noise, or use a wider type such as torch.bfloat16"
            )

    def bounds(self) -> tuple[Any, Any] | None:
        """The smallest and the largest input of the domain, if there is one."""
        if isinstance(self.source, Domain):
            return self.source.low, self.source.high
        return (0.0, 1.0) if isinstance(self.source, str) else None

    def outside(self, x: Inputs) -> str:
        """A warning if inputs lie outside the domain, or between its points; empty if they do not."""
        bounds = self.bounds()
        if bounds is None:
            return ""
        first = only(x)
        low, high = (torch.as_tensor(bound, device=first.device) for bound in bounds)
        count = int(((first < low) | (first > high)).reshape(len(first), -1).any(1).sum())
        if not count:
            return self._between(first)
        return (
            f"{count} of {len(first)} inputs {'lies' if count == 1 else 'lie'} outside the domain of the noise: answers to the"
            " noise differ from answers to such inputs, which reveals the inputs' kind; give noise='fit' with"
            " data= that covers such inputs, a Domain, or a function"
        )

    def _between(self, x: Tensor) -> str:
        """A warning if Bernoulli noise stands for inputs (B, *shape) that are not 0 or 1; empty for other noise."""
        if self.source != "bernoulli" or not (count := int((x != x.round()).reshape(len(x), -1).any(1).sum())):
            return ""
        return (
            f"{count} of {len(x)} inputs {'has' if count == 1 else 'have'} values between 0 and 1, and noise='bernoulli' draws"
            " 0 and 1 only: answers to the noise differ from answers to such inputs, which reveals the inputs' kind; give"
            " noise='uniform', or noise='fit' with data="
        )


def source_of(noise: str | Domain | Tensor | Draw, data: Tensor | None) -> str | Domain | Tensor | Draw:
    """The distribution of the noise.

    Raises: `UserError` for an unknown one, for inputs that are not finite, and for data without ``noise="fit"``.
    """
    if (data is not None) != (isinstance(noise, str) and noise == "fit"):
        raise UserError("noise='fit' and data= belong together: data is a tensor of inputs (K, *shape)")
    if data is not None:
        return _fitted(data)
    if isinstance(noise, Tensor):
        return _inputs_in("noise", noise)
    if isinstance(noise, Domain) and (wrong := wrong_bounds(noise.low, noise.high, noise.step)):
        raise UserError(f"noise is a Domain that cannot be drawn from: {wrong}")
    if (isinstance(noise, str) and noise in ("bernoulli", "uniform")) or isinstance(noise, Domain) or callable(noise):
        return noise
    raise UserError(
        f"noise={shortened(repr(noise), 60)} must be 'bernoulli', 'uniform', 'fit', a Domain, a tensor of inputs or a function of"
        " (n, generator)"
    )


def wrong_bounds(low: Any, high: Any, step: Any) -> str:
    """Why tensors (*shape) are not the bounds and the steps of a domain; empty if they are."""
    parts = (low, high, step)
    if not all(isinstance(part, Tensor) for part in parts) or not low.shape == high.shape == step.shape:
        return "low, high and step must be tensors of one shape"
    if not all(torch.isfinite(part).all() for part in parts):
        return "its bounds must be finite; give finite inputs as data=, or the bounds of inputs that the network takes"
    if (low > high).any() or (step < 0).any():
        return "low must be at most high, and step at least 0"
    return ""


def _inputs_in(name: str, given: Any) -> Tensor:
    """Inputs (K, *shape). Raises: `UserError` for no tensor or no inputs, and for values that are not finite."""
    if not isinstance(given, Tensor):
        raise UserError(
            f"{name} of type {type(given).__name__} must be a tensor of inputs (K, *shape): torch.as_tensor makes one"
        )
    if given.ndim == 0 or given.numel() == 0 or not torch.isfinite(given).all():
        raise UserError(f"{name} {tuple(given.shape)} must be finite inputs (K, *shape), at least one")
    return given


def _fitted(data: Tensor) -> Domain:
    """The domain between the extremes of inputs (K, *shape); features with whole numbers only have steps of 1.

    Raises: `UserError` for no inputs, and for values that are not finite.
    """
    rows = _inputs_in("data", data).detach().cpu()
    rows = rows if rows.dtype == torch.float64 else rows.float()
    whole = (rows == rows.round()).all(0)
    return Domain(rows.amin(0), rows.amax(0), whole.to(rows.dtype))
