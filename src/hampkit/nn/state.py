"""The state of a `HampModel`: what a stored one must be, and what a refused one leaves as it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from hampkit.nn.arguments import wrong_secret
from hampkit.nn.noise import wrong_bounds

BOUNDS = ("low", "high", "step")  # of a domain


@dataclass(frozen=True)
class Expected:
    """What a state must hold: a secret, bounds (*shape), a bank of answers (size, classes), the weights of a network."""

    keyed: bool
    bounds: torch.Size | None  # shape; None: not fitted
    size: int  # 0: no bank
    classes: int | None  # None: the network has not answered yet
    weights: bool
    strict: bool

    def misfit(self, state: Mapping[str, Any]) -> str:
        """Why a state, with names as in the module, is not that of such a release, and what to do; empty if it is."""
        if not state:
            return ""
        if self.weights and not any(key.startswith("model.") for key in state):
            return "the state is that of a network without a release: load it into the network, HampModel(…).model"
        return self._other_options(state) or self._wrong_size(state.get("bank")) or self._malformed(state)

    def _other_options(self, state: Mapping[str, Any]) -> str:
        own = {"secret": self.keyed, "noise_low": self.bounds is not None}
        for name, option in (("secret", "keyed=True"), ("noise_low", "noise='fit'")):
            lacks = state.get(name) is None
            if lacks == own[name] and (self.strict or not lacks):
                have, lack = ("HampModel", "state") if lacks else ("state", "HampModel")
                return f"the {have} was made with {option}, and the {lack} without; make both alike, or they answer differently"
        return ""

    def _wrong_size(self, bank: Any) -> str:
        if bank is not None and (not isinstance(bank, Tensor) or bank.ndim != 2 or not bank.is_floating_point()):
            kind = f"{bank.dtype} {tuple(bank.shape)}" if isinstance(bank, Tensor) else type(bank).__name__
            return f"the state's bank of type {kind} must be logits (K, C); load the state of a HampModel"
        size = 0 if bank is None else len(bank)
        if size != self.size and (size or (self.strict and self.keyed)):
            return f"the state has a bank of {size} answers, and the HampModel has bank={self.size}; give bank={size}"
        return ""

    def _malformed(self, state: Mapping[str, Any]) -> str:
        secret, bank = state.get("secret"), state.get("bank")
        if secret is not None and (wrong := wrong_secret(secret)):
            return f"the state's {wrong}"
        if bank is not None and (wrong := wrong_width(bank, self.classes)):
            return wrong
        if bank is not None and bank.isnan().any():
            return "the state's bank has answers that are NaN: load a state saved in a type that holds the network's logits"
        return self._wrong_bounds([state.get(f"noise_{name}") for name in BOUNDS])

    def _wrong_bounds(self, bounds: list[Any]) -> str:
        if self.bounds is None or all(bound is None for bound in bounds):
            return ""
        if wrong := wrong_bounds(*bounds):
            return f"the state's noise_low, noise_high and noise_step are not those of noise='fit': {wrong}"
        if bounds[0].shape != self.bounds:
            shapes = tuple(bounds[0].shape), tuple(self.bounds)
            return f"the state's noise is of inputs {shapes[0]}, and the HampModel's of {shapes[1]}; give data= of such inputs"
        return ""


def wrong_width(bank: Tensor, classes: int | None) -> str:
    """Why a bank (K, C) is not of the network's number of classes; empty if it is, or if that number is not known yet."""
    if classes is None or bank.shape[1] == classes:
        return ""
    return (
        f"the bank {tuple(bank.shape)} has answers of {bank.shape[1]} classes, and the network has {classes}: load a state that"
        " was saved with this network, or make a new HampModel"
    )


def wide(bound: Tensor) -> Tensor:
    """A bound in float64 if it has that type, else in float32."""
    return bound if bound.dtype == torch.float64 else bound.float()


def mark_of(network: nn.Module) -> tuple[tuple[int, int], ...]:
    """A mark that changes with the weights: which tensors they are, and how often each was written to.

    Not their values, which would have to be read at every query. Changes through ``parameter.data`` leave no mark, and neither
    do changes of type and device.
    """
    found = (p for module in network.modules() for p in module._parameters.values() if p is not None)
    return tuple((id(p), 0 if p.is_inference() else p._version) for p in found)


class Snapshot:
    """The parameters and buffers of a module, to restore after a failure. The copies are on the CPU."""

    def __init__(self, module: nn.Module) -> None:
        self._places = [(m, dict(m._parameters), dict(m._buffers)) for m in module.modules()]
        tensors = {id(t): t for _, *named in self._places for part in named for t in part.values() if t is not None}
        self._copies = [(t, t.detach().to("cpu", copy=True)) for t in tensors.values() if not (is_lazy(t) or t.is_meta)]

    def restore(self) -> None:
        """Put back the tensors and their values."""
        for module, parameters, buffers in self._places:
            module._parameters.clear()
            module._parameters.update(parameters)
            module._buffers.clear()
            module._buffers.update(buffers)
        for tensor, copy in self._copies:
            with torch.inference_mode(tensor.is_inference()), torch.no_grad():
                tensor.copy_(copy)
