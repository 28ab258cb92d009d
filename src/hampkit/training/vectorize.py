"""How a function of one model is applied to every model of a stack; who writes the function cannot tell how it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

Function = Callable[..., Any]  # its tensors, in nested tuples and dicts, have no model axis


class Vectorize(Protocol):
    def __call__(self, f: Function) -> Function:
        """The same function with the model axis in front of every tensor that goes in and comes out."""
        ...

    def gradient(self, f: Function) -> Function:
        """``f(params, …) → (value, aux)`` becomes ``(params, …) → (gradients, (value, aux))``, for every model."""
        ...


def vectorize_over(models: int) -> Vectorize:
    """Mapped together, or as it is where there is only one model."""
    return Mapped() if models > 1 else Alone()


class Mapped:
    """All models in one call: every operation runs once on the whole stack."""

    def __call__(self, f: Function) -> Function:
        return vmap(f, randomness="error")

    def gradient(self, f: Function) -> Function:
        return self(grad_and_value(f, has_aux=True))


class Alone:
    """One model, without the model axis. Its gradient is plain autograd: a step of torch.func costs a millisecond more."""

    def __call__(self, f: Function) -> Function:
        return lambda *args: _map(_wrap, f(*_map(_bare, args)))

    def gradient(self, f: Function) -> Function:
        def run(params: dict[str, Tensor], *args: Any) -> Any:
            leaves = {k: _bare(p).detach().requires_grad_() for k, p in params.items()}
            with torch.enable_grad():
                value, aux = f(leaves, *_map(_bare, args))
                slopes = torch.autograd.grad(
                    value, tuple(leaves.values()), allow_unused=True, materialize_grads=True
                )  # a parameter without a part in the answer has slope 0, as under torch.func
            return _map(lambda t: _wrap(t.detach()), (dict(zip(leaves, slopes, strict=True)), (value, aux)))

        return run


def _bare(value: Tensor) -> Tensor:
    return value.squeeze(0)


def _wrap(value: Tensor) -> Tensor:
    return value.unsqueeze(0)


def _map(f: Callable[[Tensor], Tensor], value: Any) -> Any:
    """f on every tensor of nested tuples and dicts."""
    if isinstance(value, Tensor):
        return f(value)
    if isinstance(value, dict):
        return {k: _map(f, v) for k, v in value.items()}
    if isinstance(value, tuple):
        items = [_map(f, v) for v in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return value
