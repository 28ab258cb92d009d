"""A function of one model, applied to every model of a stack. The function is the same for one model and for many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

Function = Callable[..., Any]  # its tensors, in nested tuples and dicts, have no model axis


class Vectorize(Protocol):
    """Adds the model axis M in front of the tensors of a function of one model."""

    def __call__(self, f: Function) -> Function:
        """The function with every tensor argument and result (…) as (M, …)."""
        ...

    def gradient(self, f: Function) -> Function:
        """``f(params, …) → (value, aux)`` as ``(params, …) → (gradients, (value, aux))``, every tensor as (M, …)."""
        ...


def vectorize_over(n_models: int) -> Vectorize:
    """`Mapped` for several models, `Alone` for one."""
    return Mapped() if n_models > 1 else Alone()


class Mapped:
    """All models in one call of `torch.func.vmap`: every operation runs once on the whole stack."""

    def __call__(self, f: Function) -> Function:
        return vmap(f, randomness="error")

    def gradient(self, f: Function) -> Function:
        return self(grad_and_value(f, has_aux=True))


class Alone:
    """One model: the function runs without the model axis, and gradients are plain autograd, which is faster than torch.func."""

    def __call__(self, f: Function) -> Function:
        return lambda *args: _map(_with_axis, f(*_map(_without_axis, args)))

    def gradient(self, f: Function) -> Function:
        def run(params: dict[str, Tensor], *args: Any) -> Any:
            leaves = {k: _without_axis(p).detach().requires_grad_() for k, p in params.items()}
            with torch.enable_grad():
                value, aux = f(leaves, *_map(_without_axis, args))
                grads = torch.autograd.grad(
                    value, tuple(leaves.values()), allow_unused=True, materialize_grads=True
                )  # a parameter that the value does not depend on has gradient 0, as under torch.func
            return _map(lambda t: _with_axis(t.detach()), (dict(zip(leaves, grads, strict=True)), (value, aux)))

        return run


def _without_axis(value: Tensor) -> Tensor:
    return value.squeeze(0)


def _with_axis(value: Tensor) -> Tensor:
    return value.unsqueeze(0)


def _map(f: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Nested tuples and dicts with f applied to every tensor."""
    if isinstance(value, Tensor):
        return f(value)
    if isinstance(value, dict):
        return {k: _map(f, v) for k, v in value.items()}
    if isinstance(value, tuple):
        items = [_map(f, v) for v in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return value
